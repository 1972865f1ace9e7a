"""Gives verified files their final names: atomically, never over another file, once however often it is repeated."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from uuid import uuid4

from media_downloader.errors import DiskFull, PathEscapesLibrary
from media_downloader.library.files import folder_descriptor
from media_downloader.library.identity import FileIdentity, facts_at
from media_downloader.library.intent import Entry, Intent, facts_below, opened, undo
from media_downloader.library.names import file_names
from media_downloader.library.placing import At, Hooks, copy, drop_placeholder, is_placeholder, place

#: More files of one title in one folder than anybody has.
MAX_NUMBER = 100_000


@dataclass(frozen=True)
class SourceFile:
    """A verified file in the work folder that is to be published."""

    #: Path below the work folder.
    path: str
    extension: str
    #: Between name and extension, for files that go with the media ("en" for subtitles).
    label: str | None = None


@dataclass(frozen=True)
class PublishPlan:
    """What is to be published under one name."""

    files: tuple[SourceFile, ...]
    #: What the template gave; made safe here.
    name: str
    folder: PurePosixPath


class Publisher:
    """Moves files of one work folder into the downloads folder.

    What is to be done is noted in the work folder before the first name is taken, with what tells each file from any
    other. A publish that was cut off anywhere goes on from there and never makes a second copy. Taking a name fails
    when anything has it, so two jobs with one title, in one process or in many, end as two files. Across filesystems
    a hidden copy beside the name is made and proven first.
    """

    def __init__(self, root: Path, workdir: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self._root = root
        self._workdir = workdir
        #: Called before each step on disk; tests cut the publish off here.
        self._step = step

    def publish(self, plan: PublishPlan) -> list[str]:
        """Return the names below the downloads folder, one for each file of the plan; all of it is on the disk then.

        Raises ``DiskFull``, ``PathEscapesLibrary`` and ``OSError``.
        """
        try:
            self._make_folder(plan.folder)
            return self._publish(plan)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull("There is no room to publish the file.") from None
            raise

    def _publish(self, plan: PublishPlan) -> list[str]:
        begun = Intent.read(self._workdir)
        if begun is not None:
            if self._is_of(begun, plan) and self._take_all(begun):
                return begun.names
            undo(self._root, self._workdir, restore=True)
        identities = [self._identify(source.path) for source in plan.files]
        tails = [(source.label, source.extension) for source in plan.files]
        for number in range(1, MAX_NUMBER):
            names = [str(plan.folder / name) for name in file_names(plan.name, number, tails)]
            if any(facts_below(self._root, name) is not None for name in names):
                continue
            entries = (
                Entry(source.path, name, identity, f".mdpart_{uuid4().hex}")
                for source, name, identity in zip(plan.files, names, identities, strict=True)
            )
            intent = Intent(tuple(entries))
            self._step("intent")
            intent.write(self._workdir)
            if self._take_all(intent):
                return names
            undo(self._root, self._workdir, restore=True)
        raise DiskFull("There are too many files of this name.")

    def _is_of(self, begun: Intent, plan: PublishPlan) -> bool:
        """Say whether what was begun is this plan, with these very files: they may have been made anew since."""
        if [entry.source for entry in begun.entries] != [source.path for source in plan.files]:
            return False
        if any(PurePosixPath(name).parent != plan.folder for name in begun.names):
            return False
        now = ((entry, facts_below(self._workdir, entry.source)) for entry in begun.entries)
        return all(facts is None or entry.identity.is_of(facts) for entry, facts in now)

    def _identify(self, path: str) -> FileIdentity:
        """Make a file durable, and return what tells it from any other. Raises ``PathEscapesLibrary`` for a link."""
        with opened(self._workdir, path) as at:
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(at.name, flags, dir_fd=at.folder)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise PathEscapesLibrary("What was made is a link.") from None
                raise
            try:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    raise PathEscapesLibrary("What was made is no regular file.")
                os.fsync(descriptor)
                return FileIdentity.of(facts)
            finally:
                os.close(descriptor)

    def _take_all(self, intent: Intent) -> bool:
        """Take every name; False when one belongs to somebody else, and then what was taken is to be undone."""
        for number in range(len(intent.entries)):
            taken, intent = self._take(intent, intent.entries[number])
            if not taken:
                return False
        self._step("sync")
        for root, name in [(self._root, name) for name in intent.names] + [
            (self._workdir, entry.source) for entry in intent.entries
        ]:
            with opened(root, name) as at:
                os.fsync(at.folder)
        return True

    def _take(self, intent: Intent, entry: Entry) -> tuple[bool, Intent]:
        with opened(self._workdir, entry.source) as source, opened(self._root, entry.name) as target:
            facts = facts_at(target.name, target.folder)
            if entry.is_at(facts):
                self._drop_part(entry, target)
                return True, intent
            if facts is not None:
                if not (intent.placeholders and is_placeholder(facts)):
                    return False, intent
                drop_placeholder(target)
            try:
                return place(source, target, self._hooks(intent)), intent
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            return self._take_copy(intent, entry, source, target)

    def _take_copy(self, intent: Intent, entry: Entry, source: At, target: At) -> tuple[bool, Intent]:
        """Publish on another filesystem than the work folder's."""
        part = At(target.folder, entry.part)
        try:
            self._step("copy")
            entry = replace(entry, copy=FileIdentity.of(copy(source, part)))
            intent = intent.with_entry(entry)
            self._step("copied")
            intent.write(self._workdir)
            taken = place(part, target, self._hooks(intent))
        except OSError:
            # Half a copy would keep a full disk full.
            self._drop_part(entry, target)
            raise
        self._drop_part(entry, target)
        return taken, intent

    def _hooks(self, intent: Intent) -> Hooks:
        def note() -> None:
            if not intent.placeholders:
                replace(intent, placeholders=True).write(self._workdir)

        return Hooks(self._step, note)

    @staticmethod
    def _drop_part(entry: Entry, target: At) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry.part, dir_fd=target.folder)

    def _make_folder(self, folder: PurePosixPath) -> None:
        """Make the folder durably; a link on the way is refused, wherever it leads."""
        made: tuple[str, ...] = ()
        for part in folder.parts:
            with folder_descriptor(self._root, made) as parent, contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
                os.fsync(parent)
            made = (*made, part)
        with folder_descriptor(self._root, made):
            pass
