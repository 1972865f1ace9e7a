"""What each read of the JobStore asks."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from media_downloader.errors import InvalidCursor
from media_downloader.jobs.model import Cooldown, Job, QueueState, Tombstone
from media_downloader.jobs.state import State
from media_downloader.ports import JobPage, JobQuery
from media_downloader.stores import rules
from media_downloader.stores.cursors import decode_cursor, encode_cursor
from media_downloader.stores.sqlite_rows import JOB, read_jobs, rows_of

#: So many due jobs are looked at in order before each site is asked for its first one.
SCAN_LIMIT = 64

#: For each order: the columns that decide, all in one direction, ending in one that is unique.
SORTS: Mapping[str, tuple[str, ...]] = {
    "created_at": ("sequence",),
    "finished_at": ("finished_at", "sequence"),
    "position": ("rank", "position", "sequence"),
}

_DUE = "state = 'queued' AND ready_at IS NULL AND is_playlist = 0"


def find(connection: sqlite3.Connection, query: JobQuery) -> JobPage:
    """Return a page by keyset: the cursor holds the keys of the last job that was given out."""
    descending = query.sort.startswith("-")
    name = query.sort.removeprefix("-")
    if name not in SORTS:
        raise InvalidCursor(f"Cannot sort by {name}.")
    keys = SORTS[name]
    conditions, values = _conditions(query)
    if name == "finished_at":
        conditions.append("finished_at IS NOT NULL")
    if query.cursor is not None:
        marks = ", ".join("?" * len(keys))
        conditions.append(f"({', '.join(keys)}) {'<' if descending else '>'} ({marks})")
        values.extend(decode_cursor(query.cursor, query.sort, len(keys)))
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(f"{key} {'DESC' if descending else 'ASC'}" for key in keys)
    statement = f"SELECT {', '.join(keys)}, {JOB} FROM jobs {where} ORDER BY {order} LIMIT ?"  # noqa: S608 - our own names
    rows = connection.execute(statement, (*values, query.limit + 1)).fetchall()
    page = rows[: query.limit]
    more = len(rows) > query.limit
    cursor = encode_cursor(query.sort, [page[-1][key] for key in keys]) if more and page else None
    return JobPage(read_jobs(page), cursor)


def _conditions(query: JobQuery) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if query.states:
        conditions.append(f"state IN ({', '.join('?' * len(query.states))})")
        values.extend(str(state) for state in query.states)
    for column, value in (("site", query.site), ("parent_id", query.parent_id)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    for word in rules.words_of(query.text):
        conditions.append("instr(search, ?) > 0")
        values.append(word)
    return conditions, values


def known(connection: sqlite3.Connection, job_ids: Sequence[str]) -> set[str]:
    """Return which of these are ids of jobs."""
    ask = "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
    return {row["id"] for row in connection.execute(ask, (json.dumps(job_ids),))}


def counts(connection: sqlite3.Connection) -> dict[State, int]:
    """Count by state, from counters that every write keeps."""
    known = {row["state"]: row["jobs"] for row in connection.execute("SELECT state, jobs FROM counts")}
    return {state: known.get(state.value, 0) for state in State}


def next_due(
    connection: sqlite3.Connection, full_sites: Collection[str], skip: Collection[str], now: int
) -> Job | None:
    """Return the first due job of a site that has room, and that is not to be skipped.

    Usually that is among the very first in the queue's order. When a flood of one site's jobs stands in front,
    each other site is asked for its first one instead, so the cost follows the sites and not the flood.
    """
    closed = {*full_sites, *(cooldown.site for cooldown in cooldowns(connection, now))}
    first = connection.execute(
        f"SELECT site, {JOB} FROM jobs INDEXED BY jobs_due WHERE {_DUE} "  # noqa: S608 - our own words
        "ORDER BY rank, position, sequence LIMIT ?",
        (SCAN_LIMIT,),
    )
    seen = 0
    for row in first:
        seen += 1
        if row["site"] not in closed and row["id"] not in skip and (found := read_jobs([row])):
            return found[0]
    if seen < SCAN_LIMIT:
        return None
    heads = [head for site in _due_sites(connection) if site not in closed and (head := _head(connection, site, skip))]
    return min(heads, key=lambda head: head[0])[1] if heads else None


def _due_sites(connection: sqlite3.Connection) -> list[str]:
    """List the sites that have due jobs, jumping from one to the next in the index."""
    sites: list[str] = []
    site = ""
    while True:
        row = connection.execute(
            f"SELECT site FROM jobs INDEXED BY jobs_due_of_site WHERE {_DUE} AND site > ? "  # noqa: S608 - our own words
            "ORDER BY site LIMIT 1",
            (site,),
        ).fetchone()
        if row is None:
            return sites
        site = row["site"]
        sites.append(site)


def _head(connection: sqlite3.Connection, site: str, skip: Collection[str]) -> tuple[tuple[int, int, int], Job] | None:
    rows = connection.execute(
        f"SELECT rank, position, sequence, {JOB} FROM jobs INDEXED BY jobs_due_of_site WHERE {_DUE} "  # noqa: S608 - our own words
        "AND site = ? ORDER BY rank, position, sequence",
        (site,),
    )
    for row in rows:
        if row["id"] not in skip and (found := read_jobs([row])):
            return (row["rank"], row["position"], row["sequence"]), found[0]
    return None


def has_become_ready(connection: sqlite3.Connection, now: int) -> bool:
    """Say whether a queued job's time has come."""
    found = connection.execute(
        "SELECT 1 FROM jobs WHERE state = 'queued' AND ready_at IS NOT NULL AND ready_at <= ? LIMIT 1", (now,)
    )
    return found.fetchone() is not None


def next_ready_at(connection: sqlite3.Connection, now: int) -> int | None:
    """Return when the next job, or the next site, becomes ready."""
    job = connection.execute(
        "SELECT min(ready_at) FROM jobs WHERE state = 'queued' AND ready_at IS NOT NULL"
    ).fetchone()[0]
    site = connection.execute("SELECT min(until) FROM cooldowns WHERE until > ?", (now,)).fetchone()[0]
    return min((value for value in (job, site) if value is not None), default=None)


def has_expired_lease(connection: sqlite3.Connection, now: int) -> bool:
    """Say whether any lease is out, at a moment of the steady clock."""
    return connection.execute("SELECT 1 FROM jobs WHERE lease_until < ? LIMIT 1", (now,)).fetchone() is not None


def running_by_site(connection: sqlite3.Connection) -> dict[str, int]:
    """Count leased jobs by site; what an earlier process held runs no more."""
    rows = connection.execute("SELECT site, count(*) AS jobs FROM jobs WHERE lease_until > 0 GROUP BY site").fetchall()
    return {row["site"]: row["jobs"] for row in rows}


def finished_before(connection: sqlite3.Connection, moment: int, limit: int) -> list[Job]:
    """Return finished jobs without a parent and without a child that ended no earlier, oldest end first."""
    where = (
        "WHERE finished_at < ? AND parent_id IS NULL AND NOT EXISTS (SELECT 1 FROM jobs AS child "
        "WHERE child.parent_id = jobs.id AND (child.finished_at IS NULL OR child.finished_at >= ?)) "
        "ORDER BY finished_at, sequence LIMIT ?"
    )
    return read_jobs(rows_of(connection, where, (moment, moment, limit)))


def tombstone(connection: sqlite3.Connection, job_id: str) -> Tombstone | None:
    """Return what is left of an expired job."""
    row = connection.execute("SELECT document FROM tombstones WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else Tombstone.model_validate_json(row["document"])


def queue_state(connection: sqlite3.Connection) -> QueueState:
    """Return whether the queue is paused."""
    row = connection.execute("SELECT document FROM facts WHERE name = 'queue'").fetchone()
    return QueueState() if row is None else QueueState.model_validate_json(row["document"])


def cooldowns(connection: sqlite3.Connection, now: int) -> list[Cooldown]:
    """Return the sites that cool down now."""
    rows = connection.execute("SELECT document FROM cooldowns WHERE until > ? ORDER BY site", (now,)).fetchall()
    return [Cooldown.model_validate_json(row["document"]) for row in rows]


def workdirs(connection: sqlite3.Connection) -> dict[str, str]:
    """Return job id by work folder."""
    rows = connection.execute("SELECT workdir, id FROM jobs WHERE workdir IS NOT NULL").fetchall()
    return {row["workdir"]: row["id"] for row in rows}
