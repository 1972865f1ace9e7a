"""Settings to a running container; the only module that picks implementations."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog

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

log = structlog.get_logger(__name__)

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
    power: PowerRecord
    started: bool = False

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
        await self.bus.open()
        distrust_tail = self.power.begin()
        self.zygote.start()
        await self.reaper.recover(store_is_new=getattr(self.store, "is_new", False))
        await self.engine.start(Runner(self._runner_deps(distrust_tail)).run)
        await self.reaper.start()

    async def stop(self) -> None:
        """Stop everything, highest first; running jobs go back to the queue with their bytes."""
        await self.scheduler.stop()
        await self.reaper.stop()
        await self.engine.stop()
        await self.zygote.stop()
        await self.bus.close()
        await self.store.close()
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
            meters=self.meters,
            job_logs=self.job_logs,
            owner=f"local:{uuid4().hex}:",
            ffmpeg=self.tools.ffmpeg.path,
            distrust_tail=distrust_tail,
        )


def bootstrap(settings: Settings, work_dir: Path | None = None) -> Container:
    """Build the container; nothing is opened or started yet. Raises ``ConfigurationError``.

    Work folders are in the downloads folder, or in ``work_dir`` on the same filesystem.
    """
    policy = Policy.parse(settings.allow_private_addresses, settings.allowed_endpoints)
    library = Library(settings.downloads_dir, work_dir)
    store = SqliteJobStore(settings.data_dir / DATABASE_NAME)
    bus = MemoryEventBus()
    meters = Meters()
    tools = Tools(settings)
    zygote = Zygote(settings.data_dir / "zygote")
    engine = LocalEngine(settings.max_concurrent_downloads)
    job_logs = JobLogs(settings.data_dir / "job-logs")
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
        overview=Overview(OverviewDeps(settings, store, library, meters, tools, zygote)),
        meters=meters,
        tools=tools,
        space=space,
        inquiry=inquiry,
        job_logs=job_logs,
        power=PowerRecord(settings.data_dir / "power.json"),
    )
