"""Between a row and a job: what each statement reads and writes, inside a transaction of the caller's."""

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from media_downloader.errors import JobExpired, JobNotFound
from media_downloader.jobs.model import Job, Progress, Tombstone, utc_now
from media_downloader.jobs.state import FINISHED, State, derived_state
from media_downloader.netguard import redact_url

#: Room between two neighbours in the queue: so many jobs can be placed between them before a renumbering.
GAP = 1 << 32

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime | None) -> int | None:
    """Return microseconds since 1970, exactly."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def now_micros() -> int:
    """Return the wall clock in microseconds."""
    return (utc_now() - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Return the moment that ``micros`` counted."""
    return _EPOCH + timedelta(microseconds=value)


def read_job(row: sqlite3.Row) -> Job:
    """Return the job of a row that has ``document`` and ``progress``."""
    job = Job.model_validate_json(row["document"])
    if row["progress"] is not None:
        job = job.model_copy(update={"progress": Progress.model_validate_json(row["progress"])})
    return job


def load(connection: sqlite3.Connection, job_id: str) -> Job:
    """Return the job. Raises ``JobNotFound`` and ``JobExpired``."""
    row = connection.execute("SELECT document, progress FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is not None:
        return read_job(row)
    grave = connection.execute("SELECT document FROM tombstones WHERE id = ?", (job_id,)).fetchone()
    if grave is None:
        raise JobNotFound("There is no such job.")
    tombstone = Tombstone.model_validate_json(grave["document"])
    raise JobExpired(
        "The job has left the list; its files stay.", state=str(tombstone.state), files=list(tombstone.files)
    )


def _columns(job: Job) -> dict[str, Any]:
    ready_at = micros(job.ready_at)
    return {
        "id": job.id,
        "state": str(job.state),
        "site": job.site,
        "rank": -job.priority,
        "position": job.position,
        "ready_at": ready_at if ready_at is not None and ready_at > now_micros() else None,
        "is_playlist": int(job.is_playlist),
        "parent_id": job.parent_id,
        "lease_until": micros(job.lease_until),
        "owner": job.owner,
        "workdir": job.workdir,
        "finished_at": micros(job.finished_at),
        # Without secrets: a search that finds them lets them be guessed, letter by letter.
        "search": f"{job.media.title or ''}\n{redact_url(job.url)}".casefold(),
        "progress": job.progress.model_dump_json(exclude_defaults=True),
        "document": job.model_dump_json(exclude={"progress"}),
    }


def insert(connection: sqlite3.Connection, job: Job) -> Job:
    """Add the job behind the last of its priority."""
    job = job.model_copy(update={"position": last_position(connection, job.priority) + GAP})
    columns = _columns(job)
    names, places = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    connection.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", columns)  # noqa: S608 - our own column names
    return job


def save(connection: sqlite3.Connection, job: Job) -> None:
    """Write every column of a job that exists."""
    columns = _columns(job)
    assignments = ", ".join(f"{name} = :{name}" for name in columns if name != "id")
    connection.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", columns)  # noqa: S608 - our own column names


def last_position(connection: sqlite3.Connection, priority: int) -> int:
    """Return the position of the last job of a priority; 0 when there is none."""
    row = connection.execute(
        "SELECT position FROM jobs WHERE rank = ? ORDER BY position DESC LIMIT 1", (-priority,)
    ).fetchone()
    return row["position"] if row is not None else 0


def count_child(connection: sqlite3.Connection, parent_id: str | None, gone: State | None, came: State | None) -> None:
    """Keep a playlist's counters, and the state that follows from them, in step with one child."""
    if parent_id is None or gone == came:
        return
    row = connection.execute("SELECT document, progress FROM jobs WHERE id = ?", (parent_id,)).fetchone()
    if row is None:
        return
    parent = read_job(row)
    children = dict(parent.children)
    if gone is not None:
        children[gone] = children.get(gone, 0) - 1
    if came is not None:
        children[came] = children.get(came, 0) + 1
    children = {state: count for state, count in children.items() if count > 0}
    save(connection, derive(parent.model_copy(update={"children": children, "updated_at": utc_now()})))


def derive(parent: Job) -> Job:
    """Return an expanded playlist with the state that follows from its children; any other job as it is."""
    if not parent.is_playlist:
        return parent
    state = derived_state(parent.children)
    finished_at = (parent.finished_at or utc_now()) if state in FINISHED else None
    return parent.model_copy(
        update={"state": state, "finished_at": finished_at, "owner": None, "lease_until": None, "signal": None}
    )


def read_jobs(rows: Iterable[sqlite3.Row]) -> list[Job]:
    """Return the jobs of many rows."""
    return [read_job(row) for row in rows]
