"""Tells one file from another one that has, or had, the same name."""

import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

#: Filesystems that make up inode numbers anew: after a mount, or whenever they have forgotten the file.
_MADE_UP = ("vfat", "msdos", "exfat", "ntfs", "cifs", "smb", "fuse", "9p")


@dataclass(frozen=True)
class FileIdentity:
    """What stays the same as long as a file is only renamed, and changes when it is written or replaced."""

    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Self:
        """Take the identity from what ``stat`` told."""
        return cls(facts.st_ino, facts.st_size, facts.st_mtime_ns)

    @classmethod
    def read(cls, told: Any) -> Self | None:
        """Return what was noted; None when it is no identity."""
        try:
            return cls(int(told["inode"]), int(told["size_bytes"]), int(told["modified_ns"]))
        except (KeyError, TypeError, ValueError):
            return None

    def is_of(self, facts: os.stat_result | None) -> bool:
        """Say whether this is the very file, unchanged. Where inodes mean nothing, size and time must do."""
        if facts is None or not stat.S_ISREG(facts.st_mode):
            return False
        same = (facts.st_size, facts.st_mtime_ns) == (self.size_bytes, self.modified_ns)
        return same and (facts.st_ino == self.inode or not _inodes_last(facts.st_dev))


def facts_at(name: str, folder: int) -> os.stat_result | None:
    """Return what is at a name in an open folder, following no link; None when nothing is."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=64)
def _inodes_last(device: int) -> bool:
    """Say whether the device's files keep their inode numbers: proc(5), mountinfo."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    for line in lines:
        mount, _, filesystem = line.partition(" - ")
        if mount.split()[2] == wanted:
            return not filesystem.startswith(_MADE_UP)
    return True
