"""Hands job ids to workers through a Celery broker: a message is a doorbell, the store is the truth."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError

from media_downloader.engines.celery_app import QUEUE, TASK
from media_downloader.engines.worker_registry import WorkerRegistry
from media_downloader.errors import EngineUnavailable
from media_downloader.ports import WorkerInfo

#: How long a member that could not send a message leaves its turn to the others.
MUTE_SECONDS = 5.0


class CeleryEngine:
    """Rings doorbells while workers have free slots; what a job is and whether it may run is the claim's matter."""

    def __init__(self, app: Celery, registry: WorkerRegistry) -> None:
        self._app = app
        self._registry = registry
        self._started = False
        self._member = uuid4().hex
        #: Until when it is another member's turn: this one cannot reach the broker.
        self._mute_until = 0.0

    async def start(self, run: Callable[[str], Awaitable[None]]) -> None:
        """Make ready. ``run`` is not called here: the workers have runners of their own."""
        self._started = True

    async def stop(self) -> None:
        """Ring no more. What runs on workers goes on."""
        if self._started:
            self._started = False
            with contextlib.suppress(EngineUnavailable):
                await self._registry.end_turn(self._member)
            await self._registry.close()
            await asyncio.to_thread(self._app.close)

    async def free_slots(self) -> int:
        """Return how many processes of live workers wait for a doorbell; 0 when nobody can tell."""
        if not self._started:
            return 0
        try:
            return await self._registry.free_slots()
        except EngineUnavailable:
            return 0

    async def workers(self) -> Sequence[WorkerInfo]:
        """Return the workers that were heard of lately. Raises ``EngineUnavailable``."""
        return await self._registry.workers()

    async def has_turn(self) -> bool:
        """Say whether this process is the one of all servers and workers that hands out jobs now."""
        if not self._started or time.monotonic() < self._mute_until:
            return False
        try:
            return await self._registry.take_turn(self._member)
        except EngineUnavailable:
            return False

    async def submit(self, job_id: str, attempts: int = 0) -> None:
        """Ring for the job, unless somebody has and it was not answered yet. Raises ``EngineUnavailable``."""
        if not self._started:
            raise EngineUnavailable("The server is stopping.")
        if not await self._registry.may_ring(job_id):
            return
        try:
            await asyncio.to_thread(self._send, job_id, attempts)
        except OperationalError as error:
            self._mute_until = time.monotonic() + MUTE_SECONDS
            await self._registry.forget_ring(job_id)
            await self._registry.end_turn(self._member)
            raise EngineUnavailable(f"The broker cannot be reached: {type(error).__name__}.") from None

    def _send(self, job_id: str, attempts: int) -> None:
        """The first message for a job bears its id, so that Celery's own tools show what people know."""
        task_id = job_id if attempts == 0 else f"{job_id}.{attempts}"
        self._app.send_task(TASK, args=[job_id], task_id=task_id, queue=QUEUE, ignore_result=True)
