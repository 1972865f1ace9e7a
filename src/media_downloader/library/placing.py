"""Gives a file a name that nobody has, by the best of three ways that the filesystem knows."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from media_downloader.library import kernel
from media_downloader.library.identity import facts_at

#: What a filesystem says that does not know a way: FAT and FUSE of links, NFS of flags, old kernels of the call.
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class At:
    """A name in an open folder: whoever swaps a folder for a link on the way changes nothing."""

    folder: int
    name: str


@dataclass(frozen=True)
class Hooks:
    """What a move tells while it goes on."""

    #: Called before each step on disk; tests cut the publish off here.
    step: Callable[[str], None]
    #: Called before an empty file takes the name, so that after a cut it is known as ours.
    before_placeholder: Callable[[], None]


def place(source: At, target: At, hooks: Hooks) -> bool:
    """Give the file its name; False when somebody has it. The source may keep its own name too.

    Raises ``OSError``: with EXDEV when the two folders are on different filesystems.
    """
    for way in (_by_rename, _by_link):
        try:
            hooks.step(way.__name__)
            way(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        else:
            hooks.step("placed")
            return True
    return _by_placeholder(source, target, hooks)


def _by_rename(source: At, target: At) -> None:
    kernel.rename_without_replacing(source.name, target.name, source.folder, target.folder)


def _by_link(source: At, target: At) -> None:
    os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder, follow_symlinks=False)


def _by_placeholder(source: At, target: At, hooks: Hooks) -> bool:
    """An empty file takes the name, and the rename replaces that: where there is nothing better, as in old FUSE."""
    hooks.before_placeholder()
    hooks.step("placeholder")
    try:
        descriptor = os.open(
            target.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=target.folder
        )
    except FileExistsError:
        return False
    os.close(descriptor)
    hooks.step("replace")
    try:
        os.rename(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
    except OSError:
        drop_placeholder(target)
        raise
    hooks.step("placed")
    return True


def is_placeholder(facts: os.stat_result) -> bool:
    """Say whether this may be an empty file that only holds a name."""
    return stat.S_ISREG(facts.st_mode) and facts.st_size == 0


def drop_placeholder(target: At) -> None:
    """Remove an empty file that only held a name."""
    facts = facts_at(target.name, target.folder)
    if facts is not None and is_placeholder(facts):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target.name, dir_fd=target.folder)


def copy(source: At, part: At) -> os.stat_result:
    """Copy a file to another filesystem, durably, and prove the copy by reading it back. Raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part.name, dir_fd=part.folder)
    read = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source.folder)
    with os.fdopen(read, "rb") as original:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(part.name, flags, 0o644, dir_fd=part.folder), "w+b") as made:
            digest = hashlib.sha256()
            while chunk := original.read(_CHUNK):
                digest.update(chunk)
                made.write(chunk)
            made.flush()
            facts = os.fstat(original.fileno())
            with contextlib.suppress(OSError):
                # Some filesystems have no times to set; what they have is noted afterwards.
                os.utime(made.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
            os.fsync(made.fileno())
            # From the disk, not from memory.
            os.posix_fadvise(made.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            made.seek(0)
            if hashlib.file_digest(made, "sha256").digest() != digest.digest():
                raise OSError(errno.EIO, "the copy is not what was copied")
            return os.fstat(made.fileno())
