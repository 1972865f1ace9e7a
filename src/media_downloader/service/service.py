"""Every action of a user, validated, made durable and told to everybody."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from media_downloader.errors import InvalidTransition
from media_downloader.families import pages_of_children
from media_downloader.jobs.model import Artifact, DeletedEvent, Job, QueueEvent, QueueState
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import FINISHED, RUNNING, Action, State
from media_downloader.library import OpenFile
from media_downloader.netguard import check_url, resolve_and_check
from media_downloader.ports import JobQuery
from media_downloader.service.acting import Acting
from media_downloader.service.adding import Adding
from media_downloader.service.changing import Changing
from media_downloader.service.model import AddOutcome, AddRequest, JobPatch, JobView, ServiceDeps
from media_downloader.service.views import Views

#: How long a removal waits for the job's runner, which obeys a cancel within a second.
RUNNER_SECONDS = 10


class JobService:
    """The one face of all that a user can do."""

    def __init__(self, deps: ServiceDeps) -> None:
        self._deps = deps
        self._store = deps.store
        self._bus = deps.bus
        self._views = Views(deps)
        self._adding = Adding(deps)
        self._acting = Acting(deps, self._views)
        self._changing = Changing(deps)

    async def add(self, request: AddRequest) -> AddOutcome:
        """Store a job for each link that is acceptable; nothing is fetched before that.

        Options are judged first, for all links at once. Raises ``OptionRejected``, ``IdempotencyConflict``,
        ``JobExpired`` for a key whose jobs are gone and, for a request with a single link, what is wrong with it.
        """
        return await self._adding.add(request)

    # --- looking ------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobView:
        """Return a job. Raises ``JobNotFound`` and ``JobExpired``."""
        return await self.view(await self._store.get(job_id))

    async def find(self, query: JobQuery) -> tuple[Sequence[JobView], str | None]:
        """Return a page of jobs and the cursor of the next one. Raises ``InvalidCursor``."""
        page = await self._store.find(query)
        return await self._views.of(page.jobs), page.next_cursor

    async def view(self, job: Job) -> JobView:
        """Say what can be asked of a job now, and why it waits."""
        return (await self._views.of([job]))[0]

    async def recent_view(self, job: Job) -> JobView:
        """Say the same by facts of the queue that may be a moment old: for events, of which many come at once."""
        return (await self._views.of([job], recent=True))[0]

    async def views(self, jobs: Sequence[Job]) -> Sequence[JobView]:
        """Say the same of many jobs at once."""
        return await self._views.of(jobs)

    async def open_artifact(self, job_id: str, artifact: Artifact) -> OpenFile:
        """Open a file that a job published; the caller closes it. Raises ``FileMissing`` and ``PathEscapesLibrary``."""
        return await asyncio.to_thread(self._deps.library.open_artifact, artifact.name, job_id)

    async def counts(self) -> Mapping[State, int]:
        """Count jobs by state."""
        return await self._store.counts()

    async def log(self, job_id: str) -> str:
        """Return the last 64 KiB of a job's log. Raises ``JobNotFound`` and ``JobExpired``."""
        await self._store.get(job_id)
        return await asyncio.to_thread(self._deps.job_logs.read, job_id)

    async def probe(self, url: str, options: JobOptions) -> dict[str, Any]:
        """Say what is behind a link, and download nothing."""
        url = check_url(url, self._deps.policy)
        await resolve_and_check(url, self._deps.policy)
        return await self._deps.inquiry.probe(url, options)

    # --- acting -------------------------------------------------------------------------------------------------

    async def act(self, job_id: str, action: Action) -> JobView:
        """Do what the user asks, or leave the wish for the job's runner.

        Asking for what is so already succeeds. Raises ``InvalidTransition`` with the state that the job is in.
        A playlist's parent passes the wish on to its children.
        """
        return await self.view(await self._acting.act(job_id, action))

    async def update(self, job_id: str, patch: JobPatch) -> JobView:
        """Change priority, time or place. Raises ``InvalidTransition`` for a place among jobs that do not wait.

        A playlist's parent passes the change on to its children that wait. What is refused has changed nothing.
        """
        return await self.view(await self._changing.update(job_id, patch))

    async def remove(self, job_id: str, *, files: bool) -> None:
        """Take a job off the list, and its files with it only when asked.

        A running job is canceled first. Raises ``JobNotFound``, ``JobExpired``, and ``InvalidTransition`` when its
        runner does not let go of it.
        """
        job = await self._store.get(job_id)
        if job.state not in FINISHED:
            # It may end by itself just now, and is removed all the same.
            with contextlib.suppress(InvalidTransition):
                await self._acting.act(job_id, Action.CANCEL)
            job = await self._until_nobody_runs(job_id)
        family = [job]
        if job.children:
            async for children in pages_of_children(self._store, job_id):
                family.extend(children)
        await self._store.remove(job_id)
        await asyncio.to_thread(self._forget, family, files=files)
        for gone in reversed(family):
            await self._bus.publish(DeletedEvent(id=gone.id))
        await self._acting.tell_parent(job)

    def _forget(self, family: Sequence[Job], *, files: bool) -> None:
        for job in family:
            self._deps.job_logs.remove(job.id)
            if job.workdir is not None:
                self._deps.library.remove_workdir(job.workdir)
            if files:
                self._deps.library.delete_artifacts(job.id, [artifact.name for artifact in job.artifacts])

    async def _until_nobody_runs(self, job_id: str) -> Job:
        job = await self._store.get(job_id)
        try:
            async with asyncio.timeout(RUNNER_SECONDS):
                while job.state in RUNNING or any(job.children.get(state, 0) for state in RUNNING):
                    await asyncio.sleep(0.05)
                    job = await self._store.get(job_id)
        except TimeoutError:
            raise InvalidTransition("The job is still being stopped. Try again.", state=str(job.state)) from None
        return job

    # --- the queue as a whole -----------------------------------------------------------------------------------

    async def queue_state(self) -> QueueState:
        """Say whether the queue is paused."""
        return await self._store.queue_state()

    async def pause_queue(self) -> QueueState:
        """Start no more jobs until the queue is resumed; what runs goes on. Kept across restarts."""
        return await self._set_queue(QueueState(paused=True, reason="user", since=await self._store.now()))

    async def resume_queue(self) -> QueueState:
        """Let jobs start again."""
        return await self._set_queue(QueueState())

    async def _set_queue(self, state: QueueState) -> QueueState:
        while True:
            now = await self._store.queue_state()
            if (now.paused, now.reason) == (state.paused, state.reason):
                return now
            if await self._store.set_queue_state(state, expected=now):
                await self._bus.publish(QueueEvent(queue=state))
                return state
