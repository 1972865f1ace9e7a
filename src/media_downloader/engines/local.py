"""Runs jobs in this server: each slot is a task that supervises one download process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from media_downloader.errors import EngineUnavailable
from media_downloader.ports import WorkerInfo

log = structlog.get_logger(__name__)

#: How long running jobs may take to be put back when the server stops; the whole stop is to stay under 3 seconds.
STOP_SECONDS = 2.0


class LocalEngine:
    """A fixed number of slots in this process."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Submitted while they ran: their last attempt may have let go of the job before it was submitted.
        self._again: set[str] = set()
        self._run: Callable[[str], Awaitable[None]] | None = None

    async def start(self, run: Callable[[str], Awaitable[None]]) -> None:
        """Make ready; ``run`` takes a job from claim to verdict."""
        self._run = run

    async def stop(self) -> None:
        """Stop what runs here; the runners put their jobs back in the queue."""
        self._run = None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            if late:
                log.warning("Jobs were not put back in time; the next start does it", count=len(late))

    async def workers(self) -> Sequence[WorkerInfo]:
        """Return none: jobs run here."""
        return []

    async def has_turn(self) -> bool:
        """Say yes: nobody else has these slots."""
        return True

    async def free_slots(self) -> int:
        """Return how many more jobs may be submitted now."""
        return self._slots - len(self._tasks) if self._run is not None else 0

    async def submit(self, job_id: str, attempts: int = 0) -> None:
        """Run the job in a slot. One that runs here already is run again when it has ended, in the same slot."""
        if job_id in self._tasks:
            self._again.add(job_id)
            return
        if self._run is None or await self.free_slots() <= 0:
            raise EngineUnavailable("All slots are taken or the server is stopping.")
        self._start(self._run, job_id)

    def _start(self, run: Callable[[str], Awaitable[None]], job_id: str) -> None:
        self._tasks[job_id] = asyncio.create_task(self._work(run, job_id), name=f"job-{job_id}")

    async def _work(self, run: Callable[[str], Awaitable[None]], job_id: str) -> None:
        try:
            await run(job_id)
        except Exception:
            log.exception("Runner failed", job_id=job_id)
        finally:
            self._tasks.pop(job_id, None)
            if job_id in self._again:
                self._again.discard(job_id)
                if self._run is not None:
                    self._start(self._run, job_id)
