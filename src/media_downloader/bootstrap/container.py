"""A server's container: everything that the API and the CLI stand on."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from media_downloader.bootstrap.cluster import Backends, celery_engine, shared_backends
from media_downloader.bootstrap.mode import Choice
from media_downloader.bootstrap.objects import storage_of, uploader_of, with_outbox
from media_downloader.bus.memory import MemoryEventBus
from media_downloader.downloader.inquiry import Inquiry
from media_downloader.downloader.process import Zygote
from media_downloader.engines.local import LocalEngine
from media_downloader.errors import ConfigurationError
from media_downloader.job_log import JobLogs
from media_downloader.library import Library
from media_downloader.meters import Meters
from media_downloader.netguard import Policy
from media_downloader.overview import Overview, OverviewDeps
from media_downloader.ports import Engine, EventBus, JobStore
from media_downloader.power import PowerRecord
from media_downloader.reaper import Reaper
from media_downloader.runner import Runner, RunnerDeps
from media_downloader.scheduler import Scheduler
from media_downloader.service import JobService, ServiceDeps
from media_downloader.settings import Settings
from media_downloader.space import SpaceLedger
from media_downloader.stores.sqlite import SqliteJobStore
from media_downloader.tools import Tools
from media_downloader.volume import open_volume

if TYPE_CHECKING:
    from media_downloader.objects import ObjectStorage
    from media_downloader.uploader import Uploader

log = structlog.get_logger(__name__)

LOCAL = Choice(celery=False)

DATABASE_NAME = "media-downloader.db"


@dataclass
class Container:
    """The program without a face: everything that the API and the CLI stand on."""

    settings: Settings
    policy: Policy
    store: JobStore
    bus: EventBus
    library: Library
    zygote: Zygote
    engine: Engine
    scheduler: Scheduler
    reaper: Reaper
    service: JobService
    overview: Overview
    meters: Meters
    tools: Tools
    space: SpaceLedger
    inquiry: Inquiry
    job_logs: JobLogs
    choice: Choice
    #: None in a cluster, whose jobs outlive this machine's power.
    power: PowerRecord | None
    #: Where files are that are no longer here; None without a bucket.
    storage: "ObjectStorage | None" = None
    #: None without a bucket, and in a cluster, whose workers copy.
    uploader: "Uploader | None" = None
    started: bool = False
    _counting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything, lowest first; what an earlier run left is set right before anything runs.

        Starting what runs already does nothing. Raises ``ConfigurationError`` and ``BackendError``.
        """
        if not self.started:
            await self.prepare()
            await self.scheduler.start()
            self.started = True

    async def prepare(self) -> None:
        """Start everything but the scheduler: jobs can be looked at and changed before the first one runs."""
        self.library.open()
        try:
            self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The data folder {self.settings.data_dir} cannot be made ({error.strerror}). "
                "Set MEDIA_DOWNLOADER_DATA_DIR to a folder that can."
            ) from None
        await self.store.open()
        await open_volume(self.store, self.library)
        await self.bus.open()
        self._counting = asyncio.create_task(self.meters.count(self.bus))
        distrust_tail = self.power.begin() if self.power is not None else False
        self.zygote.start()
        await self.reaper.recover(alone=not self.choice.celery)
        await self.engine.start(Runner(self._runner_deps(distrust_tail)).run)
        await self.reaper.start()
        if self.uploader is not None:
            await self.uploader.start()

    async def stop(self) -> None:
        """Stop everything, highest first; running jobs go back to the queue with their bytes."""
        await self.scheduler.stop()
        if self.uploader is not None:
            await self.uploader.stop()
        if self.storage is not None:
            await self.storage.close()
        await self.reaper.stop()
        await self.engine.stop()
        await self.zygote.stop()
        await self.bus.close()
        if self._counting is not None:
            await self._counting
        await self.store.close()
        if self.power is not None:
            await asyncio.to_thread(self.power.end)
        self.library.close()
        self.started = False

    def _runner_deps(self, distrust_tail: bool) -> RunnerDeps:
        return RunnerDeps(
            settings=self.settings,
            store=self.store,
            bus=self.bus,
            library=self.library,
            zygote=self.zygote,
            policy=self.policy,
            space=self.space,
            job_logs=self.job_logs,
            owner=f"local:{uuid4().hex}:",
            ffmpeg=self.tools.ffmpeg.path,
            distrust_tail=distrust_tail,
        )


def bootstrap(settings: Settings, choice: Choice = LOCAL, work_dir: Path | None = None) -> Container:
    """Build the container; nothing is opened or started yet. Raises ``ConfigurationError``.

    Work folders are in the downloads folder, or in ``work_dir`` on the same filesystem.
    """
    backends, engine = _cluster(settings) if choice.celery else _one_machine(settings, work_dir)
    library, store, bus, job_logs = backends.library, backends.store, backends.bus, backends.job_logs
    policy = Policy.parse(settings.allow_private_addresses, settings.allowed_endpoints)
    meters = Meters()
    tools = Tools(settings)
    zygote = Zygote(settings.data_dir / "zygote")
    space = SpaceLedger(library.free_bytes, settings.min_free_bytes)
    scheduler = Scheduler(settings, store, bus, engine, space)
    inquiry = Inquiry(settings, zygote, policy, tools.ffmpeg.path)
    service = JobService(
        ServiceDeps(
            settings,
            store,
            bus,
            library,
            inquiry,
            policy,
            job_logs,
            queue_facts=scheduler.facts,
            recent_queue_facts=scheduler.recent_facts,
        )
    )
    return Container(
        settings=settings,
        policy=policy,
        store=store,
        bus=bus,
        library=library,
        zygote=zygote,
        engine=engine,
        scheduler=scheduler,
        reaper=Reaper(settings, store, bus, library, job_logs),
        service=service,
        overview=Overview(
            OverviewDeps(settings, store, library, meters, tools, zygote, engine, choice.name, choice.problem)
        ),
        meters=meters,
        tools=tools,
        space=space,
        inquiry=inquiry,
        job_logs=job_logs,
        choice=choice,
        power=None if choice.celery else PowerRecord(settings.data_dir / "power.json"),
        storage=storage_of(settings),
        # ``get`` leaves it to the server of the same folder: it is gone as soon as its files are here.
        uploader=None if choice.celery or work_dir is not None else uploader_of(settings, store, bus, library),
    )


def _one_machine(settings: Settings, work_dir: Path | None) -> tuple[Backends, Engine]:
    return (
        Backends(
            SqliteJobStore(settings.data_dir / DATABASE_NAME),
            MemoryEventBus(),
            with_outbox(settings, Library(settings.downloads_dir, work_dir)),
            JobLogs(settings.data_dir / "job-logs"),
        ),
        LocalEngine(settings.max_concurrent_downloads),
    )


def _cluster(settings: Settings) -> tuple[Backends, Engine]:
    return shared_backends(settings), celery_engine(settings)
