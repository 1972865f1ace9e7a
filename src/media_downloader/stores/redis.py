"""The JobStore in Redis: for servers and workers on many machines."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from media_downloader.errors import StoreUnavailable
from media_downloader.jobs.model import Cooldown, Job, Progress, QueueState, Tombstone
from media_downloader.jobs.state import RUNNING, Signal, State
from media_downloader.ports import NO_FACTS, Added, Change, Claim, JobPage, JobQuery, NewJobs
from media_downloader.stores import redis_adding as adding
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import redis_moves as moves
from media_downloader.stores import redis_queries as queries
from media_downloader.stores import redis_writes as writes
from media_downloader.stores.redis_flags import Flags, obey
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_opening import inspect
from media_downloader.stores.redis_progress import ProgressKeeper
from media_downloader.stores.redis_writer import RedisWriter

log = structlog.get_logger(__name__)

#: How often progress is written.
PROGRESS_SECONDS = 1.0


class RedisJobStore:
    """One hash for each job, indexes beside it, and one script that compares and writes.

    Leases run by the server's clock. A wish may come from anybody who sets ``job:{id}:pause`` or ``job:{id}:cancel``.
    """

    def __init__(self, url: str) -> None:
        self._link = RedisLink(url)
        self._writer = RedisWriter(self._link)
        self._progress = ProgressKeeper()
        self._flags = Flags(self._link)
        self._flushing: asyncio.Task[None] | None = None

    @property
    def is_new(self) -> bool:
        """Whether Redis began empty, or lost everything, and ``rebuild`` has not been done since by anybody."""
        return self._writer.is_new

    async def open(self) -> None:
        """Connect and look at what is there.

        Raises ``ConfigurationError`` for a server that will never do (password, TLS, version, another program's keys),
        ``StoreUnavailable`` for one that cannot now (away, replica, full), and ``StoreTooNew``.
        """
        await self.close()
        self._link.open()
        try:
            await self._link.call(inspect)
            await self._writer.open()
        except BaseException:
            await self._link.close()
            raise
        self._flushing = asyncio.create_task(self._flush_regularly())

    async def close(self) -> None:
        """Write the last progress and let go of every connection."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
            self._flushing = None
            with contextlib.suppress(StoreUnavailable):
                await self._flush()
        await self._link.close()

    async def volume(self, proposed: str | None = None) -> str | None:
        """Return the id of the members' volume; what is proposed becomes it where there is none."""
        return await self._writer.tie_volume(proposed)

    # --- writes -------------------------------------------------------------------------------------------------

    async def add(self, new: NewJobs) -> Added:
        """Store all of the jobs or none."""
        return await adding.add(self._writer, new)

    async def replay(self, key: str, digest: str) -> Added | None:
        """Return what was added under a key."""
        return await adding.replay(self._link, key, digest)

    async def rebuild(self, jobs: Sequence[Job]) -> None:
        """Store jobs that were found on disk, and note in the same step that this is done."""
        await adding.rebuild(self._writer, jobs)

    async def change(self, job_id: str, change: Change) -> Job:
        """Apply one change atomically."""
        changed = await writes.change(self._writer, job_id, change, self._progress.newest(job_id))
        if changed.state not in RUNNING or "progress" in change.facts:
            self._progress.forget(job_id)
        return changed

    async def change_many(self, wishes: Mapping[str, Change | Signal]) -> Sequence[Job]:
        """Apply to each job what applies, in one step."""
        newest = {job_id: known for job_id in wishes if (known := self._progress.newest(job_id)) is not None}
        changed = await writes.change_many(self._writer, wishes, newest)
        for job in changed:
            if job.state not in RUNNING:
                self._progress.forget(job.id)
        return changed

    async def claim(self, job_id: str, claim: Claim) -> Job:
        """Take a queued job."""
        return await writes.claim(self._writer, job_id, claim)

    async def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Signal | None:
        """Extend the lease and return the pending signal."""
        return await writes.renew(self._writer, job_id, attempt, lease_seconds)

    async def send_signal(self, job_id: str, signal: Signal) -> Job:
        """Leave a wish for the runner of a running job."""
        return await writes.send_signal(self._writer, job_id, signal)

    async def obey_flags(self) -> Sequence[tuple[Job, Job]]:
        """Do what people ask for who set ``job:{id}:pause`` or ``job:{id}:cancel`` beside a job that nobody runs."""
        changed: list[tuple[Job, Job]] = []
        for job_id in await self._flags.next_ids():
            changed.extend(await obey(self, self._writer, job_id))
        return changed

    async def save_progress(self, job_id: str, attempt: int, progress: Progress) -> None:
        """Keep the newest progress in memory; it is written within a second or so. Never waits and never fails."""
        self._progress.note(job_id, attempt, progress)

    async def release_expired(self) -> Sequence[Job]:
        """Put jobs whose lease has expired back in the queue."""
        return await writes.release_expired(self._writer)

    async def release_owner(self, owner_prefix: str) -> Sequence[Job]:
        """Put back every job held by an owner that is gone."""
        return await writes.release_owner(self._writer, owner_prefix)

    async def move(
        self, job_ids: Sequence[str], before: str | None, facts: Mapping[str, Any] = NO_FACTS
    ) -> Sequence[Job]:
        """Place queued jobs before another, or before all others."""
        return await moves.move(self._writer, job_ids, before, facts)

    async def remove(self, job_id: str, *, expired: bool = False) -> Job:
        """Delete a job that nobody runs, with its children."""
        removed = await writes.remove(self._writer, job_id, expired=expired)
        self._progress.forget(job_id)
        return removed

    async def set_queue_state(self, state: QueueState, expected: QueueState | None = None) -> bool:
        """Pause or resume the queue as a whole, if it is as expected."""
        return await writes.set_queue_state(self._writer, state, expected)

    async def set_cooldown(self, cooldown: Cooldown) -> None:
        """Keep a site from starting jobs until a moment."""
        await writes.set_cooldown(self._writer, cooldown)

    async def drop_tombstones_before(self, moment: datetime) -> int:
        """Forget older tombstones and idempotency keys."""
        return await writes.drop_tombstones(self._writer, moment)

    # --- reads --------------------------------------------------------------------------------------------------

    async def now(self) -> datetime:
        """Return the server's clock."""
        return keys.moment((await self._link.load([])).clock)

    async def get(self, job_id: str) -> Job:
        """Return the job with its newest progress."""
        (record,) = (await self._link.load([job_id])).records
        return self._progress.overlay(record.job())

    async def known(self, job_ids: Collection[str]) -> Collection[str]:
        """Return which of these are ids of jobs."""
        return await queries.known(self._link, list(job_ids))

    async def find(self, query: JobQuery) -> JobPage:
        """Return a page in a stable order."""
        page = await queries.find(self._link, query)
        return JobPage([self._progress.overlay(job) for job in page.jobs], page.next_cursor)

    async def counts(self) -> Mapping[State, int]:
        """Count jobs by state."""
        return await queries.counts(self._link)

    async def next_due(self, full_sites: Collection[str], skip: Collection[str] = ()) -> Job | None:
        """Return the queued job that should run next."""
        return await queries.next_due(self._link, full_sites, skip)

    async def next_ready_at(self) -> datetime | None:
        """Return when the next queued job becomes due."""
        return await queries.next_ready_at(self._link)

    async def running_by_site(self) -> Mapping[str, int]:
        """Count running jobs by site."""
        return await queries.running_by_site(self._link)

    async def finished_before(self, moment: datetime, limit: int) -> Sequence[Job]:
        """Return finished top-level jobs that ended before a moment."""
        return await queries.finished_before(self._link, moment, limit)

    async def tombstone(self, job_id: str) -> Tombstone | None:
        """Return what is left of an expired job."""
        return await queries.tombstone(self._link, job_id)

    async def queue_state(self) -> QueueState:
        """Return whether the queue is paused."""
        return await queries.queue_state(self._link)

    async def cooldowns(self) -> Sequence[Cooldown]:
        """Return the sites that cool down now."""
        return await queries.cooldowns(self._link)

    async def workdirs(self) -> Mapping[str, str]:
        """Return job id by work folder.

        Raises ``StoreUnavailable`` when Redis turns out to have lost them: whoever asks takes all others for orphans.
        """
        found, is_new = await queries.workdirs(self._link)
        was_known_as_new = self._writer.is_new
        self._writer.learn(is_new=is_new)
        if is_new and not was_known_as_new:
            raise StoreUnavailable("Redis has lost its jobs. Those that are on disk must be found first.")
        return found

    # --- within -------------------------------------------------------------------------------------------------

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            try:
                await self._flush()
            except StoreUnavailable as error:
                log.warning("Progress is kept in memory until Redis is back", detail=error.detail)

    async def _flush(self) -> None:
        unwritten = self._progress.take_unwritten()
        if not unwritten:
            return
        try:
            stale = await writes.save_progress(self._link, unwritten)
        except BaseException:
            self._progress.put_back(unwritten)
            raise
        for job_id in stale:
            self._progress.forget(job_id)
