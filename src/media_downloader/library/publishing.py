"""Gives verified files their final names: atomically, never over another file, once however often it is repeated."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from media_downloader.errors import DiskFull, PathEscapesLibrary
from media_downloader.library.durable import sync_file, sync_folder, write_atomically
from media_downloader.library.files import folder_descriptor
from media_downloader.library.names import safe_extension, safe_name

INTENT_NAME = "publish.json"
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

    The names that were chosen are noted in the work folder before the first is taken, so that a publish that was cut
    off anywhere goes on with them and never makes a second copy. Taking a name is ``link(2)``, which fails when the
    name is taken, so two jobs with one title, in one process or in many, end as two files.
    """

    def __init__(self, root: Path, workdir: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self._root = root
        self._workdir = workdir
        #: Called before each step on disk; tests cut the publish off here.
        self._step = step

    def publish(self, plan: PublishPlan) -> list[str]:
        """Return the names below the downloads folder, one for each file of the plan.

        Raises ``DiskFull`` and ``PathEscapesLibrary``.
        """
        self._make_folder(plan.folder)
        try:
            return self._publish(plan)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull("There is no room to publish the file.") from None
            raise

    def _publish(self, plan: PublishPlan) -> list[str]:
        stem = safe_name(plan.name)
        start = 1
        chosen = self._recall()
        if chosen is not None:
            if self._take(plan, chosen):
                return chosen
            start = 2
        for number in range(start, MAX_NUMBER):
            names = self._names(plan, stem if number == 1 else f"{stem} ({number})")
            if any((self._root / name).exists() for name in names):
                continue
            self._step("intent")
            write_atomically(self._workdir / INTENT_NAME, json.dumps(names))
            if self._take(plan, names):
                return names
        raise DiskFull("There are too many files of this name.")

    def _recall(self) -> list[str] | None:
        try:
            names = json.loads((self._workdir / INTENT_NAME).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return [str(name) for name in names]

    @staticmethod
    def _names(plan: PublishPlan, stem: str) -> list[str]:
        names = []
        for source in plan.files:
            label = f".{safe_name(source.label)}" if source.label else ""
            names.append(str(plan.folder / f"{stem}{label}.{safe_extension(source.extension)}"))
        return names

    def _take(self, plan: PublishPlan, names: list[str]) -> bool:
        """Take every name, or none when one belongs to somebody else."""
        taken: list[str] = []
        for source, name in zip(plan.files, names, strict=True):
            if not self._take_one(self._workdir / source.path, name):
                for mine in taken:
                    (self._root / mine).unlink(missing_ok=True)
                return False
            taken.append(name)
        self._step("sync")
        for folder in {(self._root / name).parent for name in names}:
            sync_folder(folder)
        return True

    def _take_one(self, source: Path, name: str) -> bool:
        target = self._root / name
        sync_file(source)
        self._step("link")
        try:
            # Links that follow nothing: the source is ours, the folder was opened without following any.
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            return target.is_file() and source.samefile(target)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            return self._copy(source, target)
        self._step("linked")
        return True

    def _copy(self, source: Path, target: Path) -> bool:
        """Publish where a link cannot be had: copy beside the name, sync, then rename without replacing."""
        part = target.with_name(f".{uuid4().hex}.part")
        try:
            self._step("copy")
            with source.open("rb") as read, part.open("xb") as write:
                shutil.copyfileobj(read, write, 1024 * 1024)
                write.flush()
                os.fsync(write.fileno())
            if part.stat().st_size != source.stat().st_size:
                raise OSError(errno.EIO, "the copy is shorter than its source")
            return _rename_without_replacing(part, target)
        finally:
            part.unlink(missing_ok=True)

    def _make_folder(self, folder: PurePosixPath) -> None:
        """Make the folder, and see that no link leads out of the downloads folder on the way."""
        made: tuple[str, ...] = ()
        for part in folder.parts:
            with folder_descriptor(self._root, made) as parent, contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
            made = (*made, part)
        with folder_descriptor(self._root, made):
            pass
        if not (self._root / folder).resolve().is_relative_to(self._root.resolve()):
            raise PathEscapesLibrary("The folder leads out of the downloads folder.")


def _rename_without_replacing(part: Path, target: Path) -> bool:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    os.close(descriptor)
    # The empty file held the name; the rename replaces our own.
    part.replace(target)
    return True
