"""Work folders: one for each job that is not over, with what is needed to make the job anew."""

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog
from pydantic import ValidationError

from media_downloader.jobs.model import Job
from media_downloader.library.durable import total_bytes, write_atomically

log = structlog.get_logger(__name__)

JOB_NAME = "job.json"
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

    def prepare(self, job_id: str, known_name: str | None) -> Path:
        """Return the job's work folder under a new name, with what is in it; a new one when there is none.

        The new name takes the path away from whoever still believes to work there. Leftovers of the same job that a
        crash between a rename and the store's note has left are found by the job's id.
        """
        target = self.folder / f"{self._prefix}{job_id}_{uuid4().hex[:8]}"
        found = [name for name, owner in self.owners().items() if owner == job_id]
        if known_name in found:
            found.remove(known_name)
            found.insert(0, known_name)
        for name in found[1:]:
            self.remove(name)
        if found:
            (self.folder / found[0]).rename(target)
        else:
            target.mkdir(mode=0o700)
        return target

    def owner(self, name: str) -> str | None:
        """Return the job that a work folder of this name belongs to; None for any other name."""
        match = self._name.match(name)
        return None if match is None else match.group(1)

    def owners(self) -> dict[str, str]:
        """Return job id by the name of each work folder."""
        found = {}
        for entry in self.folder.iterdir():
            job_id = self.owner(entry.name)
            if job_id is not None and entry.is_dir() and not entry.is_symlink():
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
        """Return the job of each work folder by the folder's name; None where it does not tell it."""
        return {name: self._read_job(name, job_id) for name, job_id in self.owners().items()}

    def _read_job(self, name: str, job_id: str) -> Job | None:
        try:
            job = Job.model_validate_json((self.folder / name / JOB_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError, ValidationError):
            return None
        return job if job.id == job_id else None


def _remove_tree(path: Path) -> None:
    """Delete a folder, following no link; what refuses is left for the next start."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        # A folder without write permission keeps its files; it was ours, so take the permission.
        for folder in [path, *(entry for entry in path.rglob("*") if entry.is_dir() and not entry.is_symlink())]:
            folder.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
