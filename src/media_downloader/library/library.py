"""The downloads folder: its work folders, its published files and their records."""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import structlog

from media_downloader.errors import ConfigurationError, OptionRejected, PathEscapesLibrary
from media_downloader.jobs.model import Job
from media_downloader.library.files import OpenFile, checked_parts, folder_descriptor, missing, open_published
from media_downloader.library.intent import undo
from media_downloader.library.leftovers import end_leftovers
from media_downloader.library.lock import FolderLock
from media_downloader.library.moving import refuse_while_moving
from media_downloader.library.names import check_template, safe_folder
from media_downloader.library.outbox import Outbox
from media_downloader.library.publishing import Publisher, PublishPlan
from media_downloader.library.records import Records
from media_downloader.library.verdicts import keep_verdict, read_verdict
from media_downloader.library.volume import VolumeMark
from media_downloader.library.workdirs import LOCAL_PREFIX, SHARED_PREFIX, Orphan, WorkFolders

log = structlog.get_logger(__name__)

#: Hidden folder of what the program keeps beside the files.
HIDDEN = ".media-downloader"
#: Hidden folder of the records; one JSON file for each job that published something.
RECORDS = f"{HIDDEN}/records"
#: Hidden folder of ``get``: its database and its work folders, so that it and a server never meet.
GET = f"{HIDDEN}/get"
#: Hidden folder of work folders that nobody can tell the job of.
LOST = f"{HIDDEN}/lost"
_MARK = "folder-"
#: Older than any write that still goes on.
_SCRAP_SECONDS = 86_400.0


@dataclass(frozen=True)
class FolderFacts:
    """How the downloads folder is."""

    directory: Path
    exists: bool
    writable: bool
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class OldFiles:
    """What a job published before a moment."""

    job_id: str
    names: list[str]
    bytes: int


class Library:
    """All access to the downloads folder.

    Work folders are in ``work_dir``, which is the downloads folder itself unless told otherwise. Those of
    ``LOCAL_PREFIX`` belong to one running program: another one with another store would take them for orphans. Those
    of ``SHARED_PREFIX`` belong to all programs that share a store; no lock keeps them apart, and ``volume`` tells
    whether they see the same. Each kind leaves the other's alone.
    """

    def __init__(self, downloads_dir: Path, work_dir: Path | None = None, *, prefix: str = LOCAL_PREFIX) -> None:
        self.downloads_dir = downloads_dir
        self.work_dir = work_dir or downloads_dir
        self._shared = prefix == SHARED_PREFIX
        #: Which volume this must be, where machines share it.
        self.volume = VolumeMark(downloads_dir / HIDDEN) if self._shared else None
        self._records = Records(downloads_dir, downloads_dir / RECORDS)
        self._folders = WorkFolders(self.work_dir, prefix)
        #: What is to be copied to object storage, and deleted there; None where there is none.
        self.outbox: Outbox | None = None
        #: A folder in the downloads folder that is there as long as that is the one which was opened.
        self._mark: Path | None = None
        self._opened_as: tuple[int, int] | None = None
        self._lock = FolderLock((work_dir or downloads_dir / HIDDEN) / "lock")

    def open(self) -> None:
        """Make the folder ready, for this program alone unless it is shared. Raises ``ConfigurationError``."""
        self.prepare()
        if not self._shared and not self.lock():
            raise ConfigurationError(
                f"Another server{self.lock_holder()} uses the downloads folder {self.downloads_dir}. "
                "Stop it, or set YTDLP_OUTPUT_PATH to another folder."
            )
        if not self._shared:
            # The lock proves that nobody has a use for them.
            end_leftovers(self.work_dir, lambda name: self._folders.owner(name) is not None)
        self._folders.remove_trash()
        self._remove_scraps()
        if not self._shared:
            self._mark = self._marked()
            self._opened_as = _place(self.downloads_dir)
        log.info(f"Job manager using downloads directory: {self.downloads_dir}")

    def prepare(self) -> None:
        """Make the folder and see that it can be written. Raises ``ConfigurationError``."""
        try:
            if self.work_dir == self.downloads_dir:
                refuse_while_moving(self.downloads_dir)
            self.downloads_dir.mkdir(parents=True, exist_ok=True)
            (self.downloads_dir / RECORDS).mkdir(parents=True, exist_ok=True)
            self.work_dir.mkdir(parents=True, exist_ok=True)
            for folder in {self.downloads_dir, self.work_dir}:
                probe = folder / f".mdprobe_{uuid4().hex}"
                probe.mkdir()
                probe.rmdir()
        except OSError as error:
            raise ConfigurationError(
                f"The downloads folder {self.downloads_dir} cannot be written ({error.strerror}). "
                "Set YTDLP_OUTPUT_PATH to a folder that can."
            ) from None

    def _marked(self) -> Path:
        """Return the mark of this very folder, made when it is opened for the first time."""
        hidden = self.downloads_dir / HIDDEN
        marks = sorted(hidden.glob(f"{_MARK}*"))
        if not marks:
            marks = [hidden / f"{_MARK}{uuid4().hex}"]
            marks[0].mkdir(mode=0o700)
        return marks[0]

    def _remove_scraps(self) -> None:
        """Remove what a crash in the middle of a small write has left; of others, who may be writing, only old ones."""
        oldest = time.time() - _SCRAP_SECONDS if self._shared else float("inf")
        places = [(folder, ".mdprobe_*") for folder in {self.downloads_dir, self.work_dir}]
        for folder, pattern in [*places, (self.downloads_dir / RECORDS, ".*.new")]:
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.rmdir() if path.is_dir() else path.unlink()

    def is_present(self) -> bool:
        """Say whether the downloads folder is the one that it must be: not removed, not unmounted, not replaced."""
        if self.volume is not None:
            return self.volume.is_there()
        # The mark outlives a new mount of the same disk; the place outlives a user who removes hidden folders.
        return self.downloads_dir.is_dir() and (
            self._mark is None or self._mark.is_dir() or _place(self.downloads_dir) == self._opened_as
        )

    def _must_be_present(self) -> None:
        if not self.is_present():
            raise OSError(errno.ENODEV, "it is gone, or not mounted", str(self.downloads_dir))

    def lock(self) -> bool:
        """Take the work folders for this program; say whether they are its own now."""
        return self._lock.take()

    def lock_holder(self) -> str:
        """Name the program that has the work folders, as far as it can be told: " (process 12)"."""
        return self._lock.holder()

    def close(self) -> None:
        """Let another program have the work folders."""
        self._lock.release()

    def facts(self) -> FolderFacts:
        """Say how the folder is now."""
        exists = self.is_present()
        usage = shutil.disk_usage(self.downloads_dir) if exists else None
        return FolderFacts(
            self.downloads_dir,
            exists,
            exists and os.access(self.downloads_dir, os.W_OK | os.X_OK),
            usage.free if usage else 0,
            usage.total if usage else 0,
        )

    def free_bytes(self) -> int:
        """Return the bytes that can still be written; 0 when the folder is gone."""
        try:
            return shutil.disk_usage(self.downloads_dir).free
        except OSError:
            return 0

    def check_folder(self, folder: str) -> None:
        """Raise ``OptionRejected`` for a folder that nothing may be published in."""
        path = self.downloads_dir
        for part in safe_folder(folder).parts:
            path /= part
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise OptionRejected(
                    "The folder leads through a link, or through something that is no folder.", field="options.folder"
                )

    def check_template(self, template: str) -> None:
        """Raise ``OptionRejected`` for a template that is more than a name."""
        check_template(template)

    # --- work folders -------------------------------------------------------------------------------------------

    def prepare_workdir(self, job_id: str, known_name: str | None, *, proven_dead: bool = True) -> Path:
        """Return the job's work folder under a new name, with what is in it; see ``WorkFolders.prepare``."""
        self._must_be_present()
        return self._folders.prepare(job_id, known_name, proven_dead=proven_dead)

    def list_workdirs(self) -> dict[str, str]:
        """Return job id by the name of each work folder."""
        return self._folders.owners()

    def remove_workdirs_of(self, job_id: str) -> None:
        """Delete every work folder of a job that is over."""
        self._folders.remove_all_of(job_id)

    def remove_workdir(self, name: str) -> None:
        """Delete a work folder; one that is gone already is no matter.

        What a publish that was cut off has left elsewhere goes with it, unless the job has a record: then it is done.
        """
        job_id = self._folders.owner(name)
        if job_id is None:
            return
        if not self._records.knows(job_id):
            undo(self.downloads_dir, self.work_dir / name, restore=False)
        self._folders.remove(name)

    def orphaned_workdirs(self, known: Collection[str]) -> list[Orphan]:
        """Return the work folders that are not among the known ones."""
        self._must_be_present()
        return self._folders.orphans(known)

    def set_aside_workdirs(self, names: Collection[str]) -> None:
        """Keep work folders that nobody can tell the job of, where no sweep looks; empty ones stay for the sweep."""
        lost = self.downloads_dir / LOST
        for name in self._folders.set_aside(names, lost):
            log.error("A work folder does not tell its job: it was set aside", folder=name, kept_in=str(lost))

    def write_job_file(self, workdir: Path, job: Job) -> None:
        """Keep enough in the work folder to rebuild the job when the store is lost; a full disk may refuse it."""
        self._folders.write_job(workdir, job)

    def note_job(self, job: Job) -> None:
        """Do the same for a job that was changed while nobody runs it."""
        if job.workdir is not None:
            self._folders.write_job(self.work_dir / job.workdir, job)

    def read_job_files(self) -> dict[str, Job | None]:
        """Return the job of each work folder by the folder's name; None where it does not tell it."""
        self._must_be_present()
        return self._folders.read_jobs()

    def keep_verdict(self, workdir: Path, verdict: dict[str, Any]) -> None:
        """Note durably that the result is verified, so that a restart only publishes it."""
        keep_verdict(workdir, verdict)

    def read_verdict(self, workdir: Path) -> dict[str, Any] | None:
        """Return what ``keep_verdict`` noted, if all of its files are still there."""
        return read_verdict(self.downloads_dir, workdir)

    # --- published files ----------------------------------------------------------------------------------------

    def publish(self, workdir: Path, plan: PublishPlan) -> list[str]:
        """Give the plan's files their final names; see ``Publisher``."""
        self._must_be_present()
        return Publisher(self.downloads_dir, workdir).publish(plan)

    def write_record(self, job_id: str, record: dict[str, Any]) -> None:
        """Keep the media record of what a job published: the folder is the library, every index a cache."""
        self._records.write(job_id, record)
        if self.outbox is not None:
            self.outbox.add(job_id, record["files"])

    def open_artifact(self, name: str, job_id: str) -> OpenFile:
        """Open a file that a job published; one that has taken its name since is another job's.

        Raises ``FileMissing`` and ``PathEscapesLibrary``.
        """
        opened = open_published(self.downloads_dir, name)
        if self._records.is_anothers(job_id, name, surely=True):
            os.close(opened.descriptor)
            raise missing(self.downloads_dir, name, "The file is gone, and another job's has taken its name.")
        return opened

    def exists(self, name: str, job_id: str) -> bool:
        """Say whether a file that a job published is where it was put."""
        if self._records.is_anothers(job_id, name):
            return False
        try:
            *folders, base = checked_parts(name)
            with folder_descriptor(self.downloads_dir, tuple(folders)) as folder:
                return stat.S_ISREG(os.stat(base, dir_fd=folder, follow_symlinks=False).st_mode)
        except (OSError, PathEscapesLibrary):
            return False

    # --- their copies in object storage -------------------------------------------------------------------------

    def begin_outbox(self) -> None:
        """Note from now on what is to be copied to object storage, and deleted there."""
        self.outbox = Outbox(self.downloads_dir, self._records, shared=self._shared)

    def open_to_copy(self, job_id: str, name: str) -> BinaryIO | None:
        """Open a file that a job published, if it is still that very one."""
        self._must_be_present()
        return self._records.open_own(job_id, name)

    def copies(self, job_id: str) -> dict[str, str]:
        """Return the key of each file of the job that has a copy."""
        return self._records.copies(job_id)

    def note_copies(self, job_id: str, keys: Mapping[str, str]) -> None:
        """Write into the job's record where the copies of its files are."""
        self._records.note_copies(job_id, keys)

    def delete_copied(self, job_id: str) -> None:
        """Delete the job's files that have a copy; the record stays."""
        self._records.delete_copied(job_id)

    def delete_artifacts(self, job_id: str, names: Sequence[str]) -> None:
        """Delete published files, their copies and their record; what is gone, or not this job's any more, stays."""
        if self.outbox is not None:
            self.outbox.remove(job_id)
        self._records.delete_files(job_id, names)

    def published_before(self, moment: datetime) -> list[OldFiles]:
        """Return what was published before a moment and is still there."""
        self._must_be_present()
        return [OldFiles(job_id, names, size) for job_id, names, size in self._records.before(moment)]


def _place(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino
