"""The media records: what each job published, and whose a file is by now."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from media_downloader.errors import PathEscapesLibrary
from media_downloader.library.durable import write_atomically
from media_downloader.library.identity import FileIdentity, facts_at
from media_downloader.library.intent import facts_below, opened
from media_downloader.library.names import same_name

log = structlog.get_logger(__name__)

#: Version of the records' shape.
RECORD_VERSION = 2
#: For a mere look the folder is read anew at most so often; what this program writes is known at once.
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
        #: When the folder had last changed as it was read.
        self._folder_changed: int | None = None

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

    def is_anothers(self, job_id: str, name: str, *, surely: bool = False) -> bool:
        """Say whether a name has been taken by another job's file since this job published under it.

        What another program has published may be missed for a second, unless it is to be known ``surely``.
        """
        self._refresh(at_once=surely)
        return self._owner(name) not in {None, job_id}

    def delete_files(self, job_id: str, names: Sequence[str]) -> None:
        """Delete those of a job's files that are still the ones that it published, and its record."""
        files = self._read(job_id) or {}
        self._refresh(at_once=True)
        for name in names:
            if name not in files or not self._is_ours(job_id, name, files[name]):
                log.info("A file is left alone: it is not the one that the job published", job_id=job_id, name=name)
                continue
            with opened(self._root, name) as at, contextlib.suppress(FileNotFoundError):
                os.unlink(at.name, dir_fd=at.folder)
        self._path(job_id).unlink(missing_ok=True)
        self._forget(job_id)

    def open_own(self, job_id: str, name: str) -> BinaryIO | None:
        """Open a file that a job published, as long as it is still that very one; None when it is not."""
        files = self._read(job_id) or {}
        self._refresh(at_once=True)
        if name not in files or not self._is_ours(job_id, name, files[name]):
            return None
        identity = FileIdentity.read(files[name])
        try:
            with opened(self._root, name) as at:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                file = os.fdopen(os.open(at.name, flags, dir_fd=at.folder), "rb")
        except (OSError, PathEscapesLibrary):
            return None
        # It may have been replaced since it was looked at.
        if identity is not None and identity.is_of(os.fstat(file.fileno())):
            return file
        file.close()
        return None

    def copies(self, job_id: str) -> dict[str, str]:
        """Return the key in object storage of each file of a job that has a copy there."""
        files = self._read(job_id) or {}
        return {name: str(told["object_key"]) for name, told in files.items() if told.get("object_key")}

    def types(self, job_id: str) -> dict[str, str]:
        """Return the media type of each file of a job."""
        return {name: str(told.get("type")) for name, told in (self._read(job_id) or {}).items()}

    def note_copies(self, job_id: str, keys: Mapping[str, str]) -> None:
        """Note where the copies of a job's files are. The record's age stays: retention and ownership go by it."""
        path = self._path(job_id)
        try:
            age = path.stat().st_mtime_ns
            record = json.loads(path.read_text(encoding="utf-8"))
            for file in record["files"]:
                file["object_key"] = keys.get(file["name"], file.get("object_key"))
        except (OSError, ValueError, KeyError, TypeError):
            return
        write_atomically(path, json.dumps(record, indent=1), modified_ns=age)

    def delete_copied(self, job_id: str) -> None:
        """Delete those of a job's files that have a copy and are still the ones that it published; the record stays."""
        files = self._read(job_id) or {}
        self._refresh(at_once=True)
        for name in self.copies(job_id):
            if self._is_ours(job_id, name, files[name]):
                with opened(self._root, name) as at, contextlib.suppress(FileNotFoundError):
                    os.unlink(at.name, dir_fd=at.folder)

    def before(self, moment: datetime) -> Iterator[tuple[str, list[str], int]]:
        """Yield jobs that published before a moment, with their files that are still there, and the bytes of these.

        A job whose file was on a disk that is not mounted now is left out: its file is not gone.
        """
        self._refresh(at_once=True)
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
        jobs = self._jobs_by_name.get(same_name(name), ())
        return max(jobs, key=lambda job_id: self._known[job_id][0], default=None)

    def _refresh(self, *, at_once: bool) -> None:
        """Read the records that came or changed: at most once a second, or at once when others have written any."""
        now = time.monotonic()
        changed = self._changed() if at_once else self._folder_changed
        if now - self._read_at < _FRESH_SECONDS and changed == self._folder_changed:
            return
        self._read_at, self._folder_changed = now, changed
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

    def _changed(self) -> int | None:
        try:
            return self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return None

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
