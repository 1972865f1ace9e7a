"""What a supervisor and a download process say to each other: one JSON object a line, told apart by ``type``."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from media_downloader.jobs.model import FailureKind, Media, Progress
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import State

#: A longer line is no message of ours.
MAX_LINE_BYTES = 4 * 1024 * 1024


class Message(BaseModel):
    """Base of everything that is said. Unknown fields are an error: both ends are of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(StrEnum):
    """What a download process is forked for."""

    #: Download one job into its work folder, or list a playlist's entries.
    DOWNLOAD = "download"
    #: Say what is behind a link, and write nothing.
    PROBE = "probe"
    #: Say whether yt-dlp understands a format expression and an output template.
    CHECK = "check"


class Spec(Message):
    """Everything that a download process is told at its birth. It holds no secret of the server."""

    task: Task
    job_id: str = ""
    url: str = ""
    options: JobOptions = Field(default_factory=JobOptions)
    #: Absolute path of the job's work folder; "" for tasks that write nothing.
    workdir: str = ""
    #: What netguard.Policy.to_dict() gave.
    policy: dict[str, Any] = Field(default_factory=dict)
    #: Where the kernel cannot confine ffmpeg: let it into the network all the same.
    unconfined_ffmpeg: bool = False
    #: Path of the ffmpeg program, None when there is none.
    ffmpeg: str | None = None
    #: The machine was not shut down cleanly since this folder was written: trust less of it.
    distrust_tail: bool = False
    #: Ask the site anew even if what it said is still known: a person said "retry" after a failure. Pins are kept.
    fresh_info: bool = False
    #: Folder for deno's cache.
    deno_dir: str = ""
    socket_timeout_seconds: float = 20.0
    #: Before the second try of a request; it doubles up to 16 times as much.
    request_pause_seconds: float = 0.25
    playlist_limit: int = 1_000
    max_size_bytes: int | None = None


# --- from the download process ---------------------------------------------------------------------------------------


class Started(Message):
    """The process runs; its process group has the same number."""

    type: Literal["started"] = "started"
    pid: int


class StateChanged(Message):
    """The job enters a running state."""

    type: Literal["state"] = "state"
    state: State


class MediaFound(Message):
    """What is behind the link; sent once it is known, and again when more is."""

    type: Literal["media"] = "media"
    media: Media


class Planned(Message):
    """What is about to be downloaded. The process waits for ``Go`` before it fetches a byte of it."""

    type: Literal["planned"] = "planned"
    #: All bytes of this job, None when unknown.
    total_bytes: int | None = None
    #: What of it is on disk already.
    present_bytes: int = 0
    #: Further room that merging or converting takes while it runs.
    scratch_bytes: int = 0


class Progressed(Message):
    """How far the download is; at most four a second. Also a sign of life."""

    type: Literal["progress"] = "progress"
    progress: Progress


class Alive(Message):
    """A sign of life while nothing can be measured (a merge, a slow page)."""

    type: Literal["alive"] = "alive"


class Notice(Message):
    """Something that the user should know though nothing failed."""

    type: Literal["notice"] = "notice"
    text: str


class Logged(Message):
    """A line of yt-dlp's or ffmpeg's log, redacted."""

    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    text: str


class Entry(Message):
    """An entry of a playlist. ``index`` counts from 1 in the playlist's own order."""

    index: int
    url: str
    id: str | None = None
    title: str | None = None
    duration_seconds: float | None = None


class EntriesFound(Message):
    """Entries of a playlist, sent as they are found."""

    type: Literal["entries"] = "entries"
    entries: tuple[Entry, ...]


class MadeFile(Message):
    """A verified file in the work folder."""

    #: Path below the work folder.
    path: str
    size_bytes: int
    type: str
    role: str = "media"
    language: str | None = None
    #: Between the published name and its extension, for files that go with the media ("en" for subtitles).
    label: str | None = None
    duration_seconds: float | None = None
    sha256: str | None = None


class Finished(Message):
    """The last word of a success."""

    type: Literal["finished"] = "finished"
    #: Empty for a playlist, whose entries have been sent.
    files: tuple[MadeFile, ...] = ()
    #: Name that the output template gives, without folder and extension, not yet made safe.
    name: str = ""
    is_playlist: bool = False
    #: Extra facts for the media record beside the published file.
    record: dict[str, Any] = Field(default_factory=dict)


class Failed(Message):
    """The last word of a failure."""

    type: Literal["failed"] = "failed"
    kind: FailureKind
    message: str
    hint: str | None = None
    #: What the server asked us to wait (Retry-After).
    retry_after_seconds: float | None = None


class Probed(Message):
    """The answer to a probe or a check."""

    type: Literal["probed"] = "probed"
    info: dict[str, Any] = Field(default_factory=dict)


class NotStarted(Message):
    """Said by the zygote when it could not fork: the machine is out of something, and no job is at fault."""

    type: Literal["not_started"] = "not_started"
    why: str


class Exited(Message):
    """Said by the zygote when the process and its whole group are gone: always the last line, if anybody can say it."""

    type: Literal["exited"] = "exited"
    #: Exit status, or minus the signal's number.
    code: int


FromProcess = Annotated[
    Started
    | StateChanged
    | MediaFound
    | Planned
    | Progressed
    | Alive
    | Notice
    | Logged
    | EntriesFound
    | Finished
    | Failed
    | Probed
    | NotStarted
    | Exited,
    Field(discriminator="type"),
]

# --- to the download process -----------------------------------------------------------------------------------------


class Go(Message):
    """There is room for what was planned."""

    type: Literal["go"] = "go"


class FinishRecording(Message):
    """Stop a live recording so that what was recorded becomes a playable file."""

    type: Literal["finish_recording"] = "finish_recording"


ToProcess = Annotated[Go | FinishRecording, Field(discriminator="type")]

FROM_PROCESS: TypeAdapter[FromProcess] = TypeAdapter(FromProcess)
TO_PROCESS: TypeAdapter[ToProcess] = TypeAdapter(ToProcess)


def encode(message: Message) -> bytes:
    """Return the message as one line, newline included."""
    return message.model_dump_json(exclude_defaults=False).encode() + b"\n"
