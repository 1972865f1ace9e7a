"""What can be said of a job at this moment: what may be asked of it, and why it waits."""

import asyncio
from collections.abc import Sequence

from media_downloader.families import actions_on_children
from media_downloader.jobs.model import Artifact, Job
from media_downloader.jobs.state import Action, State, allowed_actions
from media_downloader.jobs.waiting import QueueFacts, why_waiting
from media_downloader.service.model import JobView, ServiceDeps

#: Jobs that are looked at before others get their turn.
PIECE = 100


class Views:
    """Looks, and changes nothing."""

    def __init__(self, deps: ServiceDeps) -> None:
        self._deps = deps

    async def of(self, jobs: Sequence[Job], *, recent: bool = False) -> list[JobView]:
        """Return the views of jobs; the queue is asked once for all of them.

        With ``recent`` the queue's facts may be a moment old.
        """
        facts = await (self._deps.recent_queue_facts() if recent else self._deps.queue_facts())
        gone = await self.without_file(jobs)
        views: list[JobView] = []
        for start in range(0, len(jobs), PIECE):
            if start:
                # Thousands of jobs at once must not keep other requests waiting.
                await asyncio.sleep(0)
            views.extend(_view(job, facts, file_is_gone=job.id in gone) for job in jobs[start : start + PIECE])
        return views

    async def without_file(self, jobs: Sequence[Job]) -> set[str]:
        """Return the ids of done jobs of which a file is gone."""
        done = [job for job in jobs if job.state is State.DONE and job.artifacts]
        return await asyncio.to_thread(self._without_file, done) if done else set()

    def _without_file(self, done: Sequence[Job]) -> set[str]:
        library = self._deps.library

        def exists(artifact: Artifact, job_id: str) -> bool:
            # A copy counts as long as there is a bucket to serve it from.
            copied = artifact.object_key is not None and library.outbox is not None
            return copied or library.exists(artifact.name, job_id)

        return {job.id for job in done if not all(exists(artifact, job.id) for artifact in job.artifacts)}


def _view(job: Job, facts: QueueFacts, *, file_is_gone: bool) -> JobView:
    actions = [] if job.is_playlist else allowed_actions(job.state, job.signal, file_is_gone=file_is_gone)
    if job.children:
        passed_on = actions_on_children(job.children)
        actions = [action for action in Action if action in actions or action in passed_on]
    wait = why_waiting(job, facts)
    return JobView(job, actions, wait.reason if wait else None, wait.until if wait else None)
