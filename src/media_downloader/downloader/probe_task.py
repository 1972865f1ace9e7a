"""Answers questions without downloading: what is behind a link, and whether options can be used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yt_dlp import YoutubeDL

from media_downloader.downloader import options
from media_downloader.downloader.media_info import media_of
from media_downloader.downloader.playlist_task import entries_of
from media_downloader.downloader.problems import BadOptions
from media_downloader.downloader.protocol import Probed, Spec
from media_downloader.downloader.reticent import ReticentYoutubeDL
from media_downloader.downloader.voice import Voice, YtdlpLogger
from media_downloader.netguard import redact_url

#: What a template is tried on.
SAMPLE: Mapping[str, Any] = {
    "id": "sample",
    "title": "Sample",
    "ext": "mp4",
    "uploader": "Somebody",
    "duration": 60,
    "upload_date": "20200131",
    "extractor": "generic",
    "extractor_key": "Generic",
    "epoch": 1_580_000_000,
}


def probe(spec: Spec, voice: Voice) -> Probed:
    """Say what is behind the link."""
    parameters = options.parameters(spec) | {"logger": YtdlpLogger(voice), "ignore_no_formats_error": True}
    with ReticentYoutubeDL(parameters) as ydl:
        info = ydl.extract_info(spec.url, download=False) or {}
        if info.get("_type") in {"playlist", "multi_video"}:
            found = [entry.model_dump(mode="json") for entry in entries_of(info, spec.playlist_limit)]
            entries = [entry | {"url": redact_url(entry["url"])} for entry in found]
            return Probed(info={**_facts(info), "kind": "playlist", "entries": entries, "entry_count": len(entries)})
        return Probed(info={**_facts(info), "kind": "video", **_formats(info)})


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    media = media_of(info)
    return media.model_dump(
        mode="json",
        include={"id", "title", "uploader", "duration_seconds", "thumbnail", "site", "webpage_url", "is_live"},
    )


def _formats(info: Mapping[str, Any]) -> dict[str, Any]:
    subtitles = {
        str(language): sorted({str(track.get("ext")) for track in tracks or []})
        for language, tracks in (info.get("subtitles") or {}).items()
    }
    return {"formats": [_format(found) for found in info.get("formats") or []], "subtitles": subtitles}


def _format(found: Mapping[str, Any]) -> dict[str, Any]:
    def codec(name: str) -> str | None:
        value = found.get(name)
        return None if value in {None, "none"} else str(value)

    size = found.get("filesize") or found.get("filesize_approx")
    return {
        "id": str(found.get("format_id")),
        "container": found.get("ext"),
        "width": found.get("width"),
        "height": found.get("height"),
        "fps": found.get("fps"),
        "video_codec": codec("vcodec"),
        "audio_codec": codec("acodec"),
        "has_video": found.get("vcodec") != "none",
        "has_audio": found.get("acodec") != "none",
        "size_bytes": None if size is None else int(size),
        "size_is_estimate": found.get("filesize") is None,
        "bit_rate_kbps": found.get("tbr"),
        "protocol": found.get("protocol"),
        "language": found.get("language"),
        "note": found.get("format_note"),
    }


def check(spec: Spec) -> Probed:
    """Have yt-dlp read the format expression and the output template. Raises ``BadOptions``."""
    with YoutubeDL({"quiet": True, "cachedir": False, "outtmpl": {"default": "x"}}) as ydl:
        if spec.options.format is not None:
            _check_format(ydl, spec.options.format)
        if spec.options.output_template is not None:
            _check_template(ydl, spec.options.output_template)
    return Probed()


def _check_format(ydl: YoutubeDL, expression: str) -> None:
    try:
        ydl.build_format_selector(expression)
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError) as error:
        told = str(error).splitlines()[0] if str(error) else "it is not understood"
        raise BadOptions(f"The format expression cannot be used: {told}") from None
    if "," in expression:
        raise BadOptions("The format expression asks for several files; add a job for each of them.")


def _check_template(ydl: YoutubeDL, template: str) -> None:
    problem = YoutubeDL.validate_outtmpl(template)
    if problem is not None:
        raise BadOptions(f"The output template cannot be used: {problem}")
    try:
        name = ydl.evaluate_outtmpl(template, dict(SAMPLE))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise BadOptions(f"The output template cannot be used: {error}") from None
    if not name.strip(" ."):
        raise BadOptions("The output template gives an empty name.")
    if Path(name).is_absolute() or ("/" in template.replace("%(", "").split(")")[0] and name.startswith("/")):
        raise BadOptions("The output template must not be a path.")
