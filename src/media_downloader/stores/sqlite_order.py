"""The order of the queue: jobs placed before another, and the room between places."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from media_downloader.jobs.model import Job
from media_downloader.stores import rules
from media_downloader.stores import sqlite_clock as clock
from media_downloader.stores.rules import GAP
from media_downloader.stores.sqlite_rows import load, save

#: Jobs that are moved apart at once when there is no room between two; more only when these have none either.
WINDOW = 64
#: Room that is made between neighbours at least.
ROOM = 1 << 16


def move(
    connection: sqlite3.Connection, job_ids: Sequence[str], before: str | None, facts: Mapping[str, Any]
) -> list[Job]:
    """Give the jobs places right before another one, or before all, and the facts."""
    jobs = [load(connection, job_id) for job_id in job_ids]
    target = None if before is None else load(connection, before)
    for job in jobs if target is None else [*jobs, target]:
        rules.must_wait(job)
    if before in job_ids:
        places = [(job.priority, job.position) for job in jobs]
    elif target is None:
        places = _places_before_all(connection, len(jobs))
    else:
        places = _places_before(connection, target, len(jobs))
    moved = []
    for job, (priority, position) in zip(jobs, places, strict=True):
        place = {"priority": priority, "position": position, "updated_at": clock.wall()}
        moved.append(job.model_copy(update={**facts, **place}))
        save(connection, job, moved[-1])
    return moved


def _places_before_all(connection: sqlite3.Connection, count: int) -> list[tuple[int, int]]:
    first = connection.execute(
        "SELECT rank, position FROM jobs INDEXED BY jobs_queued WHERE state = 'queued' ORDER BY rank, position LIMIT 1"
    ).fetchone()
    return [(-first["rank"], first["position"] - GAP * (count - number)) for number in range(count)]


def _places_before(connection: sqlite3.Connection, target: Job, count: int) -> list[tuple[int, int]]:
    step = _room_before(connection, target) // (count + 1)
    if step < 1:
        _make_room(connection, target, count)
        step = _room_before(connection, target) // (count + 1)
    return [(target.priority, target.position - step * (count - number)) for number in range(count)]


def _room_before(connection: sqlite3.Connection, target: Job) -> int:
    previous = connection.execute(
        "SELECT position FROM jobs WHERE rank = ? AND position < ? ORDER BY position DESC LIMIT 1",
        (-target.priority, target.position),
    ).fetchone()
    # Before the very first there is room without end.
    return 1 << 48 if previous is None else target.position - previous["position"]


def _make_room(connection: sqlite3.Connection, target: Job, count: int) -> None:
    """Move the jobs in front of the target apart: so few that it costs no more for a longer queue."""
    window = WINDOW
    while True:
        rows = connection.execute(
            "SELECT sequence, position FROM jobs WHERE rank = ? AND position < ? ORDER BY position DESC LIMIT ?",
            (-target.priority, target.position, window + 1),
        ).fetchall()
        crowded = rows[:window]
        room = target.position - rows[window]["position"] if len(rows) > window else GAP * (len(crowded) + 1)
        step = room // (len(crowded) + 1)
        if step > max(ROOM, count):
            places = [(target.position - step * number, row["sequence"]) for number, row in enumerate(crowded, start=1)]
            connection.executemany("UPDATE jobs SET position = ? WHERE sequence = ?", places)
            return
        window *= 4
