"""Opening published files without following a link out of the folder, and telling browsers what they are."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from media_downloader.errors import FileMissing, PathEscapesLibrary

#: Files of the folder that are named when one is missing.
NAMED_FILES = 50

#: Media types that a browser may show; everything else is saved. None of them can run anything.
INLINE_TYPES = frozenset(
    {
        "video/mp4",
        "video/webm",
        "video/ogg",
        "video/x-matroska",
        "video/quicktime",
        "audio/mpeg",
        "audio/mp4",
        "audio/ogg",
        "audio/opus",
        "audio/webm",
        "audio/flac",
        "audio/wav",
        "audio/aac",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/vtt",
    }
)


@dataclass(frozen=True)
class OpenFile:
    """An open published file; whoever asked for it closes ``descriptor``."""

    descriptor: int
    name: str
    size_bytes: int
    #: Modification time in nanoseconds, and the inode: what a strong ETag is made of.
    modified_ns: int
    inode: int


def inline_type(media_type: str) -> bool:
    """Say whether a browser may show a file of this type in place of saving it."""
    return media_type in INLINE_TYPES


def content_disposition(name: str, *, inline: bool) -> str:
    """Return the header's value for a file name, with the UTF-8 form of RFC 8187 and an ASCII one for the old."""
    kind = "inline" if inline else "attachment"
    base = PurePosixPath(name).name
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\%' else "_" for char in base)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(base, safe='')}"


@contextmanager
def folder_descriptor(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Open a folder below ``root`` one component at a time, following no link.

    Raises ``FileNotFoundError`` and ``PathEscapesLibrary``.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                    raise PathEscapesLibrary("The path leads through something that is no folder.") from None
                raise
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def checked_parts(name: str) -> tuple[str, ...]:
    """Return the components of a published file's name. Raises ``PathEscapesLibrary``."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or any(part in {"..", "."} or "\0" in part for part in path.parts):
        raise PathEscapesLibrary("The path leads out of the downloads folder.")
    return path.parts


def open_published(root: Path, name: str) -> OpenFile:
    """Open a published file. Raises ``FileMissing`` with what is in its folder, and ``PathEscapesLibrary``."""
    *folders, base = checked_parts(name)
    try:
        with folder_descriptor(root, tuple(folders)) as folder:
            try:
                descriptor = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                raise FileMissing(
                    "The file is no longer in its folder.", file=name, folder_files=_visible(folder)
                ) from None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise PathEscapesLibrary("The file is a link.") from None
                raise
    except FileNotFoundError:
        raise FileMissing("The file's folder is gone.", file=name, folder_files=[]) from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise PathEscapesLibrary("This is no regular file.")
    return OpenFile(descriptor, name, facts.st_size, facts.st_mtime_ns, facts.st_ino)


def missing(root: Path, name: str, why: str) -> FileMissing:
    """Return the error for a file that is not there any more, with what is in its folder."""
    *folders, _ = checked_parts(name)
    with folder_descriptor(root, tuple(folders)) as folder:
        return FileMissing(why, file=name, folder_files=_visible(folder))


def _visible(folder: int) -> list[str]:
    found = [name for name in os.listdir(folder) if not name.startswith((".", "mdjob_", "md_"))]
    return [name.encode("utf-8", "replace").decode() for name in sorted(found)[:NAMED_FILES]]
