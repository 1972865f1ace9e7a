"""Live recordings: what was recorded before an interruption is set aside, and becomes files beside the last one.

A live stream cannot be asked for what it sent an hour ago. A recorder that is started again writes from the present
on, so what the last one left must be out of its way first.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from media_downloader.downloader.pins import Pins, sync_folder
from media_downloader.downloader.resume import Folders

#: Fewer bytes than this hold no picture.
MIN_PIECE_BYTES = 4096
REMUX_SECONDS = 600.0


def set_aside(folders: Folders, pins: Pins) -> None:
    """Move what an interrupted recording left to a place that no later start touches; call it before ``prepare``."""
    for name, source in pins.sources.items():
        if not source.live:
            continue
        for left in (folders.keep / name, folders.work / name, folders.work / f"{name}.part"):
            if left.is_file() and left.stat().st_size >= MIN_PIECE_BYTES:
                _keep_piece(folders, left, source.ext)
                break


def _keep_piece(folders: Folders, left: Path, ext: str) -> None:
    folders.recorded.mkdir(mode=0o700, exist_ok=True)
    with left.open("rb") as file:
        os.fsync(file.fileno())
    left.replace(folders.recorded / f"{len(pieces(folders)) + 1:03d}.{ext}")
    sync_folder(folders.recorded)


def pieces(folders: Folders) -> Sequence[Path]:
    """Return what was set aside, oldest first."""
    return sorted(folders.recorded.iterdir()) if folders.recorded.is_dir() else []


def playable(piece: Path, work: Path, ffmpeg: str | None) -> Path:
    """Return the piece as a file that players take: the stream as it came, in the container that its name promises.

    A piece that ffmpeg cannot put into it stays as it is, under the extension of a transport stream.
    """
    raw = work / f"recorded-{piece.stem}.ts"
    made = raw.with_suffix(piece.suffix)
    if ffmpeg is not None and made != raw:
        base = [ffmpeg, "-hide_banner", "-nostdin", "-y", "-v", "error", "-protocol_whitelist", "file,pipe"]
        command = [*base, "-i", f"file:{piece}", "-map", "0:v?", "-map", "0:a?", "-c", "copy", f"file:{made}"]
        run = subprocess.run(command, capture_output=True, check=False, timeout=REMUX_SECONDS)
        if run.returncode == 0 and made.is_file() and made.stat().st_size > 0:
            return made
        made.unlink(missing_ok=True)
    raw.unlink(missing_ok=True)
    os.link(piece, raw)
    return raw


def interrupt_recorder() -> None:
    """Tell yt-dlp to finish a live recording: an interrupt ends it in order (yt_dlp/downloader/external.py)."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
