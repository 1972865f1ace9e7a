"""The shapes on the wire. Snake case, units in names, UTC ISO times; unknown fields are refused."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)

from media_downloader.jobs.model import Artifact, Failure, Media, Moment, Progress, QueueState
from media_downloader.jobs.options import JobOptions, Number
from media_downloader.jobs.state import Action, Signal, State
from media_downloader.jobs.waiting import WaitingFor
from media_downloader.netguard import redact_url
from media_downloader.service import JobView

Url = Annotated[
    str, StringConstraints(min_length=1, max_length=8192), Field(examples=["https://example.org/video.mp4"])
]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Priority = Annotated[int, Field(ge=-1000, le=1000, description="Higher goes first."), Number]


def _written_out(value: Any) -> Any:
    """Refuse numbers: 0 would be taken for 1970, and is more likely a mistake."""
    if value is not None and not (isinstance(value, str) and re.match(r"[0-9]{4}-", value)):
        raise ValueError("write it as 2030-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    """Refuse what is a moment in its own zone and none in UTC: hours before year 1, or after 9999."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("this is no moment of the years 1 to 9999 in UTC") from None


#: A moment with an offset, in ISO 8601.
When = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


class Wire(BaseModel):
    """Base of everything that is sent or received."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(BaseModel):
    """Every error of this API has this body. ``error`` is a code that never changes its meaning."""

    model_config = ConfigDict(extra="allow")

    error: str = Field(examples=["invalid_transition"])
    detail: str = Field(examples=["Cannot pause a job that is done."])


class AddJobs(Wire):
    """One link (``url``) or many (``urls``), and how to download them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": [
                {"required": ["url"], "properties": {"url": {"type": "string"}, "urls": {"type": "null"}}},
                {"required": ["urls"], "properties": {"urls": {"type": "array"}, "url": {"type": "null"}}},
            ]
        },
    )

    url: Url | None = None
    urls: list[Annotated[str, StringConstraints(min_length=1, max_length=8192)]] | None = Field(
        default=None, min_length=1
    )
    options: JobOptions = Field(default_factory=JobOptions)
    priority: Priority = 0
    not_before: When | None = Field(default=None, description="Not to be started before this moment.")
    paused: StrictBool = Field(default=False, description="Add it paused.")

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "AddJobs":
        if (self.url is None) == (self.urls is None):
            raise ValueError("give either url or urls")
        return self


#: The three ways to give a job a place, and when each of them is given.
_PLACES: dict[str, dict[str, Any]] = {
    "priority": {"type": "integer"},
    "before": {"type": "string"},
    "to_front": {"const": True},
}


class PatchJob(Wire):
    """What may be changed of a job. What is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "not": {
                "anyOf": [
                    {"required": list(pair), "properties": {name: _PLACES[name] for name in pair}}
                    for pair in combinations(_PLACES, 2)
                ]
            }
        },
    )

    priority: Priority | None = None
    not_before: When | None = None
    before: JobId | None = Field(default=None, description="Place it right before this queued job.")
    to_front: StrictBool = Field(default=False, description="Place it before all others.")

    @model_validator(mode="after")
    def _one_place(self) -> "PatchJob":
        if sum((self.priority is not None, self.before is not None, self.to_front)) > 1:
            raise ValueError("a place is given by one of priority, before and to_front")
        return self


class ProbeRequest(Wire):
    """A link to look at."""

    url: Url
    options: JobOptions = Field(default_factory=JobOptions)


class CleanupRequest(Wire):
    """Whether to clean up or only to say what would go."""

    dry_run: StrictBool = True


class JobBody(BaseModel):
    """A job, and what can be said about it at this moment."""

    id: str
    url: str
    site: str
    state: State
    signal: Signal | None
    allowed_actions: Sequence[Action]
    waiting_for: WaitingFor | None
    waiting_until: Moment | None
    priority: int
    position: int
    attempt: int
    options: JobOptions
    not_before: Moment | None
    parent_id: str | None
    entry_index: int | None
    is_playlist: bool
    children: dict[State, int]
    progress: Progress
    media: Media
    artifacts: Sequence[Artifact]
    failure: Failure | None
    notices: Sequence[str]
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    updated_at: Moment

    @classmethod
    def of(cls, view: JobView) -> "JobBody":
        """Return what is told of a job; a secret in its link is not."""
        job = view.job
        return cls.model_construct(
            url=redact_url(job.url),
            allowed_actions=list(view.allowed_actions),
            waiting_for=view.waiting_for,
            waiting_until=view.waiting_until,
            **{name: getattr(job, name) for name in _SAME},
        )


_SAME = tuple(
    name for name in JobBody.model_fields if name not in {"url", "allowed_actions", "waiting_for", "waiting_until"}
)


class RejectedBody(BaseModel):
    """A link of a batch that was not accepted."""

    url: str
    error: str
    detail: str


class AddedBody(BaseModel):
    """What became of a batch."""

    jobs: list[JobBody]
    rejected: list[RejectedBody]


class JobList(BaseModel):
    """A page of jobs."""

    jobs: list[JobBody]
    next_cursor: str | None
    counts: dict[State, int]


class QueueBody(BaseModel):
    """Whether the queue runs."""

    paused: bool
    reason: str | None
    since: Moment | None

    @classmethod
    def of(cls, state: QueueState) -> "QueueBody":
        """Return what is told of the queue."""
        return cls(paused=state.paused, reason=state.reason, since=state.since)


class InfoBody(BaseModel):
    """What is behind a link."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field(examples=["video"], description='"video" or "playlist"')
    title: str | None = None
    duration_seconds: float | None = None
    thumbnail: str | None = None
    formats: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []


class CleanupBody(BaseModel):
    """What went, or would go."""

    dry_run: bool
    expired_jobs: list[str]
    files: list[str]
    work_folders: list[str]
    bytes: int


class WorkerBody(BaseModel):
    """A worker on this machine or another."""

    id: str
    host: str
    slots: int
    running: int
    alive: bool
    heard_at: Moment
    versions: dict[str, str]
    free_bytes: int
    problems: list[str]


class HealthBody(BaseModel):
    """How the server is."""

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
    versions: dict[str, str]
    features: dict[str, Any]
    workers: list[WorkerBody]
    problems: list[str]


class LiveBody(BaseModel):
    """The process answers."""

    status: str = "ok"


class StatsBody(BaseModel):
    """What a page shows at its top."""

    counts: dict[State, int]
    queue: QueueBody
    speed_bytes_per_second: float
    downloaded_bytes: int
    free_bytes: int
    total_bytes: int
    workers: list[WorkerBody]
    cooldowns: list[dict[str, Any]]


class DeletedBody(BaseModel):
    """The id of a job that is no longer on the list."""

    id: str
