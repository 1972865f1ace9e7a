"""What a user asks of a job, and of a playlist's parent with all of its children."""

import asyncio
import contextlib
from collections.abc import Sequence

from media_downloader.errors import InvalidTransition, JobNotFound
from media_downloader.families import RACES, act_on_children, does_not_apply, states_acted_on, wish_for
from media_downloader.jobs.model import Job, JobEvent
from media_downloader.jobs.state import RUNNING, Action, Signal, State, already_true
from media_downloader.service.model import ServiceDeps
from media_downloader.service.views import Views


class Acting:
    """Carries out one action at a time, or leaves it as a wish for the job's runner."""

    def __init__(self, deps: ServiceDeps, views: Views) -> None:
        self._deps = deps
        self._store = deps.store
        self._views = views

    async def act(self, job_id: str, action: Action) -> Job:
        """Do it and tell everybody. A playlist's parent passes the wish on to its children."""
        job = before = await self._store.get(job_id)
        refused: InvalidTransition | None = None
        if not job.is_playlist:
            # While it is being listed, itself first: the children that are found from then on follow it.
            try:
                job = await self._act_on_one(job, action)
            except InvalidTransition as error:
                if not before.children:
                    raise
                refused = error
        if job.is_playlist or job.children:
            passed_on = await self._act_on_children(before, job, action)
            if not passed_on and (job.is_playlist or refused):
                raise refused or does_not_apply(action, job)
            job = await self._store.get(job.id)
            await self._deps.bus.publish(JobEvent(job=job))
        await self.tell_parent(job)
        return job

    async def tell_parent(self, job: Job) -> None:
        """Tell of a playlist whose state may have followed a child's."""
        if job.parent_id is not None:
            with contextlib.suppress(JobNotFound):
                await self._deps.bus.publish(JobEvent(job=await self._store.get(job.parent_id)))

    async def _act_on_children(self, before: Job, parent: Job, action: Action) -> bool:
        """Pass it on, and say whether it fitted any child. ``before``: the parent as the user saw it."""
        waiting = [state for state, count in parent.children.items() if count > 0 and state not in RUNNING]
        fits = any(already_true(action, state, None) for state in waiting)
        states = states_acted_on(action, before if before.children else parent)
        async for step in act_on_children(self._store, parent.id, action, states):
            fits = fits or step.fits
            await self._remove_workdirs(step.changed)
            for _, child in step.changed:
                await self._deps.bus.publish(JobEvent(job=child))
        return fits

    async def _act_on_one(self, job: Job, action: Action) -> Job:
        for _ in range(RACES):
            try:
                return await self._act_once(job, action)
            except InvalidTransition:
                moved = await self._store.get(job.id)
                if moved.is_playlist:
                    # Its listing has just ended: what was asked is for its children now.
                    return moved
                if (moved.state, moved.signal) == (job.state, job.signal):
                    raise
                job = moved
        raise does_not_apply(action, job)

    async def _act_once(self, job: Job, action: Action) -> Job:
        gone = await self._views.without_file([job]) if action is Action.RETRY else set()
        wish = wish_for(action, job, file_is_gone=job.id in gone)
        if wish is None:
            return job
        if isinstance(wish, Signal):
            changed = await self._store.send_signal(job.id, wish)
        else:
            changed = await self._store.change(job.id, wish)
            await self._remove_workdirs([(job, changed)])
            await self._note(changed)
        await self._deps.bus.publish(JobEvent(job=changed))
        return changed

    async def _note(self, job: Job) -> None:
        """Keep the record in the work folder true: a job that was paused must not come back as queued from it."""
        if job.workdir is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._deps.library.note_job, job)

    async def _remove_workdirs(self, changed: Sequence[tuple[Job, Job]]) -> None:
        """Remove the folders of jobs that are canceled and that nobody ran."""
        left = [old.workdir for old, new in changed if new.state is State.CANCELED and old.workdir is not None]
        if left:
            remove = self._deps.library.remove_workdir
            await asyncio.to_thread(lambda: [remove(workdir) for workdir in left])
