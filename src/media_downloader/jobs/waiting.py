"""Why a queued job does not run yet: one rule, told to people and obeyed by the scheduler."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from media_downloader.jobs.model import FailureKind, Job, QueueState
from media_downloader.jobs.state import State


class WaitingFor(StrEnum):
    """What has to happen before a queued job runs."""

    #: A slot: as many downloads run as may.
    SLOT = "slot"
    #: Another download from the same site to end.
    SITE_LIMIT = "site_limit"
    #: The site asked us to slow down.
    COOLDOWN = "cooldown"
    #: The time of the next retry.
    RETRY_TIME = "retry_time"
    #: The time that the user set.
    SCHEDULE = "schedule"
    #: The user to resume the queue.
    QUEUE_PAUSED = "queue_paused"
    #: Room on the disk.
    DISK = "disk"


@dataclass(frozen=True)
class QueueFacts:
    """What decides over all queued jobs at one moment."""

    now: datetime
    queue: QueueState
    free_slots: int
    max_per_site: int
    running_by_site: Mapping[str, int] = field(default_factory=dict)
    cooldown_until: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Why a job waits, and until when where that is known."""

    reason: WaitingFor
    until: datetime | None = None


def why_waiting(job: Job, facts: QueueFacts) -> Wait | None:
    """Return the reason that holds a queued job back longest; None for a job that does not wait.

    A job that nothing holds back waits for a slot: its turn comes with the scheduler's next look.
    """
    if job.state is not State.QUEUED or job.is_playlist:
        return None
    if facts.queue.paused:
        return Wait(WaitingFor.DISK if facts.queue.reason == "disk" else WaitingFor.QUEUE_PAUSED)
    if job.ready_at is not None and job.ready_at > facts.now:
        return Wait(_why_not_ready(job), job.ready_at)
    until = facts.cooldown_until.get(job.site)
    if until is not None and until > facts.now:
        return Wait(WaitingFor.COOLDOWN, until)
    full = facts.running_by_site.get(job.site, 0) >= facts.max_per_site
    return Wait(WaitingFor.SITE_LIMIT if full else WaitingFor.SLOT)


def _why_not_ready(job: Job) -> WaitingFor:
    """Tell a retry's time from the user's: the later one counts, and both are in ``ready_at``."""
    if job.failure is None or job.failure.retry_at is None or job.failure.retry_at != job.ready_at:
        return WaitingFor.SCHEDULE
    return WaitingFor.DISK if job.failure.kind is FailureKind.DISK_FULL else WaitingFor.RETRY_TIME
