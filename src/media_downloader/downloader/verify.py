"""Looks at what came out before it may be published: is it whole, is it what it says, how long does it play?"""

import hashlib
import mimetypes
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from media_downloader.downloader.containers import whitelist
from media_downloader.downloader.pins import Source
from media_downloader.downloader.problems import Incomplete

#: A file may play this much shorter or longer than announced: sites round, and audio and video end apart.
DURATION_SLACK = 0.02
DURATION_SLACK_SECONDS = 2.0
#: Reading a whole file takes as long as the disk takes; more than this for a gigabyte is a sick disk.
CHECK_SECONDS_PER_GIGABYTE = 120.0

#: What ffmpeg says of a file that is torn, in any container. Harmless remarks on timestamps are not among it.
_TORN = re.compile(
    r"moov atom not found|partial file|truncat|invalid data found|end of file|error opening input|"
    r"file ended prematurely|error reading header|packet corrupt|ebml header parsing failed|"
    r"unexpected eof|input/output error",
    re.IGNORECASE,
)
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)(?:, start: (\d+\.\d+))?")
_FORMAT = re.compile(r"Input #0, ([a-z0-9_,]+), from")
_VIDEO = re.compile(r"Stream #0:\d+.*: Video: (?!.*attached pic)")

#: Media type by ffmpeg's name for the container: with video, audio only.
_CONTAINERS: dict[str, tuple[str, str]] = {
    "mov": ("video/mp4", "audio/mp4"),
    "matroska": ("video/x-matroska", "audio/x-matroska"),
    "webm": ("video/webm", "audio/webm"),
    "mpegts": ("video/mp2t", "video/mp2t"),
    "ogg": ("video/ogg", "audio/ogg"),
    "mp3": ("audio/mpeg", "audio/mpeg"),
    "flac": ("audio/flac", "audio/flac"),
    "wav": ("audio/wav", "audio/wav"),
    "aac": ("audio/aac", "audio/aac"),
    "avi": ("video/x-msvideo", "video/x-msvideo"),
    "flv": ("video/x-flv", "video/x-flv"),
}
#: Extensions under which a transport stream must not hide.
_MP4_EXTENSIONS = {"mp4", "m4a", "m4v", "mov"}


@dataclass(frozen=True)
class Content:
    """What a file turned out to be."""

    type: str
    duration_seconds: float | None = None


@dataclass(frozen=True)
class Lengths:
    """Seconds that a file should play, None where nobody knows."""

    least: float | None = None
    most: float | None = None


ANY_LENGTH = Lengths()


def check_sources(folder: Path, sources: dict[str, Source]) -> None:
    """Compare every source that was kept with its pin. Raises ``Incomplete``."""
    for name, source in sources.items():
        path = folder / name
        if not path.is_file():
            raise Incomplete(f"The download of format {source.format_id} left no file.")
        size = path.stat().st_size
        if size == 0:
            raise Incomplete("The file that came in is empty.")
        # The count of fragments was checked against their files when the source was made of them.
        announced = source.total_bytes if source.fragment_count is None else source.assembled_bytes
        if size != announced and (announced is not None or source.fragment_count is not None):
            raise Incomplete(f"{size} bytes came in, {announced or 'more fragments'} were announced.")


def check_media(path: Path, ffmpeg: str | None, lengths: Lengths = ANY_LENGTH) -> Content:
    """Read a media file from end to end without decoding it. Raises ``Incomplete``.

    Without ffmpeg the type is guessed from the name, and nothing more can be said.
    """
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.stat().st_size == 0:
        raise Incomplete("The file is empty.")
    if ffmpeg is None or not guessed.startswith(("video/", "audio/")):
        return Content(guessed)
    limit = 60 + path.stat().st_size / 1e9 * CHECK_SECONDS_PER_GIGABYTE
    base = [ffmpeg, "-hide_banner", "-nostdin", "-protocol_whitelist", "file,pipe", *whitelist()]
    source = ["-i", f"file:{path}"]
    whole = ["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "null", "-"]
    reading = _run([*base, "-v", "error", *source, *whole], limit)
    errors = reading.stderr.decode("utf-8", "replace")
    torn = _TORN.search(errors)
    if reading.returncode != 0 or torn:
        raise Incomplete(f"The file cannot be read to its end: {_line_of(errors, torn)}")
    # A title may say anything, so what describes the file is read apart from what is wrong with it.
    told = _run([*base, *source], limit).stderr.decode("utf-8", "replace")
    found = _FORMAT.search(told)
    container = found.group(1).split(",") if found else []
    if "mpegts" in container and path.suffix.lstrip(".").lower() in _MP4_EXTENSIONS:
        raise Incomplete("The file is an MPEG transport stream under another name.")
    duration = _seconds(told)
    _check_length(told, lengths)
    return Content(_type_of(container, path, guessed, has_video=bool(_VIDEO.search(told))), duration)


def _run(command: list[str], limit_seconds: float) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        raise Incomplete("The file could not be read in time.") from None


def _type_of(container: Sequence[str], path: Path, guessed: str, *, has_video: bool) -> str:
    if "matroska" in container and path.suffix.lower() == ".webm":
        container = ["webm"]
    for name in container:
        if name in _CONTAINERS:
            return _CONTAINERS[name][0 if has_video else 1]
    return guessed


def _seconds(told: str) -> float | None:
    match = _DURATION.search(told)
    if match is None:
        return None
    hours, minutes, seconds, _ = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _check_length(told: str, lengths: Lengths) -> None:
    duration = _seconds(told)
    if duration is None:
        return
    if lengths.least and duration < lengths.least - _slack(lengths.least):
        raise Incomplete(f"The file plays {duration:.1f} seconds, {lengths.least:.1f} were announced.")
    match = _DURATION.search(told)
    # Some containers count from a clock that did not begin at zero.
    began = float(match[4]) if match and match[4] else 0.0
    if lengths.most and duration - began > lengths.most + _slack(lengths.most):
        raise Incomplete(f"The file plays {duration - began:.1f} seconds, at most {lengths.most:.1f} were announced.")


def _slack(seconds: float) -> float:
    return max(DURATION_SLACK_SECONDS, seconds * DURATION_SLACK)


def _line_of(told: str, torn: re.Match[str] | None) -> str:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    if torn is not None:
        lines = [line for line in lines if torn.group() in line] or lines
    return lines[-1][:200] if lines else "ffmpeg failed without a word"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
