"""Makes a job's work folder consistent before a start: what is left in it is known to be good, or gone."""

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from media_downloader.downloader.pins import PinFile, Source, sync_folder

#: Cut off a partial file after a power cut: what yt-dlp wrote last may never have reached the disk.
DISTRUSTED_BYTES = 1024 * 1024
#: Fragments younger than this are not trusted after a power cut.
DISTRUSTED_SECONDS = 60.0

_FRAGMENT = re.compile(r"^(?P<source>.+)\.part-Frag\d+$")


@dataclass(frozen=True)
class Folders:
    """The parts of a work folder."""

    root: Path

    @property
    def work(self) -> Path:
        """Where yt-dlp works."""
        return self.root / "work"

    @property
    def keep(self) -> Path:
        """Where completely downloaded sources are kept until the end."""
        return self.root / "keep"

    @property
    def recorded(self) -> Path:
        """Where pieces of an interrupted live recording are set aside."""
        return self.root / "recorded"

    @property
    def state(self) -> Path:
        """Where the info and the pins are."""
        return self.root / "state"

    def make(self) -> None:
        """Make what is not there."""
        for folder in (self.work, self.keep, self.state):
            folder.mkdir(mode=0o700, exist_ok=True)


def prepare(folders: Folders, pin_file: PinFile, *, distrust_tail: bool) -> int:
    """Bring the folder to a state from which a start is exact; return the bytes that need not come again.

    What is derived from sources is deleted and made again, sources that are complete come back from ``keep/``, partial
    ones lose what cannot be trusted. RELIABILITY of each case: tests/unit/downloader/test_resume.py.
    """
    folders.make()
    pins = pin_file.pins
    kept = {path.name for path in folders.keep.iterdir() if _is_sound(path, pins.sources.get(path.name))}
    for path in folders.keep.iterdir():
        if path.name not in kept:
            path.unlink()
    entries = list(folders.work.iterdir())
    fragmented = {name for name, source in pins.sources.items() if source.fragment_count is not None}
    whole = set(pins.sources) - fragmented
    newest = max((path.lstat().st_mtime for path in entries), default=time.time())
    for path in entries:
        match = _FRAGMENT.match(path.name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif match:
            young = path.stat().st_mtime > newest - DISTRUSTED_SECONDS
            # Of a list that nobody wrote down, nobody can say whether it is still the same.
            if match["source"] not in fragmented or (distrust_tail and young):
                path.unlink()
        elif path.suffix == ".part" and path.stem in whole - kept:
            # Of pinned media only: a piece of a subtitle could not be proven to be of the same file.
            _trim(path, DISTRUSTED_BYTES if distrust_tail else 1)
        elif path.name in whole - kept:
            # Complete, and killed before it could be kept: ask for its last byte again, which proves the rest.
            partial = path.with_name(path.name + ".part")
            path.replace(partial)
            _trim(partial, DISTRUSTED_BYTES if distrust_tail else 1)
        else:
            path.unlink()
    for name in kept:
        link_or_copy(folders.keep / name, folders.work / name)
    return present_bytes(folders)


def present_bytes(folders: Folders) -> int:
    """Return the bytes that need not come again; fragments of what is complete are the same bytes once more."""
    complete = {path.name for path in folders.keep.iterdir()}
    found = 0
    for path in folders.work.iterdir():
        match = _FRAGMENT.match(path.name)
        if match is None or match["source"] not in complete:
            found += path.lstat().st_size
    return found


def _is_sound(path: Path, source: Source | None) -> bool:
    if source is None or not path.is_file() or path.suffix == ".new":
        return False
    size = path.stat().st_size
    if source.fragment_count is not None:
        return size == source.assembled_bytes
    return source.total_bytes in {None, size}


def _trim(path: Path, count: int) -> None:
    """Drop the end of a partial file; a complete one would ask for a range that does not exist (HTTP 416)."""
    left = path.stat().st_size - count
    if left <= 0:
        path.unlink()
    else:
        os.truncate(path, left)


def keep(folders: Folders, name: str) -> None:
    """Keep a complete source: on the disk first, then under a second name that no postprocessor touches."""
    source = folders.work / name
    with source.open("rb") as file:
        os.fsync(file.fileno())
    link_or_copy(source, folders.keep / name)
    sync_folder(folders.keep)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; where the filesystem has no links, a copy that is whole or not there."""
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        part = target.with_name(target.name + ".new")
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)


def wipe(folders: Folders, pin_file: PinFile) -> None:
    """Start over: nothing that came in is used again."""
    for folder in (folders.work, folders.keep, folders.state):
        shutil.rmtree(folder, ignore_errors=True)
    folders.make()
    pin_file.forget()
