"""Downloads links here and now, through the same service and runner as the server. Ctrl-C pauses."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.cli.render import moment, plain
from media_downloader.cli.screen import Screen, name_of
from media_downloader.errors import MediaDownloaderError, OptionRejected
from media_downloader.jobs.model import Job
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import FINISHED, RUNNING, Action, State
from media_downloader.jobs.waiting import WaitingFor
from media_downloader.library.library import GET
from media_downloader.logs import configure_logging
from media_downloader.netguard import check_url
from media_downloader.ports import JobQuery
from media_downloader.service import AddRequest, JobView
from media_downloader.settings import Settings

FAILED = 1
LOOK_SECONDS = 0.2
#: How long a pause may take before the program ends all the same; nothing is lost by that.
PAUSE_SECONDS = 5.0
#: The same for a live recording, which is asked to finish its file first. A second Ctrl-C ends it at once.
RECORDING_SECONDS = 65.0
#: Entries of a playlist that are looked at in one go.
SHOWN = 20


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
    # A database and work folders of its own beside the files: it never meets a running server's, and a second `get`
    # finds what the first one left.
    own = order.settings.downloads_dir / GET
    settings = order.settings.model_copy(update={"data_dir": own, "retention_days": None})
    configure_logging(settings)
    logging.getLogger().setLevel(logging.CRITICAL)
    with Screen() as screen:
        return asyncio.run(_Session(bootstrap(settings, work_dir=own / "work"), order.urls, options, screen).run())


class _Session:
    """One run of the command."""

    def __init__(self, container: Container, urls: list[str], options: JobOptions, screen: Screen) -> None:
        self._container = container
        self._service = container.service
        self._urls = urls
        self._options = options
        self._screen = screen
        self._interrupted = asyncio.Event()
        self._signal: signal.Signals | None = None
        #: Jobs whose end was told.
        self._told: set[str] = set()
        #: How many entries of a playlist had ended at the last look.
        self._ended: dict[str, int] = {}
        self._failed = False

    async def run(self) -> int:
        """Start the container, follow the jobs, and stop it again; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, number)
        if not await self._take_folder():
            return self._interrupted_code()
        await self._container.prepare()
        try:
            ids = [job_id for url in self._urls if (job_id := await self._job_for(url)) is not None]
            ids = list(dict.fromkeys(ids))
            await self._hold_others(ids)
            # Failed downloads that nobody came back for go, with their bytes.
            await self._container.reaper.cleanup(dry_run=False)
            await self._container.scheduler.start()
            if not await self._follow(ids) and not await self._pause(ids):
                return self._interrupted_code()
            if not self._failed:
                await self._forget(ids)
        finally:
            await self._container.stop()
        return FAILED if self._failed else 0

    def _interrupt(self, number: signal.Signals) -> None:
        self._signal = number
        self._interrupted.set()

    def _interrupted_code(self) -> int:
        """Return the exit code as shells know it: 130 after Ctrl-C."""
        return 128 + (self._signal or signal.SIGINT)

    async def _take_folder(self) -> bool:
        """Wait until no other ``get`` works in this folder; False when the user does not want to."""
        library = self._container.library
        library.prepare()
        while not library.lock():
            self._screen.say_once(
                "lock",
                f"Another get{library.lock_holder()} downloads into {library.downloads_dir}: waiting for it to end.",
            )
            if await self._pause_looking():
                return False
        return True

    async def _pause_looking(self) -> bool:
        """Wait a moment; say whether the user wants to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._interrupted.wait(), LOOK_SECONDS)
        return self._interrupted.is_set()

    # --- which jobs ---------------------------------------------------------------------------------------------

    async def _job_for(self, url: str) -> str | None:
        """Return the job for a link: one that was begun before goes on. None for a link that is refused."""
        try:
            known = await self._begun(check_url(url, self._container.policy))
            if known is None:
                outcome = await self._service.add(AddRequest([url], self._options))
                return outcome.jobs[0].id
        except OptionRejected:
            raise
        except MediaDownloaderError as error:
            self._failed = True
            self._screen.say(f"refused: {plain(url)}")
            self._screen.say(f"  {error.code}: {plain(error.detail)}")
            return None
        # A playlist can need both: entries that were paused, and entries that failed. What is done stays so as long as
        # its file is there: it belongs to a command that had more links than this one.
        for action in (Action.RESUME, Action.RETRY):
            with contextlib.suppress(MediaDownloaderError):
                await self._service.act(known.id, action)
        if known.progress.percent and known.state is not State.DONE:
            self._screen.say(f"Resuming at {known.progress.percent:.0f} %: {name_of(known)}")
        return known.id

    async def _begun(self, url: str) -> Job | None:
        """Return the job that an earlier command, not at its end yet, has for a link with these options."""
        states = [state for state in State if state is not State.CANCELED]
        async for view in self._all(JobQuery(states=states, limit=500)):
            job = view.job
            if job.url == url and job.options == self._options and job.parent_id is None:
                return job
        return None

    async def _hold_others(self, ids: Collection[str]) -> None:
        """Jobs of an earlier command that was killed went back to the queue; nobody asked for them now."""
        others = [
            view.job.id
            async for view in self._all(JobQuery(states=(State.QUEUED,), limit=500))
            if view.job.id not in ids and view.job.parent_id not in ids
        ]
        for job_id in others:
            with contextlib.suppress(MediaDownloaderError):
                await self._service.act(job_id, Action.PAUSE)

    async def _forget(self, ids: Collection[str]) -> None:
        """Leave nothing of a command that is at its end: asked again, it downloads again."""
        for job_id in ids:
            await self._service.remove(job_id, files=False)

    async def _all(self, query: JobQuery) -> AsyncIterator[JobView]:
        while True:
            views, cursor = await self._service.find(query)
            for view in views:
                yield view
            if cursor is None:
                return
            query = JobQuery(query.states, None, None, query.parent_id, query.sort, query.limit, cursor)

    # --- watching -----------------------------------------------------------------------------------------------

    async def _follow(self, ids: list[str]) -> bool:
        """Show the jobs until all are finished; False when the user wants to stop before."""
        while True:
            views = [await self._service.get(job_id) for job_id in ids]
            for view in views:
                await self._show(view)
            if all(view.job.state in FINISHED for view in views):
                return True
            if await self._pause_looking():
                return False

    async def _show(self, view: JobView) -> None:
        job = view.job
        if job.id in self._told:
            return
        self._tell_wait(view)
        if job.is_playlist:
            await self._show_children(job)
        if job.state in FINISHED:
            if job.is_playlist:
                self._told.add(job.id)
                self._screen.drop(job)
            else:
                self._end(job)
            return
        begun = job.progress.downloaded_bytes > 0 or job.failure is not None
        if view.waiting_for is not None and not begun and not job.is_playlist:
            # Nothing to see yet but a queue.
            return
        self._screen.draw(job)

    async def _show_children(self, parent: Job) -> None:
        for states in (tuple(RUNNING), (State.QUEUED,)):
            views, _ = await self._service.find(JobQuery(states, parent_id=parent.id, sort="position", limit=SHOWN))
            for view in views:
                await self._show(view)
        ended = sum(count for state, count in parent.children.items() if state in FINISHED)
        if ended <= self._ended.get(parent.id, 0):
            return
        self._ended[parent.id] = ended
        new: list[Job] = []
        query = JobQuery(tuple(FINISHED), parent_id=parent.id, sort="-finished_at", limit=SHOWN)
        async for view in self._all(query):
            if view.job.id not in self._told:
                new.append(view.job)
            elif parent.state not in FINISHED:
                # The older ones have been told; the last look goes through all of them.
                break
        for job in reversed(new):
            self._end(job)

    def _end(self, job: Job) -> None:
        """Tell how a job ended."""
        self._told.add(job.id)
        self._screen.finished(job)
        self._failed = self._failed or job.state is not State.DONE
        for artifact in job.artifacts if job.state is State.DONE else ():
            self._screen.emit(str(self._container.library.downloads_dir / artifact.name))

    def _tell_wait(self, view: JobView) -> None:
        """Say once why nothing moves, where it is more than the queue."""
        job, failure = view.job, view.job.failure
        until = f" until {moment(view.waiting_until)}" if view.waiting_until else ""
        if view.waiting_for is WaitingFor.RETRY_TIME and failure is not None:
            told = f"{failure.kind}: {plain(failure.message)}"
            self._screen.say_once(
                job.id, f"{name_of(job)}: {told} Retry {failure.retry} of {failure.retries} waits{until}."
            )
        elif view.waiting_for is WaitingFor.COOLDOWN:
            self._screen.say_once(job.site, f"{plain(job.site)} asked to slow down: its downloads wait{until}.")
        elif view.waiting_for is WaitingFor.DISK:
            self._screen.say_once("disk", "The disk is full: downloads wait for room.")

    # --- stopping -----------------------------------------------------------------------------------------------

    async def _pause(self, ids: list[str]) -> bool:
        """Pause the jobs and wait until nothing runs; True when all of them came to their end before that."""
        self._interrupted.clear()
        recording = False
        for job_id in ids:
            with contextlib.suppress(MediaDownloaderError):
                recording = recording or (await self._service.act(job_id, Action.PAUSE)).job.media.is_live
        if recording:
            self._screen.say("Ending the recording; Ctrl-C again gives up waiting for it.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECORDING_SECONDS if recording else PAUSE_SECONDS):
                while await self._any_runs() and not await self._pause_looking():
                    pass
        views = [await self._service.get(job_id) for job_id in ids]
        for view in views:
            if view.job.state in FINISHED:
                await self._show(view)
            else:
                self._screen.paused(view.job)
        if all(view.job.state in FINISHED for view in views):
            return True
        self._screen.say("Nothing is lost: the same command goes on from here.")
        return False

    async def _any_runs(self) -> bool:
        return bool((await self._service.find(JobQuery(tuple(RUNNING), limit=1)))[0])
