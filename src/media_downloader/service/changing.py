"""What may be changed of a job, and of a playlist's parent with all of its children that wait."""

from collections.abc import Mapping, Sequence
from typing import Any

from media_downloader.errors import InvalidTransition
from media_downloader.families import RACES, pages_of_children
from media_downloader.jobs.model import Job, JobEvent
from media_downloader.jobs.state import FINISHED, RUNNING, State
from media_downloader.ports import Change, JobQuery
from media_downloader.service.model import JobPatch, ServiceDeps

#: States of children to which a change of their parent is passed on.
WAITING = (State.QUEUED, State.PAUSED)


class Changing:
    """Changes priority, time and place; what is refused has changed nothing."""

    def __init__(self, deps: ServiceDeps) -> None:
        self._deps = deps
        self._store = deps.store

    async def update(self, job_id: str, patch: JobPatch) -> Job:
        """Change a job and tell everybody. Raises ``InvalidTransition`` for a place among jobs that do not wait."""
        job = await self._store.get(job_id)
        facts: dict[str, Any] = {}
        if patch.priority is not None:
            facts["priority"] = patch.priority
        timed = patch.not_before is not None or patch.clear_not_before
        if timed:
            facts["not_before"] = facts["ready_at"] = patch.not_before
        if patch.before is not None or patch.to_front:
            changed = await self._place(job, patch.before, facts)
        else:
            changed = await self._change(job, facts, timed=timed)
        for one in changed:
            await self._deps.bus.publish(JobEvent(job=one))
        return await self._store.get(job_id)

    async def _place(self, job: Job, before: str | None, facts: Mapping[str, Any]) -> Sequence[Job]:
        for _ in range(RACES):
            family = await self._family_in_order(job)
            before_id = await self._head(before)
            try:
                return await self._store.move([member.id for member in family], before_id, facts)
            except InvalidTransition:
                # Of many children one may have left the queue just now; the others still have to move.
                if not job.children:
                    raise
        raise _has_no_place(job)

    async def _family_in_order(self, job: Job) -> list[Job]:
        """Return the job and its children, as far as they are in the queue."""
        own = await self._store.get(job.id) if job.children else job
        family = [own] if own.state is State.QUEUED or not job.children else []
        if job.children:
            async for children in pages_of_children(self._store, job.id, (State.QUEUED,), "position"):
                family.extend(children)
        if not family:
            raise _has_no_place(job)
        return family

    async def _head(self, before: str | None) -> str | None:
        """Return what stands for the job before which others are placed: of a playlist, its first child that waits."""
        if before is None or not (await self._store.get(before)).is_playlist:
            return before
        query = JobQuery(states=(State.QUEUED,), parent_id=before, sort="position", limit=1)
        found = (await self._store.find(query)).jobs
        return found[0].id if found else before

    async def _change(self, job: Job, facts: Mapping[str, Any], *, timed: bool) -> Sequence[Job]:
        """``timed``: a time is changed, which only what waits can have."""
        changed: list[Job] = []
        waits = job.state not in FINISHED and job.state not in RUNNING
        if timed and not waits and not any(job.children.get(state, 0) for state in WAITING):
            raise InvalidTransition(f"A job that is {job.state} has no time to wait for.", state=str(job.state))
        if job.is_playlist or waits or not timed:
            # A playlist's state follows its children at any moment; any other job must not have begun meanwhile.
            expected = {job.state} if timed and not job.is_playlist else None
            changed.append(await self._store.change(job.id, Change(facts=facts, expected=expected)))
        if job.children:
            wish = Change(facts=facts, expected=WAITING)
            async for children in pages_of_children(self._store, job.id, WAITING):
                changed.extend(await self._store.change_many(dict.fromkeys([child.id for child in children], wish)))
        return changed


def _has_no_place(job: Job) -> InvalidTransition:
    return InvalidTransition(f"A job that is {job.state} has no place in the queue.", state=str(job.state))
