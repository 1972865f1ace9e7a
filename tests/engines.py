"""Engines with everything that they need to run, for the tests of their contract and of each one's own promises."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from media_downloader.engines.celery import CeleryEngine
from media_downloader.engines.celery_app import make_app
from media_downloader.engines.worker_registry import WorkerRegistry
from media_downloader.ports import Engine
from media_downloader.redis_client import connect
from tests.cluster import READY_SECONDS, WorkerProcess
from tests.program import ROOT, Program, wait_until
from tests.redis_server import RedisServer
from tests.work import LOOK_SECONDS

#: Slots of every engine here.
SLOTS = 3
#: Generous: the machine may be busy with other tests.
PATIENCE_SECONDS = 10.0


@dataclass
class Workplace:
    """A Redis and a real worker with ``SLOTS`` prefork processes, which run ``tests.work`` in ``folder``."""

    redis: RedisServer
    worker: WorkerProcess
    folder: Path

    def engine(self, broker_url: str | None = None) -> CeleryEngine:
        """Return an engine that rings at this worker, not started."""
        registry = WorkerRegistry(lambda: connect(self.redis.tcp_url, connections=2))
        return CeleryEngine(make_app(broker_url or self.redis.tcp_url), registry)

    async def until_idle(self) -> None:
        """Wait until nothing runs and nothing is on its way."""
        engine = self.engine()
        await engine.start(_nothing)
        await until_free(engine, SLOTS)
        await engine.stop()


async def until(check: Callable[[], bool]) -> None:
    """Return once it is true; nobody announces what happens in another process."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)


async def until_free(engine: Engine, slots: int) -> None:
    """Return once the engine has exactly so many free slots."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await engine.free_slots() != slots:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)


async def _nothing(_job_id: str) -> None:
    """Run nothing: a worker has a runner of its own."""


@contextmanager
def open_workplace(folder: Path) -> Iterator[Workplace]:
    """Start Redis and the worker; nothing of them is left afterwards."""
    with RedisServer() as redis:
        place = Program(folder, mode="celery", redis_url=redis.tcp_url)
        place.client.close()
        environment = place.environment() | {"CELERY_WORKER_CONCURRENCY": str(SLOTS), "PYTHONPATH": str(ROOT)}
        worker = WorkerProcess(folder, environment, ("tests.scripted_worker", str(folder / "work")))
        worker.start()
        try:
            wait_until(lambda: "Worker is ready" in worker.log(), "the worker", READY_SECONDS)
            yield Workplace(redis, worker, folder / "work")
        finally:
            worker.close()
