"""The JobStore in one SQLite file: for one server, on a local disk."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from media_downloader.errors import StoreUnavailable
from media_downloader.jobs.model import Cooldown, Job, Progress, QueueState, Tombstone
from media_downloader.jobs.state import RUNNING, Signal, State
from media_downloader.ports import NO_FACTS, Added, Change, Claim, JobPage, JobQuery, NewJobs
from media_downloader.stores import sqlite_adding as adding
from media_downloader.stores import sqlite_clock as clock
from media_downloader.stores import sqlite_order as order
from media_downloader.stores import sqlite_queries as queries
from media_downloader.stores import sqlite_writes as writes
from media_downloader.stores.sqlite_file import DatabaseFile
from media_downloader.stores.sqlite_rows import load
from media_downloader.stores.sqlite_writer import UNREADABLE, Writer, unavailable

T = TypeVar("T")

#: Lists and single look-ups do not wait for each other.
READERS = 2


class SqliteJobStore:
    """One writer thread, a few reading ones; the event loop never waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._file = DatabaseFile(path)
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._progress: dict[str, tuple[int, Progress]] = {}
        self._dirty: set[str] = set()
        self._progress_lock = threading.Lock()

    @property
    def is_new(self) -> bool:
        """Whether the file began empty and ``rebuild`` has not been done since, in this run or in an earlier one."""
        return self._file.is_new

    @property
    def set_aside(self) -> Path | None:
        """Where a corrupt database was moved to, if there was one."""
        return self._file.set_aside

    async def volume(self, proposed: str | None = None) -> str | None:
        """Return None: nobody shares this store."""
        return None

    async def open(self) -> None:
        """Open and migrate the file. Raises ``StoreTooNew``, and ``StoreUnavailable`` when another server has it."""
        await asyncio.to_thread(self._file.open)
        self._writer = Writer(self._file.connect, self._flush_progress)
        self._writer.start()
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    async def close(self) -> None:
        """Write what waits and let go of the file."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
            self._writer = None
        if self._readers is not None:
            self._readers.shutdown(wait=True)
            self._readers = None
            for connection in self._reading:
                connection.close()
            self._reading.clear()
            self._local = threading.local()
        self._file.close()

    # --- writes -------------------------------------------------------------------------------------------------

    async def add(self, new: NewJobs) -> Added:
        """Store all of the jobs or none."""
        prepared = await asyncio.to_thread(adding.prepare, new)
        return await self._write(lambda connection: adding.add(connection, prepared))

    async def replay(self, key: str, digest: str) -> Added | None:
        """Return what was added under a key."""
        return await self._read(lambda connection: adding.replay(connection, key, digest))

    async def rebuild(self, jobs: Sequence[Job]) -> None:
        """Store jobs that were found on disk, and note in the same commit that this is done."""
        prepared = await asyncio.to_thread(adding.prepare, NewJobs(jobs))

        def write(connection: sqlite3.Connection) -> None:
            adding.add(connection, prepared)
            self._file.note_rebuilt(connection)

        await self._write(write)
        self._file.is_new = False

    async def change(self, job_id: str, change: Change) -> Job:
        """Apply one change atomically."""
        with self._progress_lock:
            newest = self._progress.get(job_id)
        changed = await self._write(lambda connection: writes.change(connection, job_id, change, newest))
        if changed.state not in RUNNING or "progress" in change.facts:
            self._forget_progress(job_id)
        return changed

    async def change_many(self, wishes: Mapping[str, Change | Signal]) -> Sequence[Job]:
        """Apply to each job what applies, in one step."""
        with self._progress_lock:
            newest = {job_id: self._progress[job_id] for job_id in wishes if job_id in self._progress}
        changed = await self._write(lambda connection: writes.change_many(connection, wishes, newest))
        for job in changed:
            if job.state not in RUNNING:
                self._forget_progress(job.id)
        return changed

    async def claim(self, job_id: str, claim: Claim) -> Job:
        """Take a queued job."""
        return await self._write(lambda connection: writes.claim(connection, job_id, claim))

    async def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Signal | None:
        """Extend the lease and return the pending signal."""
        return await self._write(lambda connection: writes.renew(connection, job_id, attempt, lease_seconds))

    async def send_signal(self, job_id: str, signal: Signal) -> Job:
        """Leave a wish for the runner of a running job."""
        return await self._write(lambda connection: writes.send_signal(connection, job_id, signal))

    async def obey_flags(self) -> Sequence[tuple[Job, Job]]:
        """Return nothing: nobody else writes into this store."""
        return ()

    async def save_progress(self, job_id: str, attempt: int, progress: Progress) -> None:
        """Keep the newest progress in memory; the writer stores it within a second or so."""
        with self._progress_lock:
            known = self._progress.get(job_id)
            if known is None or known[0] <= attempt:
                self._progress[job_id] = (attempt, progress)
                self._dirty.add(job_id)

    async def release_expired(self) -> Sequence[Job]:
        """Put jobs whose lease has expired back in the queue."""
        if not await self._read(lambda connection: queries.has_expired_lease(connection, clock.steady())):
            return []
        return await self._write(writes.release_expired)

    async def release_owner(self, owner_prefix: str) -> Sequence[Job]:
        """Put back every job held by an owner that is gone."""
        return await self._write(lambda connection: writes.release_owner(connection, owner_prefix))

    async def move(
        self, job_ids: Sequence[str], before: str | None, facts: Mapping[str, Any] = NO_FACTS
    ) -> Sequence[Job]:
        """Place queued jobs before another, or before all others."""
        return await self._write(lambda connection: order.move(connection, job_ids, before, facts))

    async def remove(self, job_id: str, *, expired: bool = False) -> Job:
        """Delete a job that nobody runs, with its children."""
        removed = await self._write(lambda connection: writes.remove(connection, job_id, expired=expired))
        self._forget_progress(job_id)
        return removed

    async def set_queue_state(self, state: QueueState, expected: QueueState | None = None) -> bool:
        """Pause or resume the queue as a whole, if it is as expected."""
        return await self._write(lambda connection: writes.set_queue_state(connection, state, expected))

    async def set_cooldown(self, cooldown: Cooldown) -> None:
        """Keep a site from starting jobs until a moment."""
        await self._write(lambda connection: writes.set_cooldown(connection, cooldown))

    async def drop_tombstones_before(self, moment: datetime) -> int:
        """Forget older tombstones and idempotency keys."""
        return await self._write(lambda connection: writes.drop_tombstones(connection, clock.micros(moment) or 0))

    # --- reads --------------------------------------------------------------------------------------------------

    async def now(self) -> datetime:
        """Return the wall clock of this machine, the only one there is."""
        return clock.wall()

    async def get(self, job_id: str) -> Job:
        """Return the job with its newest progress."""
        return self._overlay(await self._read(lambda connection: load(connection, job_id)))

    async def known(self, job_ids: Collection[str]) -> Collection[str]:
        """Return which of these are ids of jobs."""
        return await self._read(lambda connection: queries.known(connection, list(job_ids)))

    async def find(self, query: JobQuery) -> JobPage:
        """Return a page in a stable order."""
        page = await self._read(lambda connection: queries.find(connection, query))
        return JobPage([self._overlay(job) for job in page.jobs], page.next_cursor)

    async def counts(self) -> Mapping[State, int]:
        """Count jobs by state."""
        return await self._read(queries.counts)

    async def next_due(self, full_sites: Collection[str], skip: Collection[str] = ()) -> Job | None:
        """Return the queued job that should run next."""
        now = clock.now_micros()
        if await self._read(lambda connection: queries.has_become_ready(connection, now)):
            await self._write(lambda connection: writes.promote_ready(connection, now))
        return await self._read(lambda connection: queries.next_due(connection, full_sites, skip, now))

    async def next_ready_at(self) -> datetime | None:
        """Return when the next queued job becomes due."""
        found = await self._read(lambda connection: queries.next_ready_at(connection, clock.now_micros()))
        return None if found is None else clock.moment(found)

    async def running_by_site(self) -> Mapping[str, int]:
        """Count running jobs by site."""
        return await self._read(queries.running_by_site)

    async def finished_before(self, moment: datetime, limit: int) -> Sequence[Job]:
        """Return finished top-level jobs that ended before a moment."""
        until = clock.micros(moment) or 0
        return await self._read(lambda connection: queries.finished_before(connection, until, limit))

    async def tombstone(self, job_id: str) -> Tombstone | None:
        """Return what is left of an expired job."""
        return await self._read(lambda connection: queries.tombstone(connection, job_id))

    async def queue_state(self) -> QueueState:
        """Return whether the queue is paused."""
        return await self._read(queries.queue_state)

    async def cooldowns(self) -> Sequence[Cooldown]:
        """Return the sites that cool down now."""
        return await self._read(lambda connection: queries.cooldowns(connection, clock.now_micros()))

    async def workdirs(self) -> Mapping[str, str]:
        """Return job id by work folder."""
        return await self._read(queries.workdirs)

    # --- within -------------------------------------------------------------------------------------------------

    async def _write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        if self._writer is None:
            raise StoreUnavailable("The store is closed.")
        return await self._writer.write(write)

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        if self._readers is None:
            raise StoreUnavailable("The store is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_now, read)

    def _read_now(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._file.connect(read_only=True)
                self._reading.append(connection)
            return read(connection)
        except (sqlite3.Error, *UNREADABLE) as error:
            raise unavailable(error) from None

    def _overlay(self, job: Job) -> Job:
        with self._progress_lock:
            newest = self._progress.get(job.id)
        if newest is None or newest[0] != job.attempt or job.state not in RUNNING:
            return job
        return job.model_copy(update={"progress": newest[1]})

    def _forget_progress(self, job_id: str) -> None:
        with self._progress_lock:
            self._progress.pop(job_id, None)
            self._dirty.discard(job_id)

    def _flush_progress(self, connection: sqlite3.Connection) -> None:
        with self._progress_lock:
            newest = [(job_id, *self._progress[job_id]) for job_id in self._dirty]
            self._dirty.clear()
        for job_id, attempt, progress in newest:
            writes.save_progress(connection, job_id, attempt, progress)
