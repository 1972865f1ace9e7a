"""The media records: what each job published, and whose a file is by now."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from media_downloader.errors import PathEscapesLibrary
from media_downloader.library.durable import write_atomically
from media_downloader.library.identity import FileIdentity, facts_at
from media_downloader.library.intent import facts_below, opened
from media_downloader.library.names import same_name

log = structlog.get_logger(__name__)

#: Version of the records' shape.
RECORD_VERSION = 2
#: The folder is read anew at most so often; what this program writes is known at once.
_FRESH_SECONDS = 1.0


class Records:
    """One JSON file for each job that published something."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        #: Of each record by the job's id: when it was written, and the names that it has.
        self._known: dict[str, tuple[int, frozenset[str]]] = {}
        self._jobs_by_name: dict[str, set[str]] = {}
        self._read_at = float("-inf")

    def write(self, job_id: str, record: dict[str, Any]) -> None:
        """Keep a record, and with each of its files what tells it from another one of the same name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        files = [{**file, **self._traits(file)} for file in record.get("files", ())]
        whole = {"version": RECORD_VERSION, **record, "files": files}
        write_atomically(self._path(job_id), json.dumps(whole, indent=1))
        self._learn(job_id, self._path(job_id).stat().st_mtime_ns)

    def _traits(self, file: dict[str, Any]) -> dict[str, Any]:
        facts = facts_below(self._root, str(file["name"]))
        if facts is None or facts.st_size != file.get("size_bytes", facts.st_size):
            return {}
        return {
            "size_bytes": facts.st_size,
            "inode": facts.st_ino,
            "modified_ns": facts.st_mtime_ns,
            "on_other_filesystem": facts.st_dev != self._root.stat().st_dev,
        }

    def knows(self, job_id: str) -> bool:
        """Say whether a job has published something."""
        return self._path(job_id).exists()

    def is_anothers(self, job_id: str, name: str) -> bool:
        """Say whether a name has been taken by another job's file since this job published under it."""
        return self._owner(name) not in {None, job_id}

    def delete_files(self, job_id: str, names: Sequence[str]) -> None:
        """Delete those of a job's files that are still the ones that it published, and its record."""
        files = self._read(job_id) or {}
        for name in names:
            if name not in files or not self._is_ours(job_id, name, files[name]):
                log.info("A file is left alone: it is not the one that the job published", job_id=job_id, name=name)
                continue
            with opened(self._root, name) as at, contextlib.suppress(FileNotFoundError):
                os.unlink(at.name, dir_fd=at.folder)
        self._path(job_id).unlink(missing_ok=True)
        self._forget(job_id)

    def before(self, moment: datetime) -> Iterator[tuple[str, list[str], int]]:
        """Yield jobs that published before a moment, with their files that are still there, and the bytes of these.

        A job whose file was on a disk that is not mounted now is left out: its file is not gone.
        """
        for path in sorted(self._folder.glob("*.json")):
            try:
                if path.stat().st_mtime >= moment.timestamp():
                    continue
            except OSError:
                continue
            files = self._read(path.stem)
            if files is None or any(self._is_away(name, told) for name, told in files.items()):
                continue
            there = [name for name, told in files.items() if self._is_ours(path.stem, name, told)]
            yield path.stem, there, sum(int(files[name]["size_bytes"]) for name in there)

    def _is_ours(self, job_id: str, name: str, told: dict[str, Any]) -> bool:
        identity = FileIdentity.read(told)
        if identity is None:
            return False
        try:
            with opened(self._root, name) as at:
                same = identity.is_of(facts_at(at.name, at.folder))
        except (OSError, PathEscapesLibrary):
            return False
        # An inode is given out again, and the same link gives the same size and time: the newest record decides.
        return same and self._owner(name) == job_id

    def _is_away(self, name: str, told: dict[str, Any]) -> bool:
        if not told.get("on_other_filesystem"):
            return False
        try:
            with opened(self._root, name) as at:
                return os.fstat(at.folder).st_dev == self._root.stat().st_dev
        except PathEscapesLibrary:
            return False
        except OSError:
            return True

    def _owner(self, name: str) -> str | None:
        self._refresh()
        jobs = self._jobs_by_name.get(same_name(name), ())
        return max(jobs, key=lambda job_id: self._known[job_id][0], default=None)

    def _refresh(self) -> None:
        """Read the records that came or changed; what others wrote is seen a second late."""
        now = time.monotonic()
        if now - self._read_at < _FRESH_SECONDS:
            return
        self._read_at = now
        there = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                job_id, dot, extension = entry.name.rpartition(".")
                if dot and extension == "json" and not entry.name.startswith("."):
                    there[job_id] = entry.stat().st_mtime_ns
        for job_id in self._known.keys() - there.keys():
            self._forget(job_id)
        for job_id, written in there.items():
            if job_id not in self._known or self._known[job_id][0] != written:
                self._learn(job_id, written)

    def _learn(self, job_id: str, written: int) -> None:
        self._forget(job_id)
        names = frozenset(same_name(name) for name in self._read(job_id) or ())
        self._known[job_id] = (written, names)
        for name in names:
            self._jobs_by_name.setdefault(name, set()).add(job_id)

    def _forget(self, job_id: str) -> None:
        for name in self._known.pop(job_id, (0, frozenset[str]()))[1]:
            self._jobs_by_name[name].discard(job_id)
            if not self._jobs_by_name[name]:
                del self._jobs_by_name[name]

    def _read(self, job_id: str) -> dict[str, dict[str, Any]] | None:
        """Return what a record tells of each file, by its name; None for no record or a damaged one."""
        try:
            record = json.loads(self._path(job_id).read_text(encoding="utf-8"))
            return {str(file["name"]): dict(file) for file in record["files"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"
