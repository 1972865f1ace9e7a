"""Copies finished files to object storage, and deletes copies, until the outbox is empty; as often as it takes."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

import structlog

from media_downloader.errors import BackendError, JobError, StorageUnavailable
from media_downloader.jobs.model import Job, JobEvent
from media_downloader.jobs.state import FINISHED
from media_downloader.library import Library, content_disposition, inline_type
from media_downloader.library.outbox import STALE_SECONDS, Outbox, Pending
from media_downloader.objects.storage import ObjectStorage, Upload
from media_downloader.ports import Change, EventBus, JobStore
from media_downloader.settings import Settings

log = structlog.get_logger(__name__)

#: How often the outbox is looked at.
LOOK_SECONDS = 1.0
#: How often a store that had a problem is asked again when nothing waits for it.
CHECK_SECONDS = 30.0
#: How often it is said that a job's files are being copied: before anybody else thinks that they are not.
KEEP_SECONDS = STALE_SECONDS / 4
#: What a job's notice about its copies begins with.
NOTICE = "Not in object storage yet: "


class _Superseded(Exception):
    """What was being done for a job is no longer what is to be done."""


@dataclass(frozen=True)
class _Trouble:
    """What the store has against the files of one job, and when they are tried again."""

    problem: str
    failures: int
    until: float


class Uploader:
    """One loop. The local file is never touched before the store has proven that it has all of it."""

    def __init__(
        self, settings: Settings, store: JobStore, bus: EventBus, library: Library, storage: ObjectStorage
    ) -> None:
        assert library.outbox is not None
        self._settings = settings
        self._store = store
        self._bus = bus
        self._library = library
        self._outbox: Outbox = library.outbox
        self._storage = storage
        self._failures = 0
        self._checked_at: float | None = None
        self._troubles: dict[str, _Trouble] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._loop())
        self._task.add_done_callback(_tell_end)

    async def stop(self) -> None:
        """End; what is under way is gone on with by the next run."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._storage.close()

    async def _loop(self) -> None:
        while True:
            pause = LOOK_SECONDS
            try:
                await self._round()
                self._failures = 0
            except StorageUnavailable as error:
                self._failures += 1
                pause = self._delay(self._failures)
                await self._failed(error.detail, pause)
            except BackendError as error:
                self._failures += 1
                pause = self._delay(self._failures)
                log.warning("Copies cannot be noted", error=error.code, detail=error.detail)
            except OSError as error:
                self._failures += 1
                pause = self._delay(self._failures)
                await self._failed(f"Object storage: the downloads folder cannot be used ({error.strerror}).", pause)
            await asyncio.sleep(pause)

    def _delay(self, failures: int) -> float:
        settings = self._settings
        longest = settings.retry_max_delay_seconds
        delay = min(longest, settings.retry_delay_seconds * 2.0 ** min(failures - 1, 20))
        return max(LOOK_SECONDS, delay * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    # --- one round ----------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        """Do what waits. Raises ``StorageUnavailable`` when the store as a whole does not work."""
        asked = await self._check()
        waiting = await asyncio.to_thread(self._outbox.pending)
        self._forget_all_but({pending.job_id for pending in waiting})
        done = 0
        for pending in waiting:
            if not self._rests(pending.job_id) and await asyncio.to_thread(self._outbox.claim, pending.job_id):
                async with self._held(pending.job_id):
                    await self._attempt(pending)
                done += 1
        if asked or done:
            problem = next((trouble.problem for trouble in self._troubles.values()), None)
            await asyncio.to_thread(self._outbox.note_problem, problem)

    async def _check(self) -> bool:
        """Ask the store whether all is well: once at the start, and as long as it was not; say whether it was asked."""
        now = time.monotonic()
        had_problem = await asyncio.to_thread(self._outbox.problem) is not None
        is_due = self._checked_at is None or (had_problem and now - self._checked_at > CHECK_SECONDS)
        if is_due or self._failures:
            self._checked_at = now
            await self._storage.check()
        return is_due or self._failures > 0

    async def _attempt(self, pending: Pending) -> None:
        """Do what is to be done for one job; one that the store does not take keeps no other from being copied."""
        try:
            with contextlib.suppress(_Superseded):
                await self._do(pending)
            self._troubles.pop(pending.job_id, None)
        except StorageUnavailable as error:
            # When it is the store that does not work, this raises, and nothing else is tried until it does.
            await self._storage.check()
            known = self._troubles.get(pending.job_id)
            failures = 1 if known is None else known.failures + 1
            delay = self._delay(failures)
            self._troubles[pending.job_id] = _Trouble(error.detail, failures, time.monotonic() + delay)
            log.warning(
                "A job's files are not copied", job_id=pending.job_id, problem=error.detail, retry_seconds=delay
            )
            if not pending.remove:
                await self._notice(pending.job_id, error.detail)

    def _rests(self, job_id: str) -> bool:
        trouble = self._troubles.get(job_id)
        return trouble is not None and trouble.until > time.monotonic()

    def _forget_all_but(self, job_ids: Collection[str]) -> None:
        self._troubles = {job_id: trouble for job_id, trouble in self._troubles.items() if job_id in job_ids}

    @contextlib.asynccontextmanager
    async def _held(self, job_id: str) -> AsyncIterator[None]:
        """Keep a claim, however long what is done under it takes, and give it back."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(KEEP_SECONDS)
                await asyncio.to_thread(self._outbox.keep, job_id)

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await asyncio.to_thread(self._outbox.release, job_id)

    async def _failed(self, problem: str, pause: float) -> None:
        log.warning("Object storage does not work; files stay where they are", problem=problem, retry_seconds=pause)
        try:
            await asyncio.to_thread(self._outbox.note_problem, problem)
            for pending in await asyncio.to_thread(self._outbox.pending):
                if not pending.remove:
                    await self._notice(pending.job_id, problem)
        except (BackendError, OSError) as error:
            log.warning("The problem with object storage cannot be noted", error=str(error))

    # --- the files of one job -----------------------------------------------------------------------------------

    async def _do(self, pending: Pending) -> None:
        job = await self._job(pending.job_id)
        if pending.remove:
            for name, _ in pending.files:
                await self._storage.remove(self._storage.key(pending.job_id, name))
            if job is not None:
                await self._tell(job, {name: None for name, _ in pending.files})
            log.info("Deleted copies in object storage", job_id=pending.job_id, files=len(pending.files))
        elif job is not None and job.state not in FINISHED:
            # Its runner has published the files and is about to say so.
            return
        else:
            await self._copy_all(pending)
        await asyncio.to_thread(self._outbox.drop, pending)

    async def _copy_all(self, pending: Pending) -> None:
        keys = await asyncio.to_thread(self._library.copies, pending.job_id)
        for name, kind in pending.files:
            if await self._copy(pending, name, kind):
                keys[name] = self._storage.key(pending.job_id, name)
        await asyncio.to_thread(self._still, pending)
        await asyncio.to_thread(self._library.note_copies, pending.job_id, keys)
        job = await self._job(pending.job_id)
        if job is not None:
            await self._tell(job, keys)
        log.info("Copied files to object storage", job_id=pending.job_id, files=len(keys))
        if not self._settings.s3_keep_local:
            await asyncio.to_thread(self._library.delete_copied, pending.job_id)

    async def _copy(self, pending: Pending, name: str, kind: str) -> bool:
        """Copy one file; say whether it was there to be copied."""

        async def report(_: int) -> None:
            await asyncio.to_thread(self._still, pending)

        file = await asyncio.to_thread(self._library.open_to_copy, pending.job_id, name)
        if file is None:
            return False
        told = kind if inline_type(kind) else "application/octet-stream"
        key = self._storage.key(pending.job_id, name)
        try:
            await self._storage.store(Upload(file, key, told, content_disposition(name, inline=False)), report)
        finally:
            await asyncio.to_thread(file.close)
        return True

    def _still(self, pending: Pending) -> None:
        """See that nobody has asked for something else meanwhile."""
        if self._outbox.read(pending.job_id) != pending:
            raise _Superseded

    # --- what is told -------------------------------------------------------------------------------------------

    async def _job(self, job_id: str) -> Job | None:
        try:
            return await self._store.get(job_id)
        except JobError:
            # It has left the list; its files and their record stay.
            return None

    async def _tell(self, job: Job, keys: Mapping[str, str | None]) -> None:
        artifacts = tuple(
            one.model_copy(update={"object_key": keys.get(one.name, one.object_key)}) for one in job.artifacts
        )
        notices = tuple(notice for notice in job.notices if not notice.startswith(NOTICE))
        await self._change(job, {"artifacts": artifacts, "notices": notices})

    async def _notice(self, job_id: str, problem: str) -> None:
        job = await self._job(job_id)
        if job is None or job.state not in FINISHED:
            return
        others = tuple(notice for notice in job.notices if not notice.startswith(NOTICE))
        await self._change(job, {"notices": (*others, NOTICE + problem)})

    async def _change(self, job: Job, facts: Mapping[str, object]) -> None:
        if all(getattr(job, name) == value for name, value in facts.items()):
            return
        with contextlib.suppress(JobError):
            changed = await self._store.change(job.id, Change(facts=facts, expected={job.state}))
            await self._bus.publish(JobEvent(job=changed))


def _tell_end(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("Nothing is copied to object storage any more: restart the program", exc_info=error)
