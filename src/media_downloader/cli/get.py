"""Downloads links here and now, through the same service and runner as the server. Ctrl-C pauses."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.cli.render import plain
from media_downloader.errors import MediaDownloaderError, OptionRejected
from media_downloader.jobs.model import Job
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import FINISHED, Action, State
from media_downloader.logs import configure_logging
from media_downloader.ports import JobQuery
from media_downloader.service import AddRequest
from media_downloader.settings import Settings

#: Exit code after Ctrl-C, as shells know it.
INTERRUPTED = 130
FAILED = 1
LOOK_SECONDS = 0.2
#: How long a pause may take before the program ends all the same; nothing is lost by that.
PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Order:
    """What was asked for."""

    urls: list[str]
    options: Mapping[str, Any]
    settings: Settings


def download(order: Order) -> int:
    """Download every link; return the exit code. Paths of files go to standard output, all else to standard error."""
    try:
        options = JobOptions.model_validate(dict(order.options))
    except ValidationError as error:
        raise OptionRejected("; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())) from None
    # A database of its own beside the files: it never meets a running server's, and a second `get` finds the first's.
    own = order.settings.downloads_dir / ".media-downloader" / "get"
    settings = order.settings.model_copy(update={"data_dir": own, "log_level": "error"})
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    configure_logging(settings)
    logging.getLogger().setLevel(logging.CRITICAL)
    return asyncio.run(_Session(bootstrap(settings), order.urls, options).run())


class _Session:
    """One run of the command."""

    def __init__(self, container: Container, urls: list[str], options: JobOptions) -> None:
        self._container = container
        self._service = container.service
        self._urls = urls
        self._options = options
        self._interrupted = asyncio.Event()
        self._screen = Console(stderr=True)
        self._bars: dict[str, TaskID] = {}

    async def run(self) -> int:
        """Start the container, follow the jobs, and stop it again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted.set)
        await self._container.start()
        try:
            ids = [await self._job_for(url) for url in self._urls]
            return await self._follow(ids)
        finally:
            await self._container.stop()

    async def _job_for(self, url: str) -> str:
        """Return the job for a link: one that was begun before goes on."""
        known = await self._unfinished(url)
        if known is None:
            outcome = await self._service.add(AddRequest([url], self._options))
            return outcome.jobs[0].id
        if known.state is State.PAUSED:
            await self._service.act(known.id, Action.RESUME)
        elif known.state is State.ERROR:
            await self._service.act(known.id, Action.RETRY)
        if known.progress.percent:
            self._say(f"Resuming at {known.progress.percent:.0f} %: {known.media.title or url}")
        return known.id

    async def _unfinished(self, url: str) -> Job | None:
        states = [state for state in State if state not in {State.DONE, State.CANCELED}]
        query = JobQuery(states=states, limit=500)
        while True:
            views, cursor = await self._service.find(query)
            for view in views:
                if view.job.url == url and view.job.options == self._options and view.job.parent_id is None:
                    return view.job
            if cursor is None:
                return None
            query = JobQuery(states=states, limit=500, cursor=cursor)

    async def _follow(self, ids: list[str]) -> int:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self._screen, disable=not self._screen.is_terminal) as bars:
            while True:
                jobs = [(await self._service.get(job_id)).job for job_id in ids]
                for job in jobs:
                    self._draw(bars, job)
                if all(job.state in FINISHED for job in jobs):
                    break
                if self._interrupted.is_set():
                    await self._pause(ids)
                    self._say("Paused. Run the same command again to continue.")
                    return INTERRUPTED
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._interrupted.wait(), LOOK_SECONDS)
        return await self._report(jobs)

    def _draw(self, bars: Progress, job: Job) -> None:
        if job.id not in self._bars:
            self._bars[job.id] = bars.add_task("", total=None)
        told = plain(job.media.title or job.url)[:50].replace("[", "(")
        bars.update(
            self._bars[job.id],
            description=f"{job.state} {told}",
            completed=job.progress.downloaded_bytes,
            total=job.progress.total_bytes,
        )

    async def _pause(self, ids: list[str]) -> None:
        for job_id in ids:
            with contextlib.suppress(MediaDownloaderError):
                await self._service.act(job_id, Action.PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_SECONDS):
                for job_id in ids:
                    await self._until_left(job_id)

    async def _until_left(self, job_id: str) -> None:
        """Wait until nobody runs the job any more."""
        while True:
            if (await self._service.get(job_id)).job.owner is None:
                return
            await asyncio.sleep(0.05)

    async def _report(self, jobs: list[Job]) -> int:
        code = 0
        for job in jobs:
            for one in await self._with_children(job):
                if one.state is State.DONE:
                    for artifact in one.artifacts:
                        typer.echo(str(self._container.library.downloads_dir / artifact.name))
                    continue
                code = FAILED
                failure = one.failure
                self._say(f"{one.state}: {plain(one.media.title or one.url)}")
                if failure is not None:
                    self._say(f"  {failure.kind}: {plain(failure.message)}")
                    if failure.hint:
                        self._say(f"  {failure.hint}")
        return code

    async def _with_children(self, job: Job) -> list[Job]:
        if not job.is_playlist:
            return [job]
        query = JobQuery(parent_id=job.id, sort="created_at", limit=500)
        children: list[Job] = []
        while True:
            views, cursor = await self._service.find(query)
            children += [view.job for view in views]
            if cursor is None:
                return children
            query = JobQuery(parent_id=job.id, sort="created_at", limit=500, cursor=cursor)

    def _say(self, text: str) -> None:
        if self._screen.is_terminal:
            self._screen.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)  # noqa: T201 - the command's own output
