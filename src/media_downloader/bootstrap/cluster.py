"""What runs on many machines: the pieces that share their jobs through Redis. Imported in that mode only."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from media_downloader.bootstrap.objects import uploader_of, with_outbox
from media_downloader.downloader.process import Zygote
from media_downloader.errors import ConfigurationError, StoreUnavailable
from media_downloader.job_log import JobLogs
from media_downloader.library import SHARED_PREFIX, Library
from media_downloader.netguard import Policy
from media_downloader.ports import Engine, EventBus, JobStore
from media_downloader.reaper import Reaper
from media_downloader.runner import Runner, RunnerDeps
from media_downloader.scheduler import Scheduler
from media_downloader.settings import Settings
from media_downloader.space import SpaceLedger
from media_downloader.tools import Tools
from media_downloader.volume import check_volume, open_volume

if TYPE_CHECKING:
    from media_downloader.engines.worker_registry import WorkerRegistry
    from media_downloader.uploader import Uploader

log = structlog.get_logger(__name__)

#: Between two looks at a Redis that is waited for.
WAIT_SECONDS = 2.0
#: How long Redis may take to answer a question about itself.
LOOK_SECONDS = 3.0
#: Connections of the registry; its calls are few and small.
REGISTRY_CONNECTIONS = 2
#: How long a process waits at a job's end until its news are out.
FLUSH_SECONDS = 1.0


@dataclass
class Backends:
    """What every member of a cluster shares with the others."""

    store: JobStore
    bus: EventBus
    library: Library
    job_logs: JobLogs


def shared_library(settings: Settings) -> Library:
    """Return the library on the volume that all members mount."""
    return with_outbox(settings, Library(settings.downloads_dir, prefix=SHARED_PREFIX))


def shared_job_logs(settings: Settings) -> JobLogs:
    """Return the job logs, which are on the volume too: whoever is asked must find them."""
    return JobLogs(settings.downloads_dir / ".media-downloader" / "job-logs")


def redis_url(settings: Settings) -> str:
    """Return the address of Redis. Raises ``ConfigurationError`` when there is none."""
    if settings.redis_url is None:
        raise ConfigurationError("REDIS_URL is not set.")
    return settings.redis_url.get_secret_value()


def shared_backends(settings: Settings, *, listens: bool = True) -> Backends:
    """Return store, bus and files of the cluster, not opened. Who does not listen to news only tells them."""
    from media_downloader.bus.redis import RedisEventBus
    from media_downloader.stores.redis import RedisJobStore

    url = redis_url(settings)
    return Backends(
        RedisJobStore(url), RedisEventBus(url, listens=listens), shared_library(settings), shared_job_logs(settings)
    )


def registry_of(settings: Settings) -> "WorkerRegistry":
    """Return the registry of workers."""
    from media_downloader.engines.worker_registry import WorkerRegistry
    from media_downloader.redis_client import connect

    url = redis_url(settings)
    return WorkerRegistry(lambda: connect(url, connections=REGISTRY_CONNECTIONS))


async def look_at_redis(settings: Settings) -> int:
    """See whether Redis will do, change nothing, and return how many workers live.

    Raises ``ConfigurationError`` and ``BackendError``.
    """
    from media_downloader.redis_client import RedisError, connect, explain
    from media_downloader.stores.redis_opening import inspect

    client = connect(redis_url(settings), connections=1)
    registry = registry_of(settings)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await inspect(client)
        return sum(worker.alive for worker in await registry.workers())
    except TimeoutError:
        raise StoreUnavailable(explain(None)) from None
    except RedisError as error:
        raise StoreUnavailable(explain(error)) from None
    finally:
        await registry.close()
        await client.aclose(close_connection_pool=True)


async def open_cluster_once(settings: Settings) -> None:
    """See whether Redis can be used, and that the volume is that of its members.

    Raises ``StoreUnavailable`` for a Redis that cannot be used now, and ``ConfigurationError`` for one that will never
    do, and for another volume.
    """
    backends = shared_backends(settings, listens=False)
    backends.library.open()
    await backends.store.open()
    try:
        await open_volume(backends.store, backends.library)
    finally:
        await backends.store.close()


async def until_cluster_opens(settings: Settings) -> None:
    """Wait for Redis as long as it takes. Raises ``ConfigurationError`` as above."""
    while True:
        try:
            return await open_cluster_once(settings)
        except StoreUnavailable as error:
            log.warning("Waiting for Redis", problem=error.detail)
            await asyncio.sleep(WAIT_SECONDS)


def celery_engine(settings: Settings) -> Engine:
    """Return the engine that rings doorbells at workers."""
    from media_downloader.engines.celery import CeleryEngine
    from media_downloader.engines.celery_app import make_app

    return CeleryEngine(make_app(settings.broker_url()), registry_of(settings))


@dataclass
class RunnerContainer:
    """What one process of a worker's pool needs to run jobs."""

    backends: Backends
    zygote: Zygote
    #: Takes a job from claim to verdict.
    run: Callable[[str], Awaitable[None]]
    #: Sends what was told but not sent yet; between two jobs the process's loop stands still.
    flush: Callable[[], Awaitable[bool]]
    registry: "WorkerRegistry"
    connected: bool = False

    def start(self) -> None:
        """Start the zygote; call it from the thread that lives as long as the process."""
        self.zygote.start()

    async def connect(self) -> None:
        """Make ready to run a job: a process may be started while Redis or the volume is away, and lose them later.

        Raises ``ConfigurationError`` and ``BackendError``; it may be called again.
        """
        backends = self.backends
        if self.connected:
            # A store that is away is the claim's matter.
            with contextlib.suppress(StoreUnavailable):
                await check_volume(backends.store, backends.library)
            return
        backends.library.open()
        await backends.store.open()
        await open_volume(backends.store, backends.library)
        await backends.bus.open()
        self.connected = True

    async def stop(self) -> None:
        """Let go of everything."""
        await self.zygote.stop()
        await self.registry.close()
        await self.backends.bus.close()
        await self.backends.store.close()


def bootstrap_runner(settings: Settings) -> RunnerContainer:
    """Build what runs jobs in one process of a worker."""
    backends = shared_backends(settings, listens=False)
    tools = Tools(settings)
    private = _private_dir(settings)
    zygote = Zygote(private / "zygote")
    library = backends.library
    deps = RunnerDeps(
        settings=settings,
        store=backends.store,
        bus=backends.bus,
        library=library,
        zygote=zygote,
        policy=Policy.parse(settings.allow_private_addresses, settings.allowed_endpoints),
        space=SpaceLedger(library.free_bytes, settings.min_free_bytes),
        job_logs=backends.job_logs,
        owner=f"worker:{socket.gethostname()}:{uuid4().hex}:",
        ffmpeg=tools.ffmpeg.path,
    )
    return RunnerContainer(backends, zygote, Runner(deps).run, _flush_of(backends.bus), registry_of(settings))


def _flush_of(bus: EventBus) -> Callable[[], Awaitable[bool]]:
    from media_downloader.bus.redis import RedisEventBus

    assert isinstance(bus, RedisEventBus)
    return lambda: bus.flush(FLUSH_SECONDS)


def _private_dir(settings: Settings) -> Path:
    """Return this machine's own folder; nothing in it is shared."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.data_dir


@dataclass
class StationContainer:
    """What a worker's main process does beside: hand out jobs, keep house, tell that it lives."""

    backends: Backends
    engine: Engine
    scheduler: Scheduler
    reaper: Reaper
    registry: "WorkerRegistry"
    #: None without object storage.
    uploader: "Uploader | None" = None

    async def start(self) -> None:
        """Begin; what other members run is left alone."""
        self.backends.library.open()
        await self.backends.store.open()
        await open_volume(self.backends.store, self.backends.library)
        await self.backends.bus.open()
        await self.reaper.recover(alone=False)
        await self.engine.start(_nothing)
        await self.reaper.start()
        if self.uploader is not None:
            await self.uploader.start()
        await self.scheduler.start()

    async def problems(self) -> tuple[str, ...]:
        """Say why no job should be handed to this worker; empty when all is well."""
        try:
            await check_volume(self.backends.store, self.backends.library)
        except ConfigurationError as error:
            return (error.detail,)
        return ()

    async def stop(self) -> None:
        """End, highest first."""
        await self.scheduler.stop()
        if self.uploader is not None:
            await self.uploader.stop()
        await self.reaper.stop()
        await self.engine.stop()
        await self.registry.close()
        await self.backends.bus.close()
        await self.backends.store.close()


def bootstrap_station(settings: Settings) -> StationContainer:
    """Build what a worker's main process runs."""
    backends = shared_backends(settings)
    engine = celery_engine(settings)
    space = SpaceLedger(backends.library.free_bytes, settings.min_free_bytes)
    return StationContainer(
        backends,
        engine,
        Scheduler(settings, backends.store, backends.bus, engine, space),
        Reaper(settings, backends.store, backends.bus, backends.library, backends.job_logs),
        registry_of(settings),
        uploader_of(settings, backends.store, backends.bus, backends.library),
    )


async def _nothing(_job_id: str) -> None:
    """Jobs of a cluster are run by its workers' pool processes."""
