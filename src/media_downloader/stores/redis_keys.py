"""Names of the keys in Redis, and which entries a job has in the indexes. No I/O."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from media_downloader.jobs.model import Job
from media_downloader.jobs.state import Signal, State

#: Which version of the layout below is in this database; its absence says that nothing of ours is.
SCHEMA = "media_downloader:schema"
SCHEMA_VERSION = 1

#: Set of the ids of all jobs.
ALL = "jobs:all"
#: Sorted by the end of the lease: id.
LEASED = "jobs:leased"
#: site NUL id, of every job under a lease; sorted by name, so that one site's can be counted.
RUNNING = "jobs:running"
#: Sorted by the time from which they may run: what waits for a time. The members are those of ``DUE``.
READY = "jobs:ready"
#: site NUL place, of every queued job that waits for no time; sorted by name.
DUE = "jobs:due"
#: Hash: work folder to id.
WORKDIRS = "jobs:workdirs"
#: There until ``rebuild``: jobs may be on disk that are not here.
REBUILD = "jobs:rebuild"
#: Id of the volume that all members must see: who opens the store first writes it. Whoever replaces the volume on
#: purpose deletes it.
VOLUME = "jobs:volume"
#: Never there: what is deleted when a write must begin with a removal.
NOTHING = "jobs:nothing"
#: Whether the queue is paused, as JSON.
QUEUE = "jobs:queue"
#: Hash: site to its cool-down, as JSON.
COOLDOWNS = "jobs:cooldowns"
#: How many jobs there have been.
SEQUENCE = "jobs:sequence"
#: Hash: priority to the position of the last job that was put at its end.
POSITIONS = "jobs:positions"
#: Hashes of what is remembered for a while, and the same sorted by when it was noted.
TOMBSTONES = "jobs:tombstones"
TOMBSTONE_TIMES = "jobs:tombstones:times"
IDEMPOTENCY = "jobs:idempotency"
IDEMPOTENCY_TIMES = "jobs:idempotency:times"

#: The orders of lists. Each has one index for each state, so that counting and filtering by state cost nothing.
CREATED, PLACE, FINISHED_AT = "created", "place", "finished"

#: A member's numbers are written with a fixed width, so that their order by name is their order by value.
_RANK_OFFSET, _POSITION_OFFSET = 1 << 31, 1 << 63

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Entries = dict[tuple[str, str], str]


def index(order: str, state: State) -> str:
    """Return the key of the jobs of one state in one order."""
    return f"jobs:{order}:{state}"


#: Every key of ours that has a fixed name, and its type.
KEY_TYPES: Mapping[str, str] = {
    **{index(order, state): "zset" for order in (CREATED, PLACE, FINISHED_AT) for state in State},
    **dict.fromkeys((LEASED, RUNNING, READY, DUE, TOMBSTONE_TIMES, IDEMPOTENCY_TIMES), "zset"),
    **dict.fromkeys((WORKDIRS, COOLDOWNS, POSITIONS, TOMBSTONES, IDEMPOTENCY), "hash"),
    **dict.fromkeys((QUEUE, SEQUENCE, REBUILD, VOLUME), "string"),
    ALL: "set",
}


def job_key(job_id: str) -> str:
    """Return the key of a job's hash."""
    return f"job:{job_id}"


def flag_key(job_id: str, signal: Signal) -> str:
    """Return the key whose existence is a user's wish; anybody may set it."""
    return f"job:{job_id}:{signal}"


def children_key(job_id: str) -> str:
    """Return the key of the index of a playlist's children, in the order in which they were added."""
    return f"job:{job_id}:children"


def micros(moment: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Return the moment that ``micros`` counted."""
    return _EPOCH + timedelta(microseconds=value)


def iso(moment: datetime) -> str:
    """Return a moment as it is written in a job's hash."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def created_prefix(sequence: int) -> str:
    """Return the beginning of a member of the ``created`` order."""
    return f"{sequence:010x}"


def place_prefix(rank: int, position: int, sequence: int) -> str:
    """Return the beginning of a member of the ``place`` order; ``rank`` is minus the priority."""
    return f"{rank_prefix(rank)}:{position + _POSITION_OFFSET:016x}:{sequence:010x}"


def rank_prefix(rank: int) -> str:
    """Return what the members of all jobs of one priority begin with."""
    return f"{rank + _RANK_OFFSET:08x}"


def finished_prefix(finished: int, sequence: int) -> str:
    """Return the beginning of a member of the ``finished`` order."""
    return f"{finished:014x}:{sequence:010x}"


def numbers_of(order: str, member: str) -> list[int]:
    """Return the numbers that a member begins with: what its ``prefix`` function was given."""
    numbers = [int(part, 16) for part in member.split(":")[:-1]]
    if order == PLACE:
        return [numbers[0] - _RANK_OFFSET, numbers[1] - _POSITION_OFFSET, numbers[2]]
    return numbers


def place_member(job: Job, sequence: int) -> str:
    """Return the job's member of the ``place`` order."""
    return f"{place_prefix(-job.priority, job.position, sequence)}:{job.id}"


def entries(job: Job, sequence: int, *, due: bool) -> Entries:
    """Return every entry that the job has in sorted indexes, (key, member) to score; ``due``: it waits for no time."""
    created, place = f"{created_prefix(sequence)}:{job.id}", place_member(job, sequence)
    found = {(index(CREATED, job.state), created): "0", (index(PLACE, job.state), place): "0"}
    if job.finished_at is not None:
        finished = f"{finished_prefix(micros(job.finished_at), sequence)}:{job.id}"
        found[index(FINISHED_AT, job.state), finished] = "0"
    if job.parent_id is not None:
        found[children_key(job.parent_id), created] = "0"
    if job.lease_until is not None:
        found[LEASED, job.id] = str(micros(job.lease_until))
        found[RUNNING, f"{job.site}\0{job.id}"] = "0"
    if job.state is State.QUEUED and not job.is_playlist:
        member = f"{job.site}\0{place}"
        if due or job.ready_at is None:
            found[DUE, member] = "0"
        else:
            found[READY, member] = str(micros(job.ready_at))
    return found


def possible_entries(job: Job, sequence: int) -> Entries:
    """Return every entry that the job may have, whenever it was written; those of two keys are exclusive."""
    return entries(job, sequence, due=False) | entries(job, sequence, due=True)
