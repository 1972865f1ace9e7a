"""Which queued job goes next: hands ids to the engine while it has capacity; shared by every engine."""

import asyncio
import contextlib
import time
from collections.abc import Collection

import structlog

from media_downloader.errors import EngineUnavailable, MediaDownloaderError
from media_downloader.jobs.model import Job, JobEvent, QueueEvent, QueueState
from media_downloader.jobs.state import RUNNING
from media_downloader.jobs.waiting import QueueFacts
from media_downloader.ports import Engine, Envelope, EventBus, JobStore, Reset
from media_downloader.settings import Settings
from media_downloader.space import SpaceLedger

log = structlog.get_logger(__name__)

#: The queue is looked at this often even when nobody says that something changed.
LOOK_SECONDS = 1.0
#: How old may be what events tell of the queue.
FACTS_SECONDS = 0.1
#: How long a submitted job may take to be claimed before it is submitted again.
CLAIM_SECONDS = 3.0
#: How long the next job waits for that.
CLAIM_LOOK_SECONDS = 0.2
#: A queue that was paused by a full disk goes on when this much more than the floor is free.
DISK_MARGIN = 1.1


class Scheduler:
    """One loop. Several in several servers do no harm: the claim decides."""

    def __init__(self, settings: Settings, store: JobStore, bus: EventBus, engine: Engine, space: SpaceLedger) -> None:
        self._settings = settings
        self._store = store
        self._bus = bus
        self._engine = engine
        self._space = space
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._submitted: dict[str, float] = {}
        #: Set whenever one of those has been claimed.
        self._claimed = asyncio.Event()
        self._facts: tuple[float, QueueFacts] | None = None
        self._asking_facts = asyncio.Lock()

    async def start(self) -> None:
        """Begin to hand out jobs."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._loop())]

    async def stop(self) -> None:
        """Hand out no more jobs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    async def recent_facts(self) -> QueueFacts:
        """Return the same, at most a moment old: many events in a row ask the store once, not once each."""
        async with self._asking_facts:
            if self._facts is None or time.monotonic() - self._facts[0] > FACTS_SECONDS:
                # Their age counts from before they were asked for.
                self._facts = (time.monotonic(), await self.facts())
            return self._facts[1]

    async def facts(self) -> QueueFacts:
        """Return what decides over queued jobs now, for ``why_waiting``."""
        cooldowns = {cooldown.site: cooldown.until for cooldown in await self._store.cooldowns()}
        return QueueFacts(
            now=await self._store.now(),
            queue=await self._store.queue_state(),
            free_slots=await self._engine.free_slots(),
            max_per_site=self._settings.max_per_site,
            running_by_site=await self._store.running_by_site(),
            cooldown_until=cooldowns,
        )

    async def _listen(self) -> None:
        """Wake up when a job or the queue changed; progress changes nothing here."""
        async for news in self._bus.subscribe():
            if isinstance(news, Reset) or isinstance(news.event, JobEvent | QueueEvent):
                self._wake.set()
            if isinstance(news, Envelope) and isinstance(news.event, JobEvent) and news.event.job.state in RUNNING:
                # Claimed: when it comes back to the queue, it is handed out again at once.
                self._submitted.pop(news.event.job.id, None)
                self._claimed.set()

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._resume_after_disk()
                await self._fill()
            except MediaDownloaderError as error:
                log.warning("The scheduler cannot work", error=error.code, detail=error.detail)
            except Exception:
                log.exception("The scheduler failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)

    async def _fill(self) -> None:
        """Submit jobs until the slots are taken or nothing more may run."""
        if not await self._engine.has_turn():
            return
        if await self._engine.free_slots() <= 0 or (await self._store.queue_state()).paused:
            return
        running = dict(await self._store.running_by_site())
        while await self._engine.free_slots() > 0:
            job = await self._next(running)
            if job is None:
                return
            # Before it is handed over: the news of its claim may be here sooner than the answer.
            self._submitted[job.id] = time.monotonic()
            try:
                await self._engine.submit(job.id, job.attempt)
            except EngineUnavailable:
                self._submitted.pop(job.id, None)
                return
            await self._until_claimed(job.id)
            running[job.site] = running.get(job.site, 0) + 1

    async def _next(self, running: dict[str, int]) -> Job | None:
        full: Collection[str] = {site for site, jobs in running.items() if jobs >= self._settings.max_per_site}
        # One that was submitted and not claimed yet must not keep those behind it waiting.
        return await self._store.next_due(full, self._just_submitted())

    async def _until_claimed(self, job_id: str) -> None:
        """Give the runner a moment to claim, so that the next look finds the slot taken and the site's count right."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_LOOK_SECONDS):
                while job_id in self._submitted:
                    self._claimed.clear()
                    await self._claimed.wait()

    def _just_submitted(self) -> Collection[str]:
        now = time.monotonic()
        self._submitted = {known: at for known, at in self._submitted.items() if now - at < CLAIM_SECONDS}
        return self._submitted

    async def _resume_after_disk(self) -> None:
        state = await self._store.queue_state()
        if not (state.paused and state.reason == "disk"):
            return
        if self._space.free_bytes() >= self._settings.min_free_bytes * DISK_MARGIN:
            # Not when the user has paused it meanwhile.
            if not await self._store.set_queue_state(QueueState(), expected=state):
                return
            await self._bus.publish(QueueEvent(queue=QueueState()))
            log.info("There is room on the disk again: the queue goes on")
