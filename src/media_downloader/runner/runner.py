"""Claims a job, runs one attempt of it and writes the verdict."""

import asyncio
import contextlib
import errno
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import structlog

from media_downloader.downloader.problems import failed
from media_downloader.downloader.process import Zygote
from media_downloader.downloader.protocol import Failed
from media_downloader.errors import (
    BackendError,
    DiskFull,
    JobError,
    JobExpired,
    JobNotFound,
    LeaseLost,
    LibraryError,
    MediaDownloaderError,
)
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import FailureKind, Job, JobEvent, QueueEvent, QueueState
from media_downloader.jobs.state import State
from media_downloader.library import Library
from media_downloader.netguard import Policy
from media_downloader.ports import Change, Claim, EventBus, JobStore
from media_downloader.runner.attempt import Attempt
from media_downloader.runner.ending import Ending
from media_downloader.runner.strikes import Strikes
from media_downloader.runner.verdict import RetryPolicy, Verdict, judge_crash, judge_failure, judge_not_started
from media_downloader.settings import Settings
from media_downloader.space import SpaceLedger

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunnerDeps:
    """What every attempt needs; one for each server or worker."""

    settings: Settings
    store: JobStore
    bus: EventBus
    library: Library
    zygote: Zygote
    policy: Policy
    space: SpaceLedger
    job_logs: JobLogs
    #: Says who claims: unique to this run of the program.
    owner: str
    ffmpeg: str | None = None
    #: The machine went down without warning since the work folders were written.
    distrust_tail: bool = False
    #: Jobs that ran once already since the start: only their first attempt distrusts what it finds.
    trusted: set[str] = field(default_factory=set)
    strikes: Strikes = field(default_factory=Strikes)
    #: Jobs whose last process could not be seen to die.
    undead: set[str] = field(default_factory=set)


class Runner:
    """Runs jobs one attempt at a time; many may run at once, each for another job."""

    def __init__(self, deps: RunnerDeps) -> None:
        self._deps = deps
        self._numbers = count(1)

    async def run(self, job_id: str) -> None:
        """Take a job from claim to verdict. Raises nothing but ``CancelledError``, which puts the job back.

        A claim that is refused is no matter: somebody else has the job, or it may not run now.
        """
        try:
            job = await self._claim(job_id)
        except (JobNotFound, JobExpired) as error:
            log.warning("A job that nobody knows was not run", job_id=job_id, error=error.code)
            return
        except JobError:
            return
        except MediaDownloaderError as error:
            log.warning("Cannot claim job", job_id=job_id, error=error.code, detail=error.detail)
            return
        try:
            await self._run_claimed(job)
        except LeaseLost:
            log.warning("Job was taken over by another attempt", job_id=job.id, attempt=job.attempt)
        except MediaDownloaderError as error:
            # The lease runs out and the job goes back to the queue: nothing can be written to the store now.
            log.error("Attempt could not be written down", job_id=job.id, error=error.code, detail=error.detail)
        except OSError as error:
            # Whatever follows from the verdict on the disk can wait for housekeeping; the verdict itself is written.
            log.error("The work folder could not be settled", job_id=job.id, error=error.strerror)
        finally:
            self._deps.trusted.add(job.id)
            self._deps.space.release(job.id)

    async def _claim(self, job_id: str) -> Job:
        settings = self._deps.settings
        claim = Claim(
            owner=f"{self._deps.owner}{next(self._numbers)}",
            lease_seconds=settings.lease_seconds,
            max_per_site=settings.max_per_site,
        )
        claiming = asyncio.create_task(self._deps.store.claim(job_id, claim))
        try:
            job = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The store may be giving the job to us at this very moment.
            await asyncio.wait({claiming})
            if claiming.exception() is None:
                await self._give_back(Attempt(self._deps, claiming.result()))
            raise
        await self._publish(job)
        return job

    async def _run_claimed(self, job: Job) -> None:
        attempt = Attempt(self._deps, job)
        try:
            ending = await attempt.run()
            await _to_its_end(self._write_verdict(attempt, ending))
        except asyncio.CancelledError:
            # The server stops: the process is dead, the bytes stay, the job goes back to its place.
            await asyncio.shield(self._give_back(attempt))
            raise
        except (JobError, BackendError):
            raise
        except (LibraryError, OSError) as error:
            if getattr(error, "errno", None) == errno.ENODEV:
                why = "The downloads folder is gone, or not mounted."
                await self._apply(attempt, judge_not_started(attempt.job, why, await attempt.now()))
                return
            refused = _of_the_disk(error)
            log.warning("Attempt failed on the disk", job_id=job.id, message=refused.message)
            await self._apply(attempt, await self._judge(attempt, refused))
        except Exception as error:
            log.exception("Attempt failed inside the runner", job_id=job.id)
            told = [f"{type(error).__name__}: {error}"]
            await self._apply(attempt, judge_crash(attempt.job, told, await attempt.now(), self._retry_policy()))

    async def _give_back(self, attempt: Attempt) -> None:
        with contextlib.suppress(MediaDownloaderError):
            job = await self._deps.store.change(attempt.job.id, attempt.fenced(Change(State.QUEUED)))
            if job.state is State.CANCELED:
                await attempt.settle(job)
            await self._publish(job)

    async def _write_verdict(self, attempt: Attempt, ending: Ending) -> None:
        job = attempt.job
        if ending.crashed:
            lines = list(ending.last_lines)
            await self._apply(attempt, judge_crash(job, lines, await attempt.now(), self._retry_policy()))
        elif ending.failed is not None:
            await self._apply(attempt, await self._judge(attempt, ending.failed))
        elif ending.not_started is not None:
            await self._apply(attempt, judge_not_started(job, ending.not_started, await attempt.now()))
        elif ending.change is not None:
            changed = await attempt.write_last(ending.change)
            await self._publish(changed)
            await attempt.settle(changed)
            if changed.state is State.DONE:
                self._deps.strikes.clear(job.site)
            log.info("Job ended its attempt", job_id=job.id, state=str(changed.state))

    async def _apply(self, attempt: Attempt, verdict: Verdict) -> None:
        deps = self._deps
        if verdict.pauses_queue and deps.space.is_low():
            await self.pause_for_disk()
        if verdict.cooldown is not None:
            site, until = verdict.cooldown.site, verdict.cooldown.until
            deps.strikes.note(site, deps.strikes.number(site, await attempt.now()), until)
            await deps.store.set_cooldown(verdict.cooldown)
        job = await attempt.write_last(verdict.change)
        attempt.note(f"{verdict.failure.kind}: {verdict.failure.message}")
        await self._publish(job)
        await attempt.settle(job)
        log.warning(
            "Job attempt failed",
            job_id=job.id,
            kind=str(verdict.failure.kind),
            message=verdict.failure.message,
            state=str(job.state),
            retry_at=str(verdict.failure.retry_at) if verdict.failure.retry_at else None,
        )

    async def _judge(self, attempt: Attempt, refused: Failed) -> Verdict:
        now = await attempt.now()
        job = attempt.job.model_copy(update={"progress": attempt.progress})
        return judge_failure(job, refused, now, self._retry_policy(), self._deps.strikes.number(job.site, now))

    async def pause_for_disk(self) -> None:
        """Let nothing more start until there is room; says so once."""
        deps = self._deps
        found = await deps.store.queue_state()
        state = QueueState(paused=True, reason="disk", since=await deps.store.now())
        # Nor when it changes at this moment: a user's pause is not to end by itself, and a full disk is met again.
        if found.paused or not await deps.store.set_queue_state(state, expected=found):
            return
        await deps.bus.publish(QueueEvent(queue=state))
        log.warning("The disk is full: the queue is paused until there is room", free_bytes=deps.space.free_bytes())

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy.from_settings(self._deps.settings)

    async def _publish(self, job: Job) -> None:
        await self._deps.bus.publish(JobEvent(job=job))
        if job.parent_id is not None:
            with contextlib.suppress(JobError):
                await self._deps.bus.publish(JobEvent(job=await self._deps.store.get(job.parent_id)))


async def _to_its_end(step: Coroutine[Any, Any, None]) -> None:
    """Do all of a step that must not be left in the middle; who is canceled meanwhile is so afterwards."""
    doing = asyncio.create_task(step)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.gather(doing, return_exceptions=True)
        raise


def _of_the_disk(error: LibraryError | OSError) -> Failed:
    """Say as a job's failure what the downloads folder refused."""
    if isinstance(error, DiskFull) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        return failed(FailureKind.DISK_FULL, "The disk is full.")
    told = error.detail if isinstance(error, LibraryError) else f"The downloads folder cannot be used: {error.strerror}"
    return failed(FailureKind.PROCESSING_FAILED, told)
