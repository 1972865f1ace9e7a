"""The programs that downloads use: which are here, what is missing without them, and how to get them."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from media_downloader.settings import Settings


@dataclass(frozen=True)
class Tool:
    """One program, found or not."""

    name: str
    path: str | None
    #: Whether downloads suffer without it, so that the server counts as degraded.
    needed: bool
    #: What does not work without it, and how to get it; None when it is here.
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what ``/health`` tells: no path of the machine, only whether and why not."""
        return {"available": self.path is not None, "problem": self.problem}


class Tools:
    """Looks for each program once, at start."""

    def __init__(self, settings: Settings) -> None:
        self.ffmpeg = _find_ffmpeg(settings.ffmpeg)
        self.ffprobe = _find_ffprobe(self.ffmpeg.path)
        self.js_runtime = _find_deno()

    def all(self) -> Sequence[Tool]:
        """Return every tool, found or not."""
        return (self.ffmpeg, self.ffprobe, self.js_runtime)


def _find_ffmpeg(chosen: str | None) -> Tool:
    """Take the operator's choice, the system's, or the one of the imageio-ffmpeg wheel, in this order."""
    if chosen is not None:
        path = shutil.which(chosen)
        problem = None if path else f"MEDIA_DOWNLOADER_FFMPEG names {chosen}, which is no program."
        return Tool("ffmpeg", path, needed=True, problem=problem)
    path = shutil.which("ffmpeg") or _bundled_ffmpeg()
    problem = None
    if path is None:
        problem = (
            "ffmpeg is missing: formats cannot be merged, converted or verified. Install it with your system's "
            "package manager (apt install ffmpeg), or: pip install imageio-ffmpeg"
        )
    return Tool("ffmpeg", path, needed=True, problem=problem)


def _bundled_ffmpeg() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    try:
        found: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        # The wheel for this platform carries no program.
        return None
    return found


def _find_ffprobe(ffmpeg: str | None) -> Tool:
    """ffprobe only counts when it is next to the ffmpeg in use or on the PATH: yt-dlp looks there."""
    path = shutil.which("ffprobe")
    if path is None and ffmpeg is not None:
        beside = Path(ffmpeg).with_name("ffprobe")
        path = str(beside) if beside.is_file() else None
    problem = None
    if path is None:
        problem = (
            "ffprobe is missing: cutting chapters and sponsors, joining files and embedding thumbnails in Matroska "
            "are off. It comes with your system's ffmpeg package (apt install ffmpeg)."
        )
    return Tool("ffprobe", path, needed=False, problem=problem)


def _find_deno() -> Tool:
    """yt-dlp looks beside the interpreter first, so the deno wheel is found without any PATH."""
    beside = Path(sys.executable).with_name("deno")
    path = str(beside) if beside.is_file() else shutil.which("deno")
    problem = None
    if path is None:
        problem = "No JavaScript runtime: YouTube will offer few formats or none. Install one with: pip install deno"
    return Tool("js_runtime", path, needed=False, problem=problem)
