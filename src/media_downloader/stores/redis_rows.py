"""Between a job and its hash in Redis: every field is text that a person can read. No I/O."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from media_downloader.errors import JobError, JobNotFound, StoreUnavailable
from media_downloader.jobs.model import Job, Progress, Tombstone
from media_downloader.jobs.state import Signal
from media_downloader.stores import rules
from media_downloader.stores.unreadable import unreadable

M = TypeVar("M", bound=BaseModel)

#: Fields that are stored as they are; all the others are JSON.
TEXT_FIELDS = frozenset(
    {
        *("id", "url", "site", "state", "signal", "owner", "workdir", "parent_id"),
        *("lease_until", "not_before", "ready_at", "created_at", "started_at", "finished_at", "updated_at"),
    }
)
#: Shown even when they are zero.
_ALWAYS = frozenset({"attempt", "priority", "position"})
#: What the hash holds beside the job: for people, for searches, and for the store itself. ``due`` is there once the
#: time ``ready_at`` has come: that is judged once, whatever becomes of the clock.
BESIDE = frozenset({"title", "search", "sequence", "revision", "due", "format"})
#: All that this version writes; what else is in a hash is somebody's own, and stays.
KNOWN_FIELDS = BESIDE | Job.model_fields.keys()
#: What a job is made of; it rises with every field that comes or goes. Who finds a higher one leaves the job alone.
FORMAT = 1

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Stored:
    """A job's record as it was read: its fields, and the wishes that are set beside it."""

    id: str
    fields: Mapping[str, str]
    pause: bool = False
    cancel: bool = False
    tombstone: str = ""

    @classmethod
    def of(cls, record: Sequence[str]) -> "Stored":
        """Return what a script's record says."""
        job_id, tombstone, pause, cancel, *flat = record
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return cls(job_id, fields, pause == "1", cancel == "1", tombstone)

    @property
    def signal(self) -> Signal | None:
        """The stronger of the wishes that are set; the flags decide, whoever set them."""
        if self.cancel:
            return Signal.CANCEL
        return Signal.PAUSE if self.pause else None

    @property
    def sequence(self) -> int:
        """The job's number: later jobs have higher ones."""
        return int(self.fields["sequence"])

    @property
    def due(self) -> bool:
        """Whether the job's time was found to have come."""
        return "due" in self.fields

    def job(self) -> Job:
        """Return the job. Raises ``JobNotFound``, ``JobExpired``, and ``JobUnreadable`` for another version's."""
        if not self.fields:
            if self.tombstone:
                raise rules.expired(fact(Tombstone, self.tombstone))
            raise JobNotFound("There is no such job.")
        written_as = self.fields.get("format", "1")
        if not written_as.isdecimal() or int(written_as) > FORMAT:
            raise unreadable(self.id, f"its format is {written_as}, and {FORMAT} is the newest that is known here")
        known = {name: text for name, text in self.fields.items() if name in Job.model_fields}
        texts = (f'"{name}":{_json(name, text)}' for name, text in known.items())
        try:
            job = Job.model_validate_json("{" + ",".join(texts) + "}")
        except ValidationError as error:
            raise unreadable(self.id, error) from None
        return job if job.signal is self.signal else job.model_copy(update={"signal": self.signal})


def _json(name: str, text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if name in TEXT_FIELDS else text


def fact(model: type[M], text: str) -> M:
    """Return a fact that is kept as JSON. Raises ``StoreUnavailable`` for what this version cannot read."""
    try:
        return model.model_validate_json(text)
    except ValidationError:
        raise StoreUnavailable("Redis holds a fact that this version of Media Downloader cannot read.") from None


def readable(records: Sequence[Stored]) -> list[Job]:
    """Return the jobs of the records that this version can read."""
    jobs = []
    for record in records:
        try:
            jobs.append(record.job())
        except JobError:
            continue
    return jobs


def fields_of(job: Job, *, sequence: int, revision: str, due: bool) -> dict[str, str]:
    """Return the hash of a job. What says nothing is left out."""
    known: dict[str, Any] = job.model_dump(mode="json", exclude_none=True, exclude={"progress"})
    fields = {name: _text(value) for name, value in known.items() if value or name in _ALWAYS}
    progress = progress_text(job.progress)
    if progress != "{}":
        fields["progress"] = progress
    if job.media.title:
        fields["title"] = job.media.title
    if due and job.ready_at is not None:
        fields["due"] = "1"
    fields["search"] = rules.searched(job)
    return fields | {"sequence": str(sequence), "revision": revision, "format": str(FORMAT)}


def progress_text(progress: Progress) -> str:
    """Return progress as it is stored."""
    return progress.model_dump_json(exclude_defaults=True)


def _text(value: object) -> str:
    return value if isinstance(value, str) else _encode(value)
