"""The record of a job and the values it is made of."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import Signal, State


def utc_now() -> datetime:
    """Return this machine's wall clock in UTC: for display. What decides asks the store (``JobStore.now``)."""
    return datetime.now(UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


#: A moment in UTC, written as ISO 8601 with microseconds and ``Z``: what is stored comes back exactly.
Moment = Annotated[AwareDatetime, PlainSerializer(_iso, return_type=str, when_used="json")]


class Record(BaseModel):
    """Base of the immutable values that a job is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Phase(StrEnum):
    """What the download process is doing, finer than the job's state."""

    EXTRACT = "extract"
    VIDEO = "video"
    AUDIO = "audio"
    SUBTITLES = "subtitles"
    MERGE = "merge"
    CONVERT = "convert"
    VERIFY = "verify"
    PUBLISH = "publish"


class Progress(Record):
    """How far a job is. Kept in memory, stored at most once a second."""

    phase: Phase | None = None
    #: 0 to 100 over everything that this job downloads, None while the size is unknown.
    percent: float | None = None
    downloaded_bytes: int = 0
    total_bytes: int | None = None
    #: Whether ``total_bytes`` is an estimate (fragments, an unknown second format).
    total_is_estimate: bool = False
    speed_bytes_per_second: float | None = None
    eta_seconds: float | None = None
    fragment_index: int | None = None
    fragment_count: int | None = None
    #: Bytes that were already on disk when this attempt began: "resumed at 43 %".
    resumed_from_bytes: int = 0


class Media(Record):
    """What is behind the link, as far as it is known."""

    id: str | None = None
    title: str | None = None
    uploader: str | None = None
    duration_seconds: float | None = None
    thumbnail: str | None = None
    #: The extractor's name for the site ("Youtube", "Generic").
    site: str | None = None
    webpage_url: str | None = None
    is_live: bool = False
    #: The format ids that were chosen ("137+140").
    format: str | None = None
    #: For people: "1920x1080 mp4".
    format_note: str | None = None
    #: For a playlist: how many entries it has, as far as they were listed.
    entry_count: int | None = None


class Artifact(Record):
    """A file that a job made, published in the downloads folder."""

    #: Path below the downloads folder, with forward slashes.
    name: str
    size_bytes: int
    #: Media type ("video/mp4"), from the content's container, not from the name alone.
    type: str
    #: "media", "subtitles", "thumbnail", "info".
    role: str = "media"
    language: str | None = None
    duration_seconds: float | None = None
    sha256: str | None = None
    #: Key of its copy in object storage, once all of that is proven to be there.
    object_key: str | None = None


class FailureKind(StrEnum):
    """Why a job failed: the word that decides whether it is retried, and which hint is given."""

    UNAVAILABLE = "unavailable"
    PRIVATE = "private"
    LOGIN_REQUIRED = "login_required"
    AGE_RESTRICTED = "age_restricted"
    GEO_RESTRICTED = "geo_restricted"
    DRM = "drm"
    UNSUPPORTED_URL = "unsupported_url"
    NO_SUCH_FORMAT = "no_such_format"
    RATE_LIMITED = "rate_limited"
    NETWORK = "network"
    SERVER_ERROR = "server_error"
    DISK_FULL = "disk_full"
    TOO_LARGE = "too_large"
    LIVE_NOT_STARTED = "live_not_started"
    BLOCKED_ADDRESS = "blocked_address"
    #: The file that came in is not the file that was announced.
    INCOMPLETE = "incomplete"
    #: The file could not be merged, converted or verified.
    PROCESSING_FAILED = "processing_failed"
    #: The options cannot be used with this link.
    BAD_OPTIONS = "bad_options"
    #: The download process died or fell silent.
    CRASHED = "crashed"
    #: yt-dlp failed in a way that no row of the table knows.
    UNKNOWN = "unknown"


class Failure(Record):
    """Why a job failed, or why its last attempt did and when the next one comes."""

    kind: FailureKind
    message: str
    #: What a person can do about it.
    hint: str | None = None
    #: When the next attempt comes; None when there is none.
    retry_at: Moment | None = None
    #: This was failure number ``retry`` of at most ``retries`` that are retried.
    retry: int = 0
    retries: int = 0


class Job(Record):
    """Everything that is known about one job. The store's copy is the truth."""

    id: str
    url: str
    #: Key of the per-site limit: the host without "www.".
    site: str
    options: JobOptions = Field(default_factory=JobOptions)
    state: State = State.QUEUED
    signal: Signal | None = None
    #: The fencing token: each claim adds one, and a write under an older one is refused.
    attempt: int = 0
    #: Who holds the lease; None when nobody does.
    owner: str | None = None
    lease_until: Moment | None = None
    priority: int = 0
    #: Order among jobs of one priority; lower goes first. Given by the store.
    position: int = 0
    not_before: Moment | None = None
    #: Not to be started before this moment: the later of ``not_before`` and the next retry.
    ready_at: Moment | None = None
    #: How often a download process of this job has died in a row (poison cap).
    crashes: int = 0
    #: How many transient failures have been retried in a row.
    retries: int = 0
    #: The last attempt's process is not known to be dead: its folder is left to it and copied, not taken over.
    abandoned: bool = False
    #: The next attempt asks the site again, for the very same formats, in place of trusting what it said before.
    extract_anew: bool = False
    progress: Progress = Field(default_factory=Progress)
    media: Media = Field(default_factory=Media)
    artifacts: tuple[Artifact, ...] = ()
    failure: Failure | None = None
    #: Name of the job's work folder in the downloads folder, None when it has none.
    workdir: str | None = None
    #: What the user should know though nothing failed ("restarted: the file on the server has changed").
    notices: tuple[str, ...] = ()
    parent_id: str | None = None
    #: 1-based place in the parent's playlist.
    entry_index: int | None = None
    #: Whether this job is a playlist whose children exist; its state is then derived from theirs.
    is_playlist: bool = False
    #: How many children are in which state (playlists only).
    children: dict[State, int] = Field(default_factory=dict)
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    updated_at: Moment


class Tombstone(Record):
    """What is left of a job that has left the list."""

    id: str
    state: State
    #: Names of the files that it made, below the downloads folder.
    files: tuple[str, ...] = ()
    expired_at: Moment


class QueueState(Record):
    """Whether the queue as a whole runs."""

    paused: bool = False
    #: "user" or "disk".
    reason: str | None = None
    since: Moment | None = None


class Cooldown(Record):
    """A site that asked us to slow down; none of its jobs starts before ``until``."""

    site: str
    until: Moment
    reason: str


class JobEvent(Record):
    """The job's state or facts changed."""

    job: Job


class ProgressEvent(Record):
    """Only the progress changed."""

    id: str
    progress: Progress


class DeletedEvent(Record):
    """The job has left the list."""

    id: str


class QueueEvent(Record):
    """The queue as a whole was paused or resumed, or a site cools down."""

    queue: QueueState


Event = JobEvent | ProgressEvent | DeletedEvent | QueueEvent


def child_id(parent_id: str, entry: str, occurrence: int = 1) -> str:
    """Return the id of a playlist's child: the same for the same entry, so that a listing can be repeated.

    ``entry`` says which entry it is, wherever it stands by now; ``occurrence`` counts how often it came up in the list.
    """
    return uuid5(UUID(parent_id), f"{occurrence} {entry}").hex
