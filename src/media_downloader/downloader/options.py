"""From a job's options to yt-dlp's parameters: an allow-list, pure. What is not here cannot be set."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from media_downloader.downloader.protocol import Spec
from media_downloader.jobs.options import JobOptions, Preset

#: Names in the work folder are ours; the template of the user only names the published file.
STEM = "media"
DEFAULT_TEMPLATE = "%(title)s"

#: Reads are written in pieces of this size: bigger ones lose more at a kill, smaller ones cost speed (measured).
BUFFER_BYTES = 64 * 1024
#: Tries of one request before the attempt fails; the job's own retries, which people see, come after that.
RETRIES = 5


def _up_to(height: int) -> str:
    """Return the expression for the best that is at most so high; a video of unknown height is better than none."""
    exact = f"bestvideo[height<={height}]+bestaudio/best[height<={height}]"
    unknown = f"bestvideo*[height<=?{height}]+bestaudio/best[height<=?{height}]"
    return f"{exact}/{unknown}"


FORMATS: Mapping[Preset, str] = {
    Preset.BEST: "bestvideo*+bestaudio/best",
    Preset.P1080: _up_to(1080),
    Preset.P720: _up_to(720),
    Preset.P480: _up_to(480),
    Preset.AUDIO: "bestaudio/best",
    Preset.AUDIO_MP3: "bestaudio/best",
    Preset.AUDIO_M4A: "bestaudio[ext=m4a]/bestaudio/best",
}

#: What the audio of a preset is converted to; "best" keeps it as it is, out of a video container if need be.
AUDIO_CODECS: Mapping[Preset, str] = {Preset.AUDIO: "best", Preset.AUDIO_MP3: "mp3", Preset.AUDIO_M4A: "m4a"}

#: Protocols that the guards cover. RTMP, RTSP, MMS and the like use sockets that no proxy carries.
PROTOCOLS = frozenset(
    {
        "http",
        "https",
        "m3u8",
        "m3u8_native",
        "http_dash_segments",
        "http_dash_segments_generator",
        "ism",
        "f4m",
        "mhtml",
    }
)

#: What ffmpeg may open while it reads from the network: HTTP through the egress proxy, and what that is made of.
FFMPEG_PROTOCOLS = "http,https,httpproxy,tls,tcp,crypto,data"


def format_of(options: JobOptions) -> str:
    """Return the format expression: the user's own, or the preset's."""
    return options.format or FORMATS[options.preset]


def parameters(spec: Spec, *, pinned_format: str | None = None) -> dict[str, Any]:
    """Return yt-dlp's parameters for a job. ``pinned_format``: exactly these format ids and no others."""
    options = spec.options
    return {
        **_base(spec),
        "format": pinned_format or format_of(options),
        "outtmpl": {"default": f"{STEM}.%(ext)s"},
        "noplaylist": options.playlist is not True,
        "extract_flat": "in_playlist",
        "playlistend": spec.playlist_limit,
        "lazy_playlist": True,
        **_subtitles(options),
        "postprocessors": _postprocessors(options),
        # --- so that every kill can be resumed exactly (docs/decisions/0005)
        "continuedl": True,
        "nopart": False,
        "overwrites": None,
        "keep_fragments": True,
        "skip_unavailable_fragments": False,
        "buffersize": BUFFER_BYTES,
        "noresizebuffer": True,
        "fixup": "force",
        "updatetime": False,
        "concurrent_fragment_downloads": 1,
    }


def _base(spec: Spec) -> dict[str, Any]:
    return {
        "quiet": True,
        "no_warnings": False,
        "noprogress": True,
        "color": "never",
        "ignoreerrors": False,
        "socket_timeout": spec.socket_timeout_seconds,
        "retries": RETRIES,
        "fragment_retries": RETRIES,
        "extractor_retries": 3,
        "file_access_retries": 3,
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor", "file_access"), pause_of(spec)),
        "ffmpeg_location": spec.ffmpeg,
        "external_downloader_args": {"ffmpeg_i": ["-protocol_whitelist", FFMPEG_PROTOCOLS]},
        "hls_prefer_native": None,
        # --- nothing of this machine is read, nothing else is written
        "cachedir": False,
        "enable_file_urls": False,
        "usenetrc": False,
        "cookiefile": None,
        "cookiesfrombrowser": None,
        "allow_unplayable_formats": False,
        "check_formats": None,
        # Python's own connections go out directly, past any proxy of the environment: the guard judges each of them.
        "proxy": "",
    }


def pause(n: int, first_seconds: float = 0.25) -> float:
    """Wait a little longer before each further try of one request, in seconds; ``n`` is yt-dlp's name for it."""
    return float(first_seconds * min(2**n, 16))


def pause_of(spec: Spec) -> Callable[..., float]:
    """Return the same with the job's own first pause."""
    return partial(pause, first_seconds=spec.request_pause_seconds)


def _subtitles(options: JobOptions) -> dict[str, Any]:
    if not options.subtitles:
        return {}
    return {"writesubtitles": True, "writeautomaticsub": False, "subtitleslangs": list(options.subtitles)}


def _postprocessors(options: JobOptions) -> list[dict[str, Any]]:
    codec = AUDIO_CODECS.get(options.preset)
    if codec is None or options.format is not None:
        return []
    return [{"key": "FFmpegExtractAudio", "preferredcodec": codec, "preferredquality": "0", "nopostoverwrites": False}]
