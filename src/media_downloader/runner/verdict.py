"""What becomes of a job after an attempt failed: pure rules, no I/O."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from media_downloader.downloader.failures import SITE_WIDE, TRANSIENT
from media_downloader.downloader.protocol import Failed
from media_downloader.jobs.model import Cooldown, Failure, FailureKind, Job
from media_downloader.jobs.state import State
from media_downloader.ports import Change
from media_downloader.settings import Settings

#: A site that asks to slow down is waited for so many times more often than a line that breaks: no job is at fault.
SITE_PATIENCE = 4
#: After this long it is tried again whether download processes can be started.
NOT_STARTED_SECONDS = 10.0
#: An attempt that fetched so much more than the ones before it has made headway: its failure is not "in a row".
HEADWAY_BYTES = 1024 * 1024
#: Failures of the line and the server; what is wrong with the content itself does not get better by headway.
_OF_THE_LINE = frozenset({FailureKind.NETWORK, FailureKind.SERVER_ERROR})


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast failures are retried."""

    max_retries: int
    delay_seconds: float
    max_delay_seconds: float
    max_crashes: int
    disk_retry_seconds: float
    #: Returns a number from 0 to 1; spreads retries of jobs that failed together.
    jitter: Callable[[], float] = random.random

    @classmethod
    def from_settings(cls, settings: Settings) -> "RetryPolicy":
        """Take the policy that the operator set."""
        return cls(
            settings.max_retries,
            settings.retry_delay_seconds,
            settings.retry_max_delay_seconds,
            settings.max_crashes,
            settings.disk_retry_seconds,
        )

    def delay(self, retry: int, asked_seconds: float | None) -> float:
        """Return the seconds before retry number ``retry`` (from 1): doubling, with up to a quarter of jitter.

        What a server asked for (Retry-After, RFC 9110 section 10.2.3) is never undercut.
        """
        # 2**30 base delays are longer than any maximum; more would only overflow.
        backoff: float = min(self.max_delay_seconds, self.delay_seconds * 2 ** min(retry - 1, 30))
        backoff *= 1 + self.jitter() / 4
        return max(backoff, asked_seconds or 0.0)


@dataclass(frozen=True)
class Verdict:
    """The change that ends an attempt, and what else follows from it."""

    change: Change
    failure: Failure
    cooldown: Cooldown | None = None
    #: The disk is full: nothing more may start until there is room.
    pauses_queue: bool = False


def judge_failure(job: Job, failed: Failed, now: datetime, policy: RetryPolicy, strike: int = 1) -> Verdict:
    """Decide between another attempt and the end, by the kind of failure and by how often it was retried.

    ``job.progress`` is that of the attempt that failed. ``strike``: which refusal in a row of the job's site this is,
    for failures that concern a whole site; the wait grows with it and not with the single job's retries.
    """
    if failed.kind is FailureKind.DISK_FULL:
        return _wait_for_disk(job, failed, now, policy)
    retry = 1 if _made_headway(job, failed) else job.retries + 1
    transient, site_wide = failed.kind in TRANSIENT, failed.kind in SITE_WIDE
    retries = policy.max_retries * (SITE_PATIENCE if site_wide else 1)
    if not transient or retry > retries:
        failure = Failure(
            kind=failed.kind,
            message=failed.message,
            hint=failed.hint,
            retry=min(retry, retries) if transient else 0,
            retries=retries if transient else 0,
        )
        return Verdict(Change(State.ERROR, {"failure": failure}, attempt=job.attempt), failure)
    retry_at = now + timedelta(seconds=policy.delay(strike if site_wide else retry, failed.retry_after_seconds))
    failure = Failure(
        kind=failed.kind,
        message=failed.message,
        hint=failed.hint,
        retry_at=retry_at,
        retry=retry,
        retries=retries,
    )
    facts = {"failure": failure, "ready_at": retry_at, "retries": retry, "crashes": 0}
    cooldown = Cooldown(site=job.site, until=retry_at, reason=failed.message) if site_wide else None
    return Verdict(Change(State.QUEUED, facts, attempt=job.attempt), failure, cooldown)


def _made_headway(job: Job, failed: Failed) -> bool:
    """A line that breaks every hundred megabytes must not end a large download: each attempt gets further."""
    gained = job.progress.downloaded_bytes - job.progress.resumed_from_bytes
    return failed.kind in _OF_THE_LINE and gained >= HEADWAY_BYTES


def judge_crash(job: Job, last_lines: list[str], now: datetime, policy: RetryPolicy) -> Verdict:
    """Decide about a job whose download process died or fell silent without a last word.

    Such a job is tried again soon, as it may have been the process that was unlucky; after ``max_crashes`` in
    a row the job itself is taken for the cause ("poison") and ends.
    """
    crashes = job.crashes + 1
    told = "; ".join(line for line in last_lines[-3:] if line)
    message = "The download process died" + (f": {told}" if told else " without a word.")
    if crashes >= policy.max_crashes:
        failure = Failure(
            kind=FailureKind.CRASHED,
            message=message[:1000],
            hint=f"It died {crashes} times in a row. See the job's log; another format may work.",
            retry=crashes,
            retries=policy.max_crashes,
        )
        return Verdict(Change(State.ERROR, {"failure": failure, "crashes": crashes}, attempt=job.attempt), failure)
    retry_at = now + timedelta(seconds=min(policy.delay(crashes, None), 30.0))
    failure = Failure(
        kind=FailureKind.CRASHED,
        message=message[:1000],
        hint="It will be tried again from the bytes on disk.",
        retry_at=retry_at,
        retry=crashes,
        retries=policy.max_crashes,
    )
    facts = {"failure": failure, "ready_at": retry_at, "crashes": crashes}
    return Verdict(Change(State.QUEUED, facts, attempt=job.attempt), failure)


def judge_not_started(job: Job, why: str, now: datetime) -> Verdict:
    """Put a job back that no process could be started for; that is the server's fault and counts for no job."""
    retry_at = now + timedelta(seconds=NOT_STARTED_SECONDS)
    hint = "The server is tried again by itself; see its log."
    failure = Failure(kind=FailureKind.CRASHED, message=why[:1000], hint=hint, retry_at=retry_at)
    return Verdict(Change(State.QUEUED, {"failure": failure, "ready_at": retry_at}, attempt=job.attempt), failure)


def _wait_for_disk(job: Job, failed: Failed, now: datetime, policy: RetryPolicy) -> Verdict:
    """Nothing is lost when the disk is full: the job keeps its bytes and its place, and the queue waits."""
    retry_at = now + timedelta(seconds=policy.disk_retry_seconds)
    failure = Failure(kind=failed.kind, message=failed.message, hint=failed.hint, retry_at=retry_at)
    facts = {"failure": failure, "ready_at": retry_at}
    return Verdict(Change(State.QUEUED, facts, attempt=job.attempt), failure, pauses_queue=True)
