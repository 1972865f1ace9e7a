"""Work folders: one for each job that is not over, with what is needed to make the job anew."""

import os
import re
import shutil
import stat
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import structlog
from pydantic import ValidationError

from media_downloader.jobs.model import Job
from media_downloader.library.durable import sync_folder, total_bytes, write_atomically
from media_downloader.library.kernel import share_blocks

log = structlog.get_logger(__name__)

#: How the names of work folders begin: of one server alone.
LOCAL_PREFIX = "mdjob_"
#: The same of servers and workers that share a store.
SHARED_PREFIX = "md_"
JOB_NAME = "job.json"
#: In a work folder that is still being copied.
HALF_NAME = ".copying"
#: Work folders on their way out; renamed first so that a crash leaves nothing that looks alive.
_TRASH = re.compile(r"^\.mdtrash_[0-9a-f]{32}$")


@dataclass(frozen=True)
class Orphan:
    """A work folder that the store does not name."""

    name: str
    job_id: str
    bytes: int


class WorkFolders:
    """The work folders of one kind, all in one folder, told from everything else by their names."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self._prefix = prefix
        self._name = re.compile(rf"^{re.escape(prefix)}([0-9a-f]{{32}})_[0-9a-f]{{8}}$")

    def prepare(self, job_id: str, known_name: str | None, *, proven_dead: bool = True) -> Path:
        """Return the job's work folder under a new name, with what is in it; a new one when there is none.

        The new name takes the path away from whoever still believes to work there. But a frozen writer keeps its open
        files through a rename: unless it is ``proven_dead``, the new folder is a copy, and the old one is left to it
        until the job is over. When the known name is not there, the job's id finds what a crash between a rename and
        the store's note has left. Costs no more for a larger library, but for that.
        """
        target = self.folder / f"{self._prefix}{job_id}_{uuid4().hex[:8]}"
        if known_name is None or self.owner(known_name) != job_id:
            target.mkdir(mode=0o700)
        elif not self._take_over(known_name, target, proven_dead=proven_dead):
            found = self._left_of(job_id)
            if not found or not self._take_over(found[0], target, proven_dead=proven_dead):
                target.mkdir(mode=0o700)
            for name in found[1:] if proven_dead else ():
                self.remove(name)
        return target

    def _take_over(self, name: str, target: Path, *, proven_dead: bool) -> bool:
        source = self.folder / name
        if source.is_symlink() or not source.is_dir() or _is_half(source):
            return False
        if not proven_dead:
            target.mkdir(mode=0o700)
            half = target / HALF_NAME
            half.touch()
            copy_tree(source, target)
            sync_folder(target)
            half.unlink()
            return True
        try:
            source.rename(target)
        except FileNotFoundError:
            return False
        return True

    def _left_of(self, job_id: str) -> list[str]:
        """Return the work folders of one job, the one of the latest attempt first."""
        found = [
            entry.name
            for entry in os.scandir(self.folder)
            if entry.name.startswith(f"{self._prefix}{job_id}_") and self.owner(entry.name) == job_id
        ]
        jobs = {name: self._read_job(name, job_id) for name in found}

        def age(name: str) -> tuple[int, datetime]:
            job = jobs[name]
            return (-1, datetime.min.replace(tzinfo=UTC)) if job is None else (job.attempt, job.updated_at)

        whole = [name for name in found if not _is_half(self.folder / name)]
        return sorted(whole, key=age, reverse=True)

    def owner(self, name: str) -> str | None:
        """Return the job that a work folder of this name belongs to; None for any other name."""
        match = self._name.match(name)
        return None if match is None else match.group(1)

    def owners(self) -> dict[str, str]:
        """Return job id by the name of each work folder."""
        found = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                job_id = self.owner(entry.name)
                if job_id is not None and entry.is_dir(follow_symlinks=False):
                    found[entry.name] = job_id
        return found

    def remove(self, name: str) -> None:
        """Delete a work folder; one that is gone already is no matter."""
        if self.owner(name) is None:
            return
        trash = self.folder / f".mdtrash_{uuid4().hex}"
        try:
            (self.folder / name).rename(trash)
        except FileNotFoundError:
            return
        _remove_tree(trash)

    def remove_all_of(self, job_id: str) -> None:
        """Delete every work folder of a job that is over: also those that were left to a writer that may have lived."""
        for name in self._left_of(job_id):
            self.remove(name)

    def remove_trash(self) -> None:
        """Finish what removals that were cut off have left."""
        for path in [entry for entry in self.folder.iterdir() if _TRASH.match(entry.name)]:
            _remove_tree(path)

    def orphans(self, known: Collection[str]) -> list[Orphan]:
        """Return the work folders that are not among the known ones."""
        return [
            Orphan(name, job_id, total_bytes(self._files(name)))
            for name, job_id in self.owners().items()
            if name not in known
        ]

    def set_aside(self, names: Collection[str], folder: Path) -> list[str]:
        """Move work folders that have content out of the sweep's way, into ``folder``; return which had some."""
        moved = []
        for name in names:
            if self._files(name):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.folder / name).rename(folder / f"{name}_{uuid4().hex[:8]}")
                moved.append(name)
        return moved

    def _files(self, name: str) -> list[Path]:
        return [path for path in (self.folder / name).rglob("*") if path.is_symlink() or not path.is_dir()]

    def write_job(self, workdir: Path, job: Job) -> None:
        """Keep enough in the work folder to rebuild the job when the store is lost; a full disk may refuse it."""
        if workdir.is_dir():
            try:
                write_atomically(workdir / JOB_NAME, job.model_dump_json())
            except OSError as error:
                log.warning("A job's record could not be written", job_id=job.id, problem=error.strerror)

    def read_jobs(self) -> dict[str, Job | None]:
        """Return the job of each work folder by the folder's name; None where it does not tell it.

        A copy that was cut off is left out: what it was made of is still there.
        """
        whole = {name: job_id for name, job_id in self.owners().items() if not _is_half(self.folder / name)}
        return {name: self._read_job(name, job_id) for name, job_id in whole.items()}

    def _read_job(self, name: str, job_id: str) -> Job | None:
        try:
            job = Job.model_validate_json((self.folder / name / JOB_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError, ValidationError):
            return None
        return job if job.id == job_id else None


def _is_half(folder: Path) -> bool:
    return (folder / HALF_NAME).exists()


def copy_tree(source: Path, target: Path) -> None:
    """Copy folders and regular files, sharing blocks where the filesystem can, with times and with hard links.

    What is written to meanwhile is copied as it is then; what is not a file is no download's.
    """
    copied: dict[int, Path] = {}
    for path in sorted(source.rglob("*")):
        made = target / path.relative_to(source)
        facts = path.lstat()
        if stat.S_ISDIR(facts.st_mode):
            made.mkdir(mode=0o700, exist_ok=True)
        elif stat.S_ISREG(facts.st_mode):
            twin = copied.setdefault(facts.st_ino, made)
            if twin is made or not _link(twin, made):
                _copy_file(path, made)


def _link(twin: Path, made: Path) -> bool:
    try:
        made.hardlink_to(twin)
    except OSError:
        return False
    return True


def _copy_file(path: Path, made: Path) -> None:
    with path.open("rb") as read, made.open("xb") as write:
        if not share_blocks(read.fileno(), write.fileno()):
            shutil.copyfileobj(read, write, 1024 * 1024)
        write.flush()
        os.fsync(write.fileno())
    shutil.copystat(path, made, follow_symlinks=False)


def _remove_tree(path: Path) -> None:
    """Delete a folder, following no link; what refuses is left for the next start."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        # A folder without write permission keeps its files; it was ours, so take the permission.
        for folder in [path, *(entry for entry in path.rglob("*") if entry.is_dir() and not entry.is_symlink())]:
            folder.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
