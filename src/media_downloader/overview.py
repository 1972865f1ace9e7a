"""What the server says of itself: health, statistics, metrics."""

import asyncio
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from media_downloader import __version__
from media_downloader.downloader import landlock
from media_downloader.downloader.process import Zygote
from media_downloader.errors import BackendError, EngineUnavailable, MediaDownloaderError
from media_downloader.jobs.state import RUNNING, State
from media_downloader.library import Library
from media_downloader.meters import Meters
from media_downloader.ports import Engine, JobQuery, JobStore, WorkerInfo
from media_downloader.settings import Settings
from media_downloader.tools import Tools

#: Packages whose versions an operator wants to know.
PACKAGES = ("yt-dlp", "yt-dlp-ejs", "deno", "fastapi", "uvicorn")


@dataclass(frozen=True)
class Health:
    """The answer of ``/health``."""

    status: str
    mode: str
    downloads_directory: str
    exists: bool
    writable: bool
    free_bytes: int
    queue_depth: int
    running: int
    queue_paused: bool
    queue_paused_reason: str | None
    oldest_wait_seconds: float | None
    versions: Mapping[str, str]
    #: What works here, and for what does not, why and how to get it.
    features: Mapping[str, Any]
    #: Workers on this machine and others; none where downloads run in this server.
    workers: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OverviewDeps:
    """Where the facts are."""

    settings: Settings
    store: JobStore
    library: Library
    meters: Meters
    tools: Tools
    zygote: Zygote
    engine: Engine
    #: "local" or "celery", and why it is not the one that was hoped for.
    mode: str = "local"
    mode_problem: str | None = None


class Overview:
    """Gathers facts; changes nothing."""

    def __init__(self, deps: OverviewDeps) -> None:
        self._settings = deps.settings
        self._store = deps.store
        self._library = deps.library
        self._meters = deps.meters
        self._tools = deps.tools
        self._zygote = deps.zygote
        self._engine = deps.engine
        self._mode, self._mode_problem = deps.mode, deps.mode_problem
        self._live_streams = landlock.as_tool(unconfined_allowed=deps.settings.allow_unconfined_ffmpeg)
        self._versions = versions()

    async def health(self) -> Health:
        """Say how the server is. ``degraded`` names its problems; it still answers."""
        facts = await asyncio.to_thread(self._library.facts)
        problems = []
        if not facts.exists or not facts.writable:
            problems.append(f"The downloads directory {facts.directory} cannot be written.")
        elif facts.free_bytes < self._settings.min_free_bytes:
            problems.append(f"The disk is nearly full: {facts.free_bytes} bytes are free.")
        problems.extend(tool.problem for tool in self._tools.all() if tool.problem and tool.needed)
        problems.extend(problem for problem in (self._mode_problem, self._zygote.problem) if problem is not None)
        workers, told = await self._workers()
        problems.extend(told)
        if self._library.outbox is not None and (
            told_of_storage := await asyncio.to_thread(self._library.outbox.problem)
        ):
            problems.append(told_of_storage)
        counts: Mapping[State, int] = {}
        paused, reason, oldest = False, None, None
        try:
            counts = await self._store.counts()
            queue = await self._store.queue_state()
            paused, reason = queue.paused, queue.reason
            oldest = await self._oldest_wait_seconds()
        except BackendError as error:
            problems.append(f"The store does not answer: {error.detail}")
        if reason == "disk":
            problems.append("The queue is paused because the disk is full.")
        return Health(
            status="degraded" if problems else "ok",
            mode=self._mode,
            downloads_directory=str(facts.directory),
            exists=facts.exists,
            writable=facts.writable,
            free_bytes=facts.free_bytes,
            queue_depth=counts.get(State.QUEUED, 0),
            running=sum(counts.get(state, 0) for state in RUNNING),
            queue_paused=paused,
            queue_paused_reason=reason,
            oldest_wait_seconds=oldest,
            versions=self._versions,
            features={tool.name: tool.as_dict() for tool in (*self._tools.all(), self._live_streams)},
            workers=[asdict(worker) for worker in workers],
            problems=problems,
        )

    async def _workers(self) -> tuple[Sequence[WorkerInfo], list[str]]:
        """Return the workers, and what is wrong with them."""
        if self._mode == "local":
            return [], []
        try:
            workers = await self._engine.workers()
        except EngineUnavailable as error:
            return [], [error.detail]
        problems = [f"Worker {one.id}: {problem}" for one in workers for problem in one.problems]
        problems += [
            f"Worker {one.id} is silent since {one.heard_at:%H:%M:%S} UTC." for one in workers if not one.alive
        ]
        if not any(one.alive for one in workers):
            problems.append("No worker runs: nothing is downloaded. Start one with: media-downloader worker")
        return workers, problems

    async def ready(self) -> list[str]:
        """Return why no request should be sent here now; empty when all is well."""
        try:
            await self._store.queue_state()
        except MediaDownloaderError as error:
            return [error.detail]
        facts = await asyncio.to_thread(self._library.facts)
        return [] if facts.writable else [f"The downloads directory {facts.directory} cannot be written."]

    async def stats(self) -> dict[str, Any]:
        """Return what a page shows at its top: jobs by state, speed, disk, queue."""
        counts = await self._store.counts()
        queue = await self._store.queue_state()
        facts = await asyncio.to_thread(self._library.facts)
        return {
            "counts": {state.value: counts.get(state, 0) for state in State},
            "queue": queue.model_dump(mode="json"),
            "speed_bytes_per_second": self._meters.current_speed(),
            "downloaded_bytes": self._meters.total_downloaded_bytes(),
            "free_bytes": facts.free_bytes,
            "total_bytes": facts.total_bytes,
            "workers": [asdict(worker) for worker in (await self._workers())[0]],
            "cooldowns": [cooldown.model_dump(mode="json") for cooldown in await self._store.cooldowns()],
        }

    async def metrics(self) -> bytes:
        """Return everything in Prometheus' text format."""
        for state, count in (await self._store.counts()).items():
            self._meters.jobs.labels(state.value).set(count)
        facts = await asyncio.to_thread(self._library.facts)
        self._meters.free_bytes.set(facts.free_bytes)
        return self._meters.exposition()

    async def _oldest_wait_seconds(self) -> float | None:
        page = await self._store.find(JobQuery(states=(State.QUEUED,), sort="created_at", limit=1))
        if not page.jobs:
            return None
        return max(0.0, (await self._store.now() - page.jobs[0].created_at).total_seconds())


def versions() -> dict[str, str]:
    found = {"media-downloader": __version__, "python": sys.version.split()[0], "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
