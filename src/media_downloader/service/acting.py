"""What a user asks of a job, and of a playlist's parent with all of its children."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from media_downloader.errors import InvalidTransition, JobError, JobNotFound
from media_downloader.jobs.model import Job, JobEvent
from media_downloader.jobs.state import Action, State, allowed_actions, already_true, outcome, signal_for
from media_downloader.ports import Change, JobQuery, JobStore
from media_downloader.service.model import ServiceDeps
from media_downloader.service.views import Views, actions_on_playlist

#: How often an action is tried again when the job moves under it.
RACES = 5
#: Children that are acted on at once: their writes share a commit, and other requests come between two pages.
PAGE = 200


class Acting:
    """Carries out one action at a time, or leaves it as a wish for the job's runner."""

    def __init__(self, deps: ServiceDeps, views: Views) -> None:
        self._deps = deps
        self._store = deps.store
        self._views = views

    async def act(self, job_id: str, action: Action) -> Job:
        """Do it and tell everybody. A playlist's parent passes the wish on to its children."""
        job = await self._store.get(job_id)
        if job.is_playlist:
            return await self._act_on_playlist(job, action)
        if job.children and action is not Action.RETRY:
            # The playlist is being expanded: the children that exist, and then the expansion itself.
            await self._act_on_children(job, action)
        job = await self._act_on_one(job, action)
        await self.tell_parent(job)
        return job

    async def tell_parent(self, job: Job) -> None:
        """Tell of a playlist whose state may have followed a child's."""
        if job.parent_id is not None:
            with contextlib.suppress(JobNotFound):
                await self._deps.bus.publish(JobEvent(job=await self._store.get(job.parent_id)))

    async def _act_on_playlist(self, parent: Job, action: Action) -> Job:
        if action not in actions_on_playlist(parent):
            if already_true(action, parent.state, None):
                return parent
            raise _does_not_apply(parent, action)
        await self._act_on_children(parent, action)
        parent = await self._store.get(parent.id)
        await self._deps.bus.publish(JobEvent(job=parent))
        return parent

    async def _act_on_children(self, parent: Job, action: Action) -> None:
        states = [state for state in State if action in allowed_actions(state)]
        async for children in pages_of_children(self._store, parent.id, states):
            await asyncio.gather(*(self._act_on_child(child, action) for child in children))

    async def _act_on_child(self, child: Job, action: Action) -> None:
        # One that has ended meanwhile, or that cannot be paused any more, is no reason to leave out the others.
        with contextlib.suppress(JobError):
            await self._act_on_one(child, action)

    async def _act_on_one(self, job: Job, action: Action) -> Job:
        for _ in range(RACES):
            try:
                return await self._act_once(job, action)
            except InvalidTransition:
                moved = await self._store.get(job.id)
                if (moved.state, moved.signal) == (job.state, job.signal):
                    raise
                job = moved
        raise _does_not_apply(job, action)

    async def _act_once(self, job: Job, action: Action) -> Job:
        if already_true(action, job.state, job.signal):
            return job
        gone = await self._views.without_file([job]) if action is Action.RETRY else set()
        if action not in allowed_actions(job.state, job.signal, file_is_gone=job.id in gone):
            raise _does_not_apply(job, action)
        signal = signal_for(action, job.state)
        if signal is not None:
            changed = await self._store.send_signal(job.id, signal)
        else:
            change = Change(outcome(action, job.state), _facts_for(action, job), expected={job.state})
            changed = await self._store.change(job.id, change)
            if action is Action.CANCEL and job.workdir is not None:
                await asyncio.to_thread(self._deps.library.remove_workdir, job.workdir)
        await self._deps.bus.publish(JobEvent(job=changed))
        return changed


async def pages_of_children(
    store: JobStore, parent_id: str, states: Sequence[State] = ()
) -> AsyncIterator[Sequence[Job]]:
    """Yield a playlist's children in pages; the cursor holds while they change state."""
    cursor: str | None = None
    while True:
        query = JobQuery(states=states, parent_id=parent_id, sort="created_at", limit=PAGE, cursor=cursor)
        page = await store.find(query)
        yield page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return


def _facts_for(action: Action, job: Job) -> dict[str, Any]:
    """Return what else changes: who asks for another try gets all of the retries again."""
    if action is Action.CANCEL:
        return {"workdir": None}
    if action is Action.PAUSE:
        return {}
    facts: dict[str, Any] = {"ready_at": job.not_before, "retries": 0, "crashes": 0, "failure": None}
    if action is Action.RETRY and job.state in {State.DONE, State.CANCELED}:
        facts |= {"artifacts": (), "progress": type(job.progress)(), "notices": (), "workdir": None}
    return facts


def _does_not_apply(job: Job, action: Action) -> InvalidTransition:
    return InvalidTransition(
        f"Cannot {action} a job that is {job.state}.", state=str(job.state), signal=job.signal and str(job.signal)
    )
