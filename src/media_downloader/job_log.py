"""The last log lines of each job, kept on disk so that a failure can be read after a restart."""

import os
from pathlib import Path

#: What is kept of one job's log.
KEPT_BYTES = 64 * 1024


class JobLogs:
    """One bounded text file for each job, in a folder of their own. Lines come in already redacted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, job_id: str, lines: list[str]) -> None:
        """Add lines; when the file has grown to twice what is kept, its older half goes."""
        if not lines:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(job_id)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(line.rstrip("\n") + "\n" for line in lines)
            grown = file.tell() > 2 * KEPT_BYTES
        if grown:
            kept = self._tail(path)
            part = path.with_suffix(".new")
            part.write_text(kept, encoding="utf-8")
            part.replace(path)

    def read(self, job_id: str) -> str:
        """Return the last 64 KiB from the start of a line, or "" when nothing was logged."""
        try:
            return self._tail(self._path(job_id))
        except FileNotFoundError:
            return ""

    def remove(self, job_id: str) -> None:
        """Forget a job's log, and what a crash left of making it shorter."""
        self._path(job_id).unlink(missing_ok=True)
        self._path(job_id).with_suffix(".new").unlink(missing_ok=True)

    def job_ids(self) -> list[str]:
        """List the jobs that have a log."""
        if not self._folder.is_dir():
            return []
        return sorted({path.stem for path in self._folder.iterdir() if path.suffix in {".log", ".new"}})

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.log"

    @staticmethod
    def _tail(path: Path) -> str:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - KEPT_BYTES)
            file.seek(start)
            data = file.read(KEPT_BYTES)
        if start > 0:
            data = data[data.find(b"\n") + 1 :]
        return data.decode("utf-8", errors="replace")
