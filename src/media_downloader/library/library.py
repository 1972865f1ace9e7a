"""The downloads folder: its work folders, its published files and their records."""

import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from pydantic import ValidationError

from media_downloader.errors import ConfigurationError, FileMissing, PathEscapesLibrary
from media_downloader.jobs.model import Job
from media_downloader.library.files import OpenFile, checked_parts, folder_descriptor, open_published
from media_downloader.library.lock import FolderLock
from media_downloader.library.names import check_template, safe_folder
from media_downloader.library.publishing import Publisher, PublishPlan, total_bytes, write_atomically

log = structlog.get_logger(__name__)

#: Hidden folder of what the program keeps beside the files.
HIDDEN = ".media-downloader"
#: Hidden folder of the records; one JSON file for each job that published something.
RECORDS = f"{HIDDEN}/records"
#: Hidden folder of ``get``: its database and its work folders, so that it and a server never meet.
GET = f"{HIDDEN}/get"
#: Version of the records' shape.
RECORD_VERSION = 1
JOB_NAME = "job.json"
VERDICT_NAME = "verdict.json"
_WORKDIR = re.compile(r"^mdjob_([0-9a-f]{32})_[0-9a-f]{8}$")
#: Work folders on their way out; renamed first so that a crash leaves nothing that looks alive.
_TRASH = re.compile(r"^\.mdtrash_[0-9a-f]{32}$")


@dataclass(frozen=True)
class FolderFacts:
    """How the downloads folder is."""

    directory: Path
    exists: bool
    writable: bool
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Orphan:
    """A work folder that the store does not name."""

    name: str
    job_id: str
    bytes: int


@dataclass(frozen=True)
class OldFiles:
    """What a job published before a moment."""

    job_id: str
    names: list[str]
    bytes: int


class Library:
    """All access to the downloads folder.

    Work folders are in ``work_dir``, which is the downloads folder itself unless told otherwise. It belongs to one
    running program: another one with another store would take the first one's work folders for orphans.
    """

    def __init__(self, downloads_dir: Path, work_dir: Path | None = None) -> None:
        self.downloads_dir = downloads_dir
        self.work_dir = work_dir or downloads_dir
        self._lock = FolderLock((work_dir or downloads_dir / HIDDEN) / "lock")

    def open(self) -> None:
        """Make the folder ready for this program alone. Raises ``ConfigurationError``."""
        self.prepare()
        if not self.lock():
            raise ConfigurationError(
                f"Another server{self.lock_holder()} uses the downloads folder {self.downloads_dir}. "
                "Stop it, or set YTDLP_OUTPUT_PATH to another folder."
            )
        self._remove_trash()
        log.info(f"Job manager using downloads directory: {self.downloads_dir}")

    def prepare(self) -> None:
        """Make the folder and see that it can be written. Raises ``ConfigurationError``."""
        try:
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
        exists = self.downloads_dir.is_dir()
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
        safe_folder(folder)

    def check_template(self, template: str) -> None:
        """Raise ``OptionRejected`` for a template that is more than a name."""
        check_template(template)

    # --- work folders -------------------------------------------------------------------------------------------

    def prepare_workdir(self, job_id: str, known_name: str | None) -> Path:
        """Return the job's work folder under a new name, with what is in it; a new one when there is none.

        The new name takes the path away from whoever still believes to work there. Leftovers of the same job that a
        crash between a rename and the store's note has left are found by the job's id.
        """
        target = self.work_dir / f"mdjob_{job_id}_{uuid4().hex[:8]}"
        found = [name for name, owner in self.list_workdirs().items() if owner == job_id]
        if known_name in found:
            found.remove(known_name)
            found.insert(0, known_name)
        for name in found[1:]:
            self.remove_workdir(name)
        if found:
            (self.work_dir / found[0]).rename(target)
        else:
            target.mkdir(mode=0o700)
        return target

    def list_workdirs(self) -> dict[str, str]:
        """Return job id by the name of each work folder."""
        found = {}
        with os.scandir(self.work_dir) as entries:
            for entry in entries:
                match = _WORKDIR.match(entry.name)
                if match and entry.is_dir(follow_symlinks=False):
                    found[entry.name] = match.group(1)
        return found

    def remove_workdir(self, name: str) -> None:
        """Delete a work folder; one that is gone already is no matter."""
        if not _WORKDIR.match(name):
            return
        trash = self.work_dir / f".mdtrash_{uuid4().hex}"
        try:
            (self.work_dir / name).rename(trash)
        except FileNotFoundError:
            return
        _remove_tree(trash)

    def orphaned_workdirs(self, known: Collection[str]) -> list[Orphan]:
        """Return the work folders that are not among the known ones."""
        orphans = []
        for name, job_id in self.list_workdirs().items():
            if name not in known:
                files = (path for path in (self.work_dir / name).rglob("*") if not path.is_dir())
                orphans.append(Orphan(name, job_id, total_bytes(files)))
        return orphans

    def write_job_file(self, workdir: Path, job: Job) -> None:
        """Keep enough in the work folder to rebuild the job when the store is lost; a full disk may refuse it."""
        if workdir.is_dir():
            try:
                write_atomically(workdir / JOB_NAME, job.model_dump_json())
            except OSError as error:
                log.warning("A job's record could not be written", job_id=job.id, problem=error.strerror)

    def read_job_files(self) -> dict[str, Job]:
        """Return the job of each work folder that tells it, by the folder's name."""
        jobs = {}
        for name, job_id in self.list_workdirs().items():
            try:
                job = Job.model_validate_json((self.work_dir / name / JOB_NAME).read_text(encoding="utf-8"))
            except (OSError, ValidationError):
                continue
            if job.id == job_id:
                jobs[name] = job
        return jobs

    def keep_verdict(self, workdir: Path, verdict: dict[str, Any]) -> None:
        """Note durably that the result is verified, so that a restart only publishes it."""
        write_atomically(workdir / VERDICT_NAME, json.dumps(verdict))

    def read_verdict(self, workdir: Path) -> dict[str, Any] | None:
        """Return what ``keep_verdict`` noted, if all of its files are still there."""
        try:
            verdict: dict[str, Any] = json.loads((workdir / VERDICT_NAME).read_text(encoding="utf-8"))
            sound = all((workdir / file["path"]).stat().st_size == file["size_bytes"] for file in verdict["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return verdict if sound else None

    # --- published files ----------------------------------------------------------------------------------------

    def publish(self, workdir: Path, plan: PublishPlan) -> list[str]:
        """Give the plan's files their final names; see ``Publisher``."""
        return Publisher(self.downloads_dir, workdir).publish(plan)

    def write_record(self, job_id: str, record: dict[str, Any]) -> None:
        """Keep the media record of what a job published: the folder is the library, every index a cache."""
        folder = self.downloads_dir / RECORDS
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{job_id}.json", json.dumps({"version": RECORD_VERSION, **record}, indent=1))

    def open_artifact(self, name: str) -> OpenFile:
        """Open a published file. Raises ``FileMissing`` and ``PathEscapesLibrary``."""
        return open_published(self.downloads_dir, name)

    def exists(self, name: str) -> bool:
        """Say whether a published file is where it was put."""
        try:
            *folders, base = checked_parts(name)
            with folder_descriptor(self.downloads_dir, tuple(folders)) as folder:
                return stat.S_ISREG(os.stat(base, dir_fd=folder, follow_symlinks=False).st_mode)
        except (OSError, PathEscapesLibrary):
            return False

    def delete_artifacts(self, job_id: str, names: Sequence[str]) -> None:
        """Delete published files and their record; what is gone or not ours is left alone."""
        for name in names:
            try:
                opened = self.open_artifact(name)
            except (FileMissing, PathEscapesLibrary):
                continue
            os.close(opened.descriptor)
            self.downloads_dir.joinpath(*checked_parts(name)).unlink(missing_ok=True)
        self._record_path(job_id).unlink(missing_ok=True)

    def published_before(self, moment: datetime) -> list[OldFiles]:
        """Return what was published before a moment and is still there."""
        old = []
        for path in sorted((self.downloads_dir / RECORDS).glob("*.json")):
            try:
                if path.stat().st_mtime >= moment.timestamp():
                    continue
                record = json.loads(path.read_text(encoding="utf-8"))
                names = [str(file["name"]) for file in record["files"]]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            there = [name for name in names if self.exists(name)]
            sizes = total_bytes(self.downloads_dir.joinpath(*checked_parts(name)) for name in there)
            old.append(OldFiles(path.stem, there, sizes))
        return old

    def _record_path(self, job_id: str) -> Path:
        return self.downloads_dir / RECORDS / f"{job_id}.json"

    def _remove_trash(self) -> None:
        with os.scandir(self.work_dir) as entries:
            trash = [entry.name for entry in entries if _TRASH.match(entry.name)]
        for name in trash:
            _remove_tree(self.work_dir / name)


def _remove_tree(path: Path) -> None:
    """Delete a folder, following no link; what refuses is left for the next start."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        # A folder without write permission keeps its files; it was ours, so take the permission.
        for folder in [path, *(entry for entry in path.rglob("*") if entry.is_dir() and not entry.is_symlink())]:
            folder.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
