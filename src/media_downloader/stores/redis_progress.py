"""The newest progress of the jobs that run here, until it is written. No I/O."""

from collections.abc import Iterable

from media_downloader.jobs.model import Job, Progress
from media_downloader.jobs.state import RUNNING


class ProgressKeeper:
    """Keeps progress in memory: a runner never waits for Redis because of it."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, Progress]] = {}
        self._dirty: set[str] = set()

    def note(self, job_id: str, attempt: int, progress: Progress) -> None:
        """Keep it, unless it is an older attempt's."""
        known = self._newest.get(job_id)
        if known is None or known[0] <= attempt:
            self._newest[job_id] = (attempt, progress)
            self._dirty.add(job_id)

    def newest(self, job_id: str) -> tuple[int, Progress] | None:
        """Return the attempt and its progress."""
        return self._newest.get(job_id)

    def overlay(self, job: Job) -> Job:
        """Return the job with what is newer here."""
        newest = self._newest.get(job.id)
        if newest is None or newest[0] != job.attempt or job.state not in RUNNING:
            return job
        return job.model_copy(update={"progress": newest[1]})

    def take_unwritten(self) -> dict[str, tuple[int, Progress]]:
        """Return what has to be written, and take it for written."""
        taken = {job_id: self._newest[job_id] for job_id in self._dirty}
        self._dirty.clear()
        return taken

    def put_back(self, job_ids: Iterable[str]) -> None:
        """Note that these could not be written."""
        self._dirty |= set(job_ids) & self._newest.keys()

    def forget(self, job_id: str) -> None:
        """Drop what is known of a job."""
        self._newest.pop(job_id, None)
        self._dirty.discard(job_id)
