"""What is to be copied to object storage or deleted there: notes beside the files, which outlive every program."""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from media_downloader.library.durable import write_atomically
from media_downloader.library.records import Records

_HIDDEN = Path(".media-downloader")
_PROBLEM = "problem"
#: A claim that nobody has renewed for so long belongs to a program that is gone.
STALE_SECONDS = 60.0


@dataclass(frozen=True)
class Pending:
    """What is to be done for one job."""

    job_id: str
    #: (name below the downloads folder, media type) of each file.
    files: tuple[tuple[str, str], ...]
    #: Delete the copies, in place of making them.
    remove: bool = False


class Outbox:
    """One small file for each job that has something to be done. Blocking.

    Many programs may share it; a claim keeps two from doing the same, and doing it twice does no harm.
    """

    def __init__(self, downloads_dir: Path, records: Records, *, shared: bool) -> None:
        self._folder = downloads_dir / _HIDDEN / "outbox"
        self._records = records
        self._shared = shared

    # --- what is to be done -------------------------------------------------------------------------------------

    def add(self, job_id: str, files: Iterable[Mapping[str, Any]]) -> None:
        """Have a job's published files copied."""
        self._write(Pending(job_id, tuple((str(file["name"]), str(file["type"])) for file in files)))

    def remove(self, job_id: str) -> None:
        """Have the copies of a job's files deleted, if there are or may be any. Call it while the record is there."""
        pending = self.read(job_id)
        types = self._records.types(job_id)
        files = {(name, types[name]) for name in self._records.copies(job_id)}
        files |= set(pending.files if pending else ())
        if files:
            self._write(Pending(job_id, tuple(sorted(files)), remove=True))

    def read(self, job_id: str) -> Pending | None:
        """Return what is to be done for a job."""
        try:
            told = json.loads(self._path(job_id).read_text(encoding="utf-8"))
            files = tuple((str(name), str(kind)) for name, kind in told["files"])
            return Pending(job_id, files, bool(told["remove"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pending(self) -> list[Pending]:
        """Return everything that is to be done, oldest first."""
        try:
            with os.scandir(self._folder) as entries:
                found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if entry.name.endswith(".json")]
        except FileNotFoundError:
            return []
        read = (self.read(name.removesuffix(".json")) for _, name in sorted(found))
        return [one for one in read if one is not None]

    def drop(self, done: Pending) -> None:
        """Note that this was done; something else that is to be done for the job meanwhile stays."""
        if self.read(done.job_id) == done:
            self._path(done.job_id).unlink(missing_ok=True)

    # --- what is wrong ------------------------------------------------------------------------------------------

    def problem(self) -> str | None:
        """Return what keeps copies from being made, None when nothing does."""
        try:
            return (self._folder / _PROBLEM).read_text(encoding="utf-8")
        except OSError:
            return None

    def note_problem(self, problem: str | None) -> None:
        """Say it to every program that shares the folder."""
        if problem is None:
            (self._folder / _PROBLEM).unlink(missing_ok=True)
        elif problem != self.problem():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / _PROBLEM, problem)

    # --- who does it --------------------------------------------------------------------------------------------

    def claim(self, job_id: str) -> bool:
        """Take a job's files for this program, which says with ``keep`` that it lives."""
        if not self._shared:
            return True
        claim = self._claim(job_id)
        self._take_away_stale(claim)
        try:
            os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True

    def keep(self, job_id: str) -> None:
        """Say that this program is still at it."""
        if self._shared:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._claim(job_id))

    def release(self, job_id: str) -> None:
        """Let another program go on."""
        if self._shared:
            self._claim(job_id).unlink(missing_ok=True)

    def _take_away_stale(self, claim: Path) -> None:
        try:
            age = self._now() - claim.stat().st_mtime
        except FileNotFoundError:
            return
        if age > STALE_SECONDS:
            # Renamed first: of many that do this at once, one takes this very claim away.
            gone = claim.with_name(f".{claim.name}.{uuid4().hex[:8]}")
            with contextlib.suppress(FileNotFoundError):
                claim.rename(gone)
                gone.unlink()

    def _now(self) -> float:
        """Return the volume's own time: it is what it stamps files with, whatever this machine's clock says."""
        probe = self._folder / f".now.{uuid4().hex[:8]}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            probe.unlink(missing_ok=True)

    def _write(self, pending: Pending) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        told = {"files": pending.files, "remove": pending.remove}
        write_atomically(self._path(pending.job_id), json.dumps(told))

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"

    def _claim(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.claim"
