"""What each write of the JobStore does, inside a transaction of the writer's."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta

from media_downloader.errors import InvalidTransition, LeaseLost
from media_downloader.jobs.model import Cooldown, Job, Progress, QueueState
from media_downloader.jobs.state import Signal
from media_downloader.ports import Change, Claim
from media_downloader.stores import rules
from media_downloader.stores import sqlite_clock as clock
from media_downloader.stores import sqlite_queries as queries
from media_downloader.stores.rules import GAP, Tally
from media_downloader.stores.sqlite_rows import (
    count_child,
    last_position,
    load,
    read_job,
    read_jobs,
    row_of,
    rows_of,
    save,
    save_parents,
)


def change(
    connection: sqlite3.Connection, job_id: str, wanted: Change, newest: tuple[int, Progress] | None = None
) -> Job:
    """Check the change against the job as it is now, and write it. ``newest`` is progress not yet stored."""
    job = load(connection, job_id)
    return _store(connection, job, _changed(connection, job, wanted, newest))


def _changed(connection: sqlite3.Connection, job: Job, wanted: Change, newest: tuple[int, Progress] | None) -> Job:
    after = rules.changed(job, wanted, clock.wall(), newest)
    if after.priority == job.priority:
        return after
    return after.model_copy(update={"position": last_position(connection, after.priority) + GAP})


def change_many(
    connection: sqlite3.Connection,
    wishes: Mapping[str, Change | Signal],
    newest: Mapping[str, tuple[int, Progress]],
) -> list[Job]:
    """Apply what applies, and update each parent once."""
    rows = rows_of(connection, "WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(wishes)),))
    known = {job.id: job for job in read_jobs(rows)}
    tally = Tally()
    changed = []
    for job_id, wish in wishes.items():
        job = known.get(job_id)
        if job is None:
            continue
        try:
            if isinstance(wish, Signal):
                after = rules.signaled(job, wish, clock.wall())
            else:
                after = _changed(connection, job, wish, newest.get(job_id))
        except (InvalidTransition, LeaseLost):
            continue
        if after is not job:
            save(connection, job, after)
            tally.note(job, after)
            changed.append(after)
    save_parents(connection, tally)
    return changed


def _store(connection: sqlite3.Connection, before: Job, after: Job) -> Job:
    save(connection, before, after)
    count_child(connection, before, after)
    return after


def claim(connection: sqlite3.Connection, job_id: str, wanted: Claim) -> Job:
    """Judge everything that a claim depends on, and take the job."""
    row = row_of(connection, job_id)
    job = read_job(row)
    running = queries.running_by_site(connection)
    queue = rules.QueueNow(
        now=clock.wall(),
        due=row["ready_at"] is None or row["ready_at"] <= clock.now_micros(),
        paused=queries.queue_state(connection).paused,
        cooling=any(cooldown.site == job.site for cooldown in queries.cooldowns(connection, clock.now_micros())),
        running_of_site=running.get(job.site, 0),
        running=sum(running.values()),
    )
    claimed = rules.claimed(job, wanted, queue)
    save(connection, job, claimed, lease_until=_lease_end(wanted.lease_seconds))
    count_child(connection, job, claimed)
    return claimed


def _lease_end(lease_seconds: float) -> int:
    return clock.steady() + round(lease_seconds * 1e6)


def renew(connection: sqlite3.Connection, job_id: str, attempt: int, lease_seconds: float) -> Signal | None:
    """Extend a lease that still holds."""
    row = row_of(connection, job_id)
    job = read_job(row)
    ended = row["lease_until"] is None or row["lease_until"] < clock.steady()
    renewed = rules.renewed(job, attempt, clock.wall() + timedelta(seconds=lease_seconds), ended=ended)
    save(connection, job, renewed, lease_until=_lease_end(lease_seconds))
    return job.signal


def send_signal(connection: sqlite3.Connection, job_id: str, signal: Signal) -> Job:
    """Note a wish; a cancel stays a cancel."""
    job = load(connection, job_id)
    signaled = rules.signaled(job, signal, clock.wall())
    if signaled is not job:
        save(connection, job, signaled)
    return signaled


def save_progress(connection: sqlite3.Connection, job_id: str, attempt: int, progress: Progress) -> None:
    """Write progress alone, if the attempt still holds the job."""
    row = connection.execute(
        "SELECT json_extract(document, '$.attempt') AS attempt FROM jobs WHERE id = ? AND owner IS NOT NULL", (job_id,)
    ).fetchone()
    if row is not None and row["attempt"] == attempt:
        text = progress.model_dump_json(exclude_defaults=True)
        connection.execute("UPDATE jobs SET progress = ? WHERE id = ?", (text, job_id))


def promote_ready(connection: sqlite3.Connection, now: int) -> None:
    """Make jobs due whose time has come."""
    connection.execute("UPDATE jobs SET ready_at = NULL WHERE state = 'queued' AND ready_at <= ?", (now,))


def release_expired(connection: sqlite3.Connection) -> list[Job]:
    """Take jobs from runners whose lease is out."""
    rows = rows_of(connection, "WHERE lease_until < ?", (clock.steady(),))
    return [_release(connection, job, abandoned=True) for job in read_jobs(rows)]


def release_owner(connection: sqlite3.Connection, owner_prefix: str) -> list[Job]:
    """Take jobs from owners that are gone."""
    rows = rows_of(connection, "WHERE lease_until IS NOT NULL")
    held = [job for job in read_jobs(rows) if (job.owner or "").startswith(owner_prefix)]
    return [_release(connection, job, abandoned=False) for job in held]


def _release(connection: sqlite3.Connection, job: Job, *, abandoned: bool) -> Job:
    return _store(connection, job, rules.released(job, clock.wall(), abandoned=abandoned))


def remove(connection: sqlite3.Connection, job_id: str, *, expired: bool) -> Job:
    """Delete the job and its children, leaving tombstones when it expired."""
    job = load(connection, job_id)
    rows = rows_of(connection, "WHERE parent_id = ?", (job_id,))
    # A child that cannot be read is not removed unseen.
    family = [job, *(read_job(row) for row in rows)]
    rules.must_be_removable(family, job.state, expired=expired)
    now = clock.wall()
    for member in family:
        connection.execute("DELETE FROM jobs WHERE id = ?", (member.id,))
        if expired:
            _bury(connection, member, now)
    count_child(connection, job, None)
    return job


def _bury(connection: sqlite3.Connection, job: Job, now: datetime) -> None:
    values = (job.id, rules.buried(job, now).model_dump_json(), clock.micros(now))
    connection.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", values)


def set_queue_state(connection: sqlite3.Connection, state: QueueState, expected: QueueState | None) -> bool:
    """Set it, unless it is not as expected."""
    if expected is not None and queries.queue_state(connection) != expected:
        return False
    connection.execute("INSERT OR REPLACE INTO facts VALUES ('queue', ?)", (state.model_dump_json(),))
    return True


def set_cooldown(connection: sqlite3.Connection, cooldown: Cooldown) -> None:
    """Keep the later end of the two."""
    connection.execute(
        "INSERT INTO cooldowns VALUES (?, ?, ?) ON CONFLICT (site) DO UPDATE SET until = excluded.until, "
        "document = excluded.document WHERE excluded.until > until",
        (cooldown.site, clock.micros(cooldown.until), cooldown.model_dump_json()),
    )


def drop_tombstones(connection: sqlite3.Connection, before: int) -> int:
    """Forget what is older than the moment."""
    dropped = connection.execute("DELETE FROM tombstones WHERE expired_at < ?", (before,)).rowcount
    dropped += connection.execute("DELETE FROM idempotency WHERE created_at < ?", (before,)).rowcount
    connection.execute("DELETE FROM cooldowns WHERE until < ?", (before,))
    return dropped
