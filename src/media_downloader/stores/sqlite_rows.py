"""Between a row and a job: what each statement reads and writes, inside a transaction of the caller's."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from media_downloader.errors import JobNotFound, JobUnreadable
from media_downloader.jobs.model import Job, Progress, Tombstone
from media_downloader.stores import rules
from media_downloader.stores import sqlite_clock as clock
from media_downloader.stores.rules import Tally
from media_downloader.stores.unreadable import unreadable

#: What a statement must select for ``read_job``.
JOB = "id, document, progress, position"


def read_job(row: sqlite3.Row) -> Job:
    """Return the job of a row that has the columns ``JOB``. Raises ``JobUnreadable``."""
    try:
        job = Job.model_validate_json(row["document"])
        apart: dict[str, Any] = {"position": row["position"]}
        if row["progress"] is not None:
            apart["progress"] = Progress.model_validate_json(row["progress"])
    except ValidationError as error:
        raise unreadable(row["id"], error) from None
    return job.model_copy(update=apart)


def read_jobs(rows: Iterable[sqlite3.Row]) -> list[Job]:
    """Return the jobs of many rows; one that cannot be read is left out, and does not keep the others from anybody."""
    jobs = []
    for row in rows:
        with contextlib.suppress(JobUnreadable):
            jobs.append(read_job(row))
    return jobs


def rows_of(connection: sqlite3.Connection, where: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
    """Return the rows of jobs for ``read_jobs``; ``where`` is all that follows the table's name."""
    return connection.execute(f"SELECT {JOB} FROM jobs {where}", values).fetchall()  # noqa: S608 - our own words


def row_of(connection: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    """Return the job's row. Raises ``JobNotFound`` and ``JobExpired``."""
    row: sqlite3.Row | None = connection.execute(
        f"SELECT {JOB}, ready_at, lease_until FROM jobs WHERE id = ?",  # noqa: S608 - our own names
        (job_id,),
    ).fetchone()
    if row is not None:
        return row
    grave = connection.execute("SELECT document FROM tombstones WHERE id = ?", (job_id,)).fetchone()
    if grave is None:
        raise JobNotFound("There is no such job.")
    raise rules.expired(Tombstone.model_validate_json(grave["document"]))


def load(connection: sqlite3.Connection, job_id: str) -> Job:
    """Return the job. Raises ``JobNotFound`` and ``JobExpired``."""
    return read_job(row_of(connection, job_id))


def new_row(job: Job) -> dict[str, Any]:
    """Return every column of a job that is to be added."""
    return {"id": job.id, "ready_at": _waits_until(job), "lease_until": None, **_columns(job), **_texts(job)}


def insert(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add new rows."""
    if rows:
        names, places = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
        connection.executemany(f"INSERT INTO jobs ({names}) VALUES ({places})", rows)  # noqa: S608 - our own names


def save(connection: sqlite3.Connection, before: Job, after: Job, *, lease_until: int | None = None) -> None:
    """Write what differs from the job as it was loaded: what stays costs no index a write.

    ``lease_until`` is the lease's end on the steady clock, where it changes.
    """
    old = _columns(before)
    columns = {name: value for name, value in _columns(after).items() if value != old[name]} | _texts(after, before)
    if after.ready_at != before.ready_at:
        columns["ready_at"] = _waits_until(after)
    if after.lease_until is None:
        columns |= {"lease_until": None} if before.lease_until is not None else {}
    elif lease_until is not None:
        columns["lease_until"] = lease_until
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    connection.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", columns | {"id": after.id})  # noqa: S608 - our own column names


def _columns(job: Job) -> dict[str, Any]:
    return {
        "state": str(job.state),
        "site": job.site,
        "rank": -job.priority,
        "position": job.position,
        "is_playlist": int(job.is_playlist),
        "parent_id": job.parent_id,
        "owner": job.owner,
        "workdir": job.workdir,
        "finished_at": clock.micros(job.finished_at),
    }


def _texts(job: Job, before: Job | None = None) -> dict[str, Any]:
    # Progress and place change alone, and often: the document need not be written anew for them.
    texts = {"document": job.model_dump_json(exclude={"progress", "position"})}
    if before is None or job.progress != before.progress:
        texts["progress"] = job.progress.model_dump_json(exclude_defaults=True)
    if before is None or (job.media.title, job.url) != (before.media.title, before.url):
        texts["search"] = rules.searched(job)
    return texts


def _waits_until(job: Job) -> int | None:
    """Return what the column ``ready_at`` holds: None once the job is due.

    Whether a job is due is decided once, when it is written or when its time comes, and by this column alone: a wall
    clock that is set back must not leave jobs that are due for one question and not for the next.
    """
    ready_at = clock.micros(job.ready_at)
    return ready_at if ready_at is not None and ready_at > clock.now_micros() else None


def last_position(connection: sqlite3.Connection, priority: int) -> int:
    """Return the position of the last job of a priority; 0 when there is none."""
    row = connection.execute(
        "SELECT position FROM jobs WHERE rank = ? ORDER BY position DESC LIMIT 1", (-priority,)
    ).fetchone()
    return row["position"] if row is not None else 0


def find(connection: sqlite3.Connection, job_id: str) -> Job | None:
    """Return the job if it is there and can be read."""
    return next(iter(read_jobs(rows_of(connection, "WHERE id = ?", (job_id,)))), None)


def save_parents(connection: sqlite3.Connection, tally: Tally) -> None:
    """Update each parent of the children that were noted, once."""
    for before, after in tally.parents(lambda parent_id: find(connection, parent_id), clock.wall()):
        save(connection, before, after)


def count_child(connection: sqlite3.Connection, before: Job | None, after: Job | None) -> None:
    """Do so for one child alone."""
    tally = Tally()
    tally.note(before, after)
    save_parents(connection, tally)
