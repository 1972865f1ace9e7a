"""How jobs are added to the JobStore, and how an add is remembered under its key."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from media_downloader.jobs.model import Job
from media_downloader.ports import Added, NewJobs
from media_downloader.stores import rules
from media_downloader.stores import sqlite_clock as clock
from media_downloader.stores.rules import GAP, Tally
from media_downloader.stores.sqlite_rows import (
    find,
    insert,
    last_position,
    new_row,
    read_jobs,
    rows_of,
    save_parents,
)


@dataclass(frozen=True)
class Prepared:
    """Jobs to add, with their rows written down before the writer is asked: it has all other writes to do too."""

    new: NewJobs
    rows: Mapping[str, dict[str, Any]]


def prepare(new: NewJobs) -> Prepared:
    """Do in any thread what needs no database."""
    return Prepared(new, {job.id: new_row(job) for job in new.jobs})


def add(connection: sqlite3.Connection, prepared: Prepared) -> Added:
    """Insert every job that is not there yet, and note the key."""
    new = prepared.new
    if new.idempotency_key is not None:
        remembered = replay(connection, new.idempotency_key, new.request_digest or "")
        if remembered is not None:
            return remembered
    present = _present(connection, [job.id for job in new.jobs])
    fresh = _fresh(connection, prepared, present)
    known = {job.id: job for job in [*present.values(), *fresh] if job is not None}
    stored = [known[job.id] for job in new.jobs if job.id in known]
    if new.idempotency_key is not None:
        ids = json.dumps([job.id for job in stored])
        values = (new.idempotency_key, new.request_digest or "", ids, clock.now_micros(), new.note)
        connection.execute("INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)", values)
    return Added(stored)


def replay(connection: sqlite3.Connection, key: str, digest: str) -> Added | None:
    """Return what was added under a key. Raises ``IdempotencyConflict``."""
    row = connection.execute("SELECT * FROM idempotency WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    rules.must_be_same(row["digest"], digest)
    ids = json.loads(row["job_ids"])
    present = _present(connection, ids)
    left = [job for job_id in ids if (job := present.get(job_id)) is not None]
    return Added(left, replayed=True, ids=ids, note=row["note"])


def _present(connection: sqlite3.Connection, ids: list[str]) -> dict[str, Job | None]:
    """Return the jobs that are there, by id; None is one that cannot be read."""
    among = "IN (SELECT value FROM json_each(?))"
    wanted = json.dumps(ids)
    present: dict[str, Job | None] = {
        row["id"]: None
        for row in connection.execute(f"SELECT id FROM jobs WHERE id {among}", (wanted,))  # noqa: S608 - our own words
    }
    if present:
        present |= {job.id: job for job in read_jobs(rows_of(connection, f"WHERE id {among}", (wanted,)))}
    return present


def _fresh(connection: sqlite3.Connection, prepared: Prepared, present: Mapping[str, Job | None]) -> list[Job]:
    """Insert what is not there, each job behind the last of its priority, and return it as it was stored."""
    parents = {job.parent_id: find(connection, job.parent_id) for job in prepared.new.jobs if job.parent_id is not None}
    last: dict[int, int] = {}
    tally = Tally()
    rows: dict[str, dict[str, Any]] = {}
    fresh: list[Job] = []
    for job in prepared.new.jobs:
        if job.id in present or job.id in rows:
            continue
        if job.priority not in last:
            last[job.priority] = last_position(connection, job.priority)
        last[job.priority] += GAP
        place = {"position": last[job.priority]}
        wished = rules.as_wished(job, parents.get(job.parent_id or ""), clock.wall())
        rows[job.id] = (prepared.rows[job.id] if wished is job else new_row(wished)) | place
        fresh.append(wished.model_copy(update=place))
        tally.note(None, wished)
    insert(connection, list(rows.values()))
    save_parents(connection, tally)
    return fresh
