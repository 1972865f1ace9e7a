"""What a publish is about to do, on disk before it does it, and how what was begun is undone."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from media_downloader.errors import PathEscapesLibrary
from media_downloader.library.durable import write_atomically
from media_downloader.library.files import checked_parts, folder_descriptor
from media_downloader.library.identity import FileIdentity, facts_at
from media_downloader.library.placing import At, drop_placeholder, is_placeholder

INTENT_NAME = "publish.json"


@dataclass(frozen=True)
class Entry:
    """One file on its way from the work folder to its name."""

    #: Path below the work folder.
    source: str
    #: Path below the downloads folder.
    name: str
    identity: FileIdentity
    #: Hidden name beside the final one, for a copy from another filesystem.
    part: str
    #: The copy, once it is whole.
    copy: FileIdentity | None = None

    def is_at(self, facts: os.stat_result | None) -> bool:
        """Say whether a file is this one."""
        return self.identity.is_of(facts) or (self.copy is not None and self.copy.is_of(facts))


@dataclass(frozen=True)
class Intent:
    """Every name that one publish takes."""

    entries: tuple[Entry, ...]
    #: Whether an empty file at one of the names may be ours.
    placeholders: bool = False

    @property
    def names(self) -> list[str]:
        """The names below the downloads folder."""
        return [entry.name for entry in self.entries]

    def with_entry(self, changed: Entry) -> "Intent":
        """Return the same with one entry changed."""
        entries = tuple(changed if entry.name == changed.name else entry for entry in self.entries)
        return replace(self, entries=entries)

    def write(self, workdir: Path) -> None:
        """Note it durably."""
        write_atomically(workdir / INTENT_NAME, json.dumps(asdict(self)))

    @classmethod
    def read(cls, workdir: Path) -> "Intent | None":
        """Return what was noted; None when nothing was, or nothing that can be read."""
        try:
            told = json.loads((workdir / INTENT_NAME).read_text(encoding="utf-8"))
            entries = tuple(_entry(entry) for entry in told["entries"])
            return cls(entries, bool(told["placeholders"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _entry(told: dict[str, str]) -> Entry:
    identity = FileIdentity.read(told["identity"])
    if identity is None:
        raise ValueError("an entry without an identity")
    return Entry(str(told["source"]), str(told["name"]), identity, str(told["part"]), FileIdentity.read(told["copy"]))


@contextmanager
def opened(root: Path, name: str) -> Iterator[At]:
    """Open the folder of a name below ``root``, following no link. Raises ``OSError`` and ``PathEscapesLibrary``."""
    *folders, base = checked_parts(name)
    with folder_descriptor(root, tuple(folders)) as folder:
        yield At(folder, base)


def facts_below(root: Path, name: str) -> os.stat_result | None:
    """Return what is at a path below ``root``, following no link; None when nothing is, or not within ``root``."""
    try:
        with opened(root, name) as at:
            return facts_at(at.name, at.folder)
    except (OSError, PathEscapesLibrary):
        return None


def is_placed(root: Path, workdir: Path, source: str) -> bool:
    """Say whether a publish that was cut off has given this file its name already."""
    intent = Intent.read(workdir)
    entries = () if intent is None else intent.entries
    return any(entry.source == source and entry.is_at(facts_below(root, entry.name)) for entry in entries)


def undo(root: Path, workdir: Path, *, restore: bool) -> None:
    """Take back every name that was noted, and nothing that is not ours; ``restore`` brings moved files back."""
    intent = Intent.read(workdir) or Intent(())
    for entry in intent.entries:
        with contextlib.suppress(OSError, PathEscapesLibrary), opened(root, entry.name) as at:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.part, dir_fd=at.folder)
            facts = facts_at(at.name, at.folder)
            if facts is None or not stat.S_ISREG(facts.st_mode):
                continue
            if intent.placeholders and is_placeholder(facts):
                drop_placeholder(at)
            elif entry.is_at(facts):
                if restore and facts_below(workdir, entry.source) is None:
                    with opened(workdir, entry.source) as back:
                        os.rename(at.name, back.name, src_dir_fd=at.folder, dst_dir_fd=back.folder)
                else:
                    os.unlink(at.name, dir_fd=at.folder)
