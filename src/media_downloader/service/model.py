"""What the service is asked, what it answers, and what it works with."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from media_downloader.downloader.inquiry import Inquiry
from media_downloader.errors import MediaDownloaderError
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import Job
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import Action
from media_downloader.jobs.waiting import QueueFacts, WaitingFor
from media_downloader.library import Library
from media_downloader.netguard import Policy
from media_downloader.ports import EventBus, JobStore
from media_downloader.settings import Settings


@dataclass(frozen=True)
class AddRequest:
    """Links to download, and how."""

    urls: Sequence[str]
    options: JobOptions = field(default_factory=JobOptions)
    priority: int = 0
    not_before: datetime | None = None
    paused: bool = False
    idempotency_key: str | None = None
    request_digest: str | None = None


@dataclass(frozen=True)
class Rejected:
    """A link that was not accepted."""

    url: str
    code: str
    detail: str
    #: What was raised, where that was not in an earlier request.
    error: MediaDownloaderError | None = None

    @classmethod
    def of(cls, url: str, error: MediaDownloaderError) -> "Rejected":
        """Return the link with what was raised for it."""
        return cls(url, error.code, error.detail, error)


@dataclass(frozen=True)
class AddOutcome:
    """What became of the links of a request."""

    jobs: Sequence[Job]
    rejected: Sequence[Rejected] = ()
    replayed: bool = False


@dataclass(frozen=True)
class JobPatch:
    """What may be changed of a job; None leaves it."""

    priority: int | None = None
    not_before: datetime | None = None
    clear_not_before: bool = False
    #: Place it right before this queued job.
    before: str | None = None
    to_front: bool = False


@dataclass(frozen=True)
class JobView:
    """A job and what can be said about it at this moment."""

    job: Job
    allowed_actions: Sequence[Action]
    waiting_for: WaitingFor | None = None
    waiting_until: datetime | None = None


@dataclass(frozen=True)
class ServiceDeps:
    """What the service works with."""

    settings: Settings
    store: JobStore
    bus: EventBus
    library: Library
    inquiry: Inquiry
    policy: Policy
    job_logs: JobLogs
    #: The scheduler's facts, for ``waiting_for``.
    queue_facts: Callable[[], Awaitable[QueueFacts]]
    #: The same at most a moment old, for a stream of events.
    recent_queue_facts: Callable[[], Awaitable[QueueFacts]]
