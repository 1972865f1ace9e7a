"""What yt-dlp's info says of the media, as people are told of it."""

from collections.abc import Mapping
from typing import Any

from yt_dlp import YoutubeDL

from media_downloader.downloader.pins import chosen_formats
from media_downloader.downloader.playlist_task import text_of
from media_downloader.downloader.protocol import Spec
from media_downloader.jobs.model import Media
from media_downloader.netguard import redact_url


def media_of(info: Mapping[str, Any]) -> Media:
    """Return what people are told of the media; no link in it carries a secret."""
    chosen = chosen_formats(info)
    height = info.get("height")
    note = [f"{info.get('width') or '?'}x{height}"] if height else []
    duration, thumbnail = info.get("duration"), info.get("thumbnail")
    return Media(
        id=text_of(info.get("id")),
        title=title_of(info),
        uploader=text_of(info.get("uploader") or info.get("channel")),
        duration_seconds=float(duration) if isinstance(duration, int | float) else None,
        thumbnail=redact_url(str(thumbnail)) if thumbnail else None,
        site=text_of(info.get("extractor_key")),
        webpage_url=redact_url(str(info["webpage_url"])) if info.get("webpage_url") else None,
        is_live=bool(info.get("is_live")),
        format="+".join(str(found.get("format_id")) for found in chosen) if info.get("format_id") else None,
        format_note=" ".join([*note, str(info.get("ext") or "")]).strip() or None,
    )


def title_of(info: Mapping[str, Any]) -> str | None:
    """Return the title; of a page's only video yt-dlp says "Title (1)", which it is not."""
    title = text_of(info.get("title"))
    if title is not None and info.get("extractor_key") == "HTML5MediaEmbed":
        return title.removesuffix(" (1)")
    return title


def only_entry(ydl: YoutubeDL, info: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """Return the one video of a page that yt-dlp takes for a playlist of one; a real playlist as it is."""
    if info.get("_type") not in {"playlist", "multi_video"} or spec.options.playlist:
        return info
    if info.get("extractor_key") != "Generic":
        return info
    entries = [entry for entry in info.get("entries") or [] if entry]
    if len(entries) != 1:
        return {**info, "entries": entries}
    entry = entries[0]
    if entry.get("_type", "video") == "video":
        return {"title": info.get("title"), **entry}
    resolved: dict[str, Any] = ydl.process_ie_result({**entry, "_type": "url"}, download=False)
    return resolved
