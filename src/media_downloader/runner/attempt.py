"""One attempt of one job: its folder, its download process, its lease, and the user's wishes meanwhile."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from media_downloader.downloader.process import DownloadProcess
from media_downloader.downloader.protocol import Failed, FinishRecording, Spec, Task
from media_downloader.errors import DownloaderUnavailable, LeaseLost, StoreUnavailable
from media_downloader.families import act_on_children, states_acted_on
from media_downloader.jobs.model import FailureKind, Job, JobEvent, Progress
from media_downloader.jobs.state import Action, Signal, State
from media_downloader.ports import Change
from media_downloader.runner.conversation import Conversation
from media_downloader.runner.ending import Ending

if TYPE_CHECKING:
    from media_downloader.runner.runner import RunnerDeps

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: How often the store is asked for a user's wish; a wish is to be seen within half a second.
SIGNAL_POLL_SECONDS = 0.25
#: How long a live recording may take to finish its file after it was asked to.
FINISH_RECORDING_SECONDS = 60.0
#: How long the dead process's group may take to be gone before the attempt goes on without that proof.
DEATH_SECONDS = 5.0


class Attempt:
    """The supervisor of one download process under one lease."""

    def __init__(self, deps: "RunnerDeps", job: Job) -> None:
        self._deps = deps
        self.job = job
        self._renewed_at = time.monotonic()
        self._notes: deque[str] = deque(maxlen=500)
        self._finish_by: float | None = None
        self._workdir: Path | None = None
        self._preparing: asyncio.Future[Path] | None = None
        self._process: DownloadProcess | None = None
        self._extract_anew = False
        self._abandoned = False
        #: What this attempt itself has fetched, as its process last said.
        self.progress = Progress()
        #: Set once the result is being published: from there on the job is done, whatever is asked.
        self.publishing = False

    def fenced(self, change: Change) -> Change:
        """Return the change bound to this attempt's token."""
        return replace(change, attempt=self.job.attempt)

    async def save(self, change: Change) -> Job:
        """Write a change under this attempt's token and tell everybody."""
        self.job = await self.patiently(lambda: self._deps.store.change(self.job.id, self.fenced(change)))
        await self._deps.bus.publish(JobEvent(job=self.job))
        return self.job

    async def write_last(self, change: Change) -> Job:
        """Write what ends this attempt, and return the job after it."""
        try:
            return await self.patiently(lambda: self._deps.store.change(self.job.id, self.fenced(change)))
        except LeaseLost:
            # Written already, when only the answer was lost: then nobody has claimed the job since under this number.
            job = await self._deps.store.get(self.job.id)
            if (job.attempt, job.owner, job.state) != (self.job.attempt, None, change.to):
                raise
            return job

    async def now(self) -> datetime:
        """Return the store's clock: it judges when a retry is due, and this machine's may be another."""
        return await self.patiently(self._deps.store.now)

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what the store answers; while it is away, ask again for as long as the lease surely holds.

        Nobody else may claim the job before that, and a download is not to end for an outage that does.
        """
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                if not self._surely_holds():
                    raise
            await asyncio.sleep(SIGNAL_POLL_SECONDS)

    def _surely_holds(self) -> bool:
        return time.monotonic() - self._renewed_at <= self._deps.settings.lease_seconds * 2 / 3

    async def run(self) -> Ending:
        """Run until the process has had its last word, or a wish or a loss ends it. The process is dead afterwards."""
        working = asyncio.create_task(self._work())
        watching = asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if self.publishing and working not in done:
                # The wish came in the very moment in which the result was found whole: it is published.
                await asyncio.wait({working})
                done = {working}
            ending = (working if working in done else watching).result()
            if self._finish_by is not None and ending.change is None:
                # Nothing playable came of the recording that was asked to end: what there is stays for a resume.
                ending = Ending(change=Change(State.PAUSED))
        finally:
            if self._process is not None:
                self._process.kill()
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)
            await self._await_ends()
        if ending.change is not None and ending.change.to is State.CANCELED and self._workdir is not None:
            await asyncio.to_thread(self._deps.library.remove_workdir, self._workdir.name)
        return ending

    async def _work(self) -> Ending:
        """Prepare the folder, have a process forked and listen to it."""
        self._preparing = asyncio.ensure_future(self._prepare_workdir())
        # What happens to the folder happens in a thread, which no cancellation stops: it is waited for instead.
        workdir = await asyncio.shield(self._preparing)
        log.info(f"Starting job {self.job.id} - Download directory: {workdir}", attempt=self.job.attempt)
        conversation = Conversation(self._deps, self, workdir)
        told_before = await conversation.recall()
        if told_before is not None:
            return told_before
        try:
            self._process = await self._deps.zygote.spawn(self._spec(workdir))
            return await conversation.listen(self._process)
        except DownloaderUnavailable as error:
            return Ending(not_started=error.detail)

    async def settle(self, job: Job) -> None:
        """Do what follows from the verdict on disk: the work folder goes, or keeps a record of the job."""
        self.job = job
        library = self._deps.library
        await self.flush_notes()
        if job.state is State.CANCELED and job.children:
            await self._cancel_children()
        if self._workdir is None:
            return
        if job.workdir is None:
            await asyncio.to_thread(library.remove_workdir, self._workdir.name)
            if self._abandoned:
                await asyncio.to_thread(library.remove_workdirs_of, job.id)
        else:
            await asyncio.to_thread(library.write_job_file, self._workdir, job)

    def note(self, line: str) -> None:
        """Add a line to the job's log."""
        self._notes.append(line)

    async def flush_notes(self) -> None:
        """Write the lines that were noted since the last flush."""
        lines = list(self._notes)
        self._notes.clear()
        try:
            await asyncio.to_thread(self._deps.job_logs.append, self.job.id, lines)
        except OSError as error:
            # A log that cannot be written is no reason to lose a download.
            log.warning("The job's log cannot be written", job_id=self.job.id, error=error.strerror)

    async def _prepare_workdir(self) -> Path:
        """Take the job's folder over under a new name, so that a zombie's path is gone, or make one."""
        library = self._deps.library
        self._abandoned = self.job.abandoned or self.job.id in self._deps.undead
        workdir = await asyncio.to_thread(
            library.prepare_workdir, self.job.id, self.job.workdir, proven_dead=not self._abandoned
        )
        self._workdir = workdir
        self._extract_anew = self.job.extract_anew
        await self.save(
            Change(facts={"workdir": workdir.name, "failure": None, "extract_anew": False, "abandoned": False})
        )
        await asyncio.to_thread(library.write_job_file, workdir, self.job)
        return workdir

    def _spec(self, workdir: Path) -> Spec:
        settings = self._deps.settings
        options = self.job.options
        limits = [limit for limit in (options.max_size_bytes, settings.max_file_size_bytes) if limit is not None]
        return Spec(
            task=Task.DOWNLOAD,
            job_id=self.job.id,
            url=self.job.url,
            options=options,
            workdir=str(workdir),
            policy=self._deps.policy.to_dict(),
            unconfined_ffmpeg=settings.allow_unconfined_ffmpeg,
            ffmpeg=self._deps.ffmpeg,
            # A process that wakes up again may be writing while its folder is copied.
            distrust_tail=self._abandoned or (self._deps.distrust_tail and self.job.id not in self._deps.trusted),
            deno_dir=str(settings.data_dir / "deno"),
            socket_timeout_seconds=settings.socket_timeout_seconds,
            request_pause_seconds=settings.request_pause_seconds,
            playlist_limit=min(options.playlist_limit or settings.playlist_limit, settings.playlist_limit),
            fresh_info=self._extract_anew,
            max_size_bytes=min(limits, default=None),
        )

    async def _await_ends(self) -> None:
        """Wait until nothing touches the folder any more: no thread that prepares it and no process."""
        if self._preparing is not None:
            await asyncio.gather(self._preparing, return_exceptions=True)
        process = self._process
        if process is None:
            return
        for _ in range(2):
            try:
                await asyncio.wait_for(asyncio.shield(process.wait()), DEATH_SECONDS)
                return
            except TimeoutError:
                # The zygote did not do it: it may be stopped itself.
                process.kill_group()
        # Whatever it may still write, it writes into a folder that the next attempt leaves to it.
        self._deps.undead.add(self.job.id)
        log.error("A download process does not die", job_id=self.job.id, pid=process.pid)

    async def _watch(self) -> Ending:
        """Renew the lease, look for wishes and for room on the disk; return when one of them ends the attempt."""
        lease_seconds = self._deps.settings.lease_seconds
        while True:
            await asyncio.sleep(SIGNAL_POLL_SECONDS)
            try:
                asked_at = time.monotonic()
                if asked_at - self._renewed_at > lease_seconds / 6:
                    signal = await self._deps.store.renew(self.job.id, self.job.attempt, lease_seconds)
                    # The lease runs from some moment after that.
                    self._renewed_at = asked_at
                else:
                    signal = await self._pending_signal()
            except StoreUnavailable:
                # Work on for a while: the store may come back.
                if not self._surely_holds():
                    raise
                continue
            await self.flush_notes()
            if self.publishing:
                continue
            if signal is not None and (ending := await self._obey(signal)) is not None:
                return ending
            if self._deps.space.is_low() and self.job.state is not State.EXTRACTING:
                return Ending(failed=_disk_low(self._deps.space.free_bytes()))

    async def _pending_signal(self) -> Signal | None:
        job = await self._deps.store.get(self.job.id)
        if job.attempt != self.job.attempt:
            raise LeaseLost("Another attempt holds the job.", attempt=job.attempt)
        return job.signal

    async def _obey(self, signal: Signal) -> Ending | None:
        """Return how the wish ends the attempt; None while a live recording is finishing its file."""
        if signal is Signal.CANCEL:
            return Ending(change=Change(State.CANCELED, {"workdir": None, "failure": None}))
        recording = self.job.media.is_live and self.job.state in {State.DOWNLOADING, State.PROCESSING}
        if not recording or self._process is None:
            return Ending(change=Change(State.PAUSED))
        now = time.monotonic()
        if self._finish_by is None:
            self._finish_by = now + FINISH_RECORDING_SECONDS
            await self._process.send(FinishRecording())
        return Ending(change=Change(State.PAUSED)) if now > self._finish_by else None

    async def _cancel_children(self) -> None:
        """A playlist that was canceled while it was being listed leaves no children, running ones neither."""
        states = states_acted_on(Action.CANCEL, self.job)
        async for step in act_on_children(self._deps.store, self.job.id, Action.CANCEL, states):
            for before, child in step.changed:
                if before.workdir is not None and child.state is State.CANCELED:
                    await asyncio.to_thread(self._deps.library.remove_workdir, before.workdir)
                await self._deps.bus.publish(JobEvent(job=child))


def _disk_low(free_bytes: int) -> Failed:
    return Failed(
        kind=FailureKind.DISK_FULL,
        message=f"The disk is nearly full: {free_bytes} bytes are free.",
        hint="Make room on the disk; the job goes on by itself from the bytes it has.",
    )
