"""Obeys flags beside jobs that nobody runs: a person sets ``job:{id}:pause``, and no runner is there to see it."""

import re

from media_downloader.errors import InvalidTransition, JobError, JobExpired, JobNotFound
from media_downloader.families import act_on_children, states_acted_on, wish_for
from media_downloader.jobs.model import Job
from media_downloader.jobs.state import RUNNING, Action, Signal
from media_downloader.ports import Change, JobStore
from media_downloader.stores import redis_keys as keys
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_writer import RedisWriter

#: Keys that one call looks at, and such calls in one round: 100,000 jobs are looked through in some rounds.
KEYS_AT_ONCE = 1000
LOOKS = 50
#: After so many flags a round ends, and the next one goes on.
FLAGS_AT_ONCE = 200
_FLAG = re.compile(r"^job:(.+):(?:pause|cancel)$")


class Flags:
    """Goes through the keys again and again, a part of them in each round."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._cursor = 0

    async def next_ids(self) -> list[str]:
        """Return the ids beside which this round found flags."""
        found: dict[str, None] = {}
        for _ in range(LOOKS):
            self._cursor, names = await self._link.call(
                lambda client: client.scan(self._cursor, match="job:*:[pc]a*", count=KEYS_AT_ONCE)
            )
            found |= dict.fromkeys(match[1] for name in names if (match := _FLAG.match(str(name))))
            if self._cursor == 0 or len(found) >= FLAGS_AT_ONCE:
                break
        return list(found)


async def obey(store: JobStore, writer: RedisWriter, job_id: str) -> list[tuple[Job, Job]]:
    """Do what the flag of one job asks for, as an action would; return what changed, as it was and as it is.

    A flag that asks for nothing goes, that of a running job is left to its runner. Whoever is cut off is followed by
    the next round: a flag goes with what it asked for, or after it.
    """
    try:
        job = await store.get(job_id)
        if job.is_playlist and job.signal is not None:
            return await _obey_for_children(store, writer, job, Action(job.signal))
        change = _change_for(job)
        if isinstance(change, Change):
            return [(job, await store.change(job_id, change))]
        if change is not None:
            return []
    except (JobNotFound, JobExpired):
        pass
    except JobError:
        # Another version's, or it has moved meanwhile: then its flag is still there, or its runner has obeyed it.
        return []
    await _drop(writer, job_id)
    return []


def _change_for(job: Job) -> Change | Signal | None:
    """Return what a job's flag makes of it; a signal where that is a runner's matter, None where it is nothing."""
    if job.signal is None or job.state in RUNNING:
        return job.signal
    try:
        return wish_for(Action(job.signal), job)
    except InvalidTransition:
        return None


async def _obey_for_children(
    store: JobStore, writer: RedisWriter, parent: Job, action: Action
) -> list[tuple[Job, Job]]:
    changed: list[tuple[Job, Job]] = []
    async for step in act_on_children(store, parent.id, action, states_acted_on(action, parent)):
        changed.extend(step.changed)
    await _drop(writer, parent.id)
    return [*changed, (parent, await store.get(parent.id))]


async def _drop(writer: RedisWriter, job_id: str) -> None:
    """Remove a job's flags, unless by now they mean something."""

    async def once() -> None:
        work = await writer.load([job_id], "alone")
        if work.has(job_id):
            job = work.job(job_id)
            if not job.is_playlist and _change_for(job) is not None:
                return
        work.rely_on(job_id)
        work.also("DEL", *(keys.flag_key(job_id, signal) for signal in Signal))
        await writer.commit(work)

    await writer.repeat(once)
