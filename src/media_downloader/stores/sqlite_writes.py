"""What each write of the JobStore does, inside a transaction of the writer's."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from media_downloader.errors import ClaimRefused, InvalidTransition, LeaseLost
from media_downloader.jobs.model import Cooldown, Job, Progress, QueueState, Tombstone
from media_downloader.jobs.state import FINISHED, RUNNING, Signal, State, can_move, obeyed
from media_downloader.ports import Change, Claim
from media_downloader.stores import sqlite_clock as clock
from media_downloader.stores import sqlite_queries as queries
from media_downloader.stores.sqlite_rows import (
    GAP,
    Tally,
    count_child,
    derive,
    last_position,
    load,
    read_job,
    read_jobs,
    row_of,
    rows_of,
    save,
)


def change(
    connection: sqlite3.Connection, job_id: str, wanted: Change, newest: tuple[int, Progress] | None = None
) -> Job:
    """Check the change against the job as it is now, and write it. ``newest`` is progress not yet stored."""
    job = load(connection, job_id)
    return _store(connection, job, _changed(connection, job, wanted, newest))


def _changed(connection: sqlite3.Connection, job: Job, wanted: Change, newest: tuple[int, Progress] | None) -> Job:
    if wanted.attempt is not None:
        _fence(job, wanted.attempt)
    if wanted.expected is not None and job.state not in wanted.expected:
        raise InvalidTransition(f"The job is {job.state} by now.", state=str(job.state))
    facts = dict(wanted.facts)
    if newest is not None and newest[0] == job.attempt and job.state in RUNNING:
        facts.setdefault("progress", newest[1])
    if facts.get("priority", job.priority) != job.priority:
        facts["position"] = last_position(connection, facts["priority"]) + GAP
    target = wanted.to
    if facts.get("is_playlist") and not job.is_playlist and job.signal is not None:
        # It would swallow the wish: the one who asked for it knew of no playlist.
        del facts["is_playlist"]
        target = State.QUEUED
    if target is not None:
        _check_move(job, target)
        to = obeyed(job.state, target, job.signal)
        if to is not target:
            # The failure of an attempt that was to end anyway is no news, and its work folder goes with a cancel.
            facts |= {"failure": None, "ready_at": job.not_before} | ({"workdir": None} if to is State.CANCELED else {})
        facts |= _move_facts(job, to)
    return derive(job.model_copy(update={**facts, "updated_at": clock.wall()}))


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
                after = _signaled(job, wish)
            else:
                after = _changed(connection, job, wish, newest.get(job_id))
        except (InvalidTransition, LeaseLost):
            continue
        if after is not job:
            save(connection, job, after)
            tally.note(job, after)
            changed.append(after)
    tally.write(connection)
    return changed


def _fence(job: Job, attempt: int) -> None:
    if job.attempt != attempt or job.owner is None:
        raise LeaseLost("Another attempt holds the job.", attempt=job.attempt)


def _check_move(job: Job, to: State) -> None:
    if job.is_playlist:
        raise InvalidTransition("A playlist's state follows from its entries.", state=str(job.state))
    if not can_move(job.state, to):
        raise InvalidTransition(f"A job that is {job.state} cannot become {to}.", state=str(job.state))


def _move_facts(job: Job, to: State) -> dict[str, Any]:
    facts: dict[str, Any] = {"state": to}
    if to not in RUNNING:
        facts |= {"signal": None, "owner": None, "lease_until": None}
    if to in FINISHED:
        facts["finished_at"] = clock.wall()
    elif job.state in FINISHED:
        facts["finished_at"] = None
    return facts


def _store(connection: sqlite3.Connection, before: Job, after: Job) -> Job:
    save(connection, before, after)
    count_child(connection, before, after)
    return after


def claim(connection: sqlite3.Connection, job_id: str, wanted: Claim) -> Job:
    """Judge everything that a claim depends on, and take the job."""
    row = row_of(connection, job_id)
    job = read_job(row)
    if job.state is not State.QUEUED or job.is_playlist:
        raise ClaimRefused(f"The job is {job.state}.", state=str(job.state))
    if row["ready_at"] is not None and row["ready_at"] > clock.now_micros():
        raise ClaimRefused("The job is not due yet.", state=str(job.state))
    if queries.queue_state(connection).paused:
        raise ClaimRefused("The queue is paused.", state=str(job.state))
    if any(cooldown.site == job.site for cooldown in queries.cooldowns(connection, clock.now_micros())):
        raise ClaimRefused("The site cools down.", state=str(job.state))
    running = queries.running_by_site(connection)
    if wanted.max_per_site is not None and running.get(job.site, 0) >= wanted.max_per_site:
        raise ClaimRefused("The site is at its limit.", state=str(job.state))
    if wanted.max_running is not None and sum(running.values()) >= wanted.max_running:
        raise ClaimRefused("As many jobs run as may.", state=str(job.state))
    now = clock.wall()
    facts: Mapping[str, Any] = {
        "state": State.EXTRACTING,
        "signal": None,
        "attempt": job.attempt + 1,
        "owner": wanted.owner,
        "lease_until": now + timedelta(seconds=wanted.lease_seconds),
        "started_at": now,
        "ready_at": None,
        "updated_at": now,
    }
    claimed = job.model_copy(update=facts)
    save(connection, job, claimed, lease_until=_lease_end(wanted.lease_seconds))
    count_child(connection, job, claimed)
    return claimed


def _lease_end(lease_seconds: float) -> int:
    return clock.steady() + round(lease_seconds * 1e6)


def renew(connection: sqlite3.Connection, job_id: str, attempt: int, lease_seconds: float) -> Signal | None:
    """Extend a lease that still holds."""
    row = row_of(connection, job_id)
    job = read_job(row)
    _fence(job, attempt)
    if row["lease_until"] is None or row["lease_until"] < clock.steady():
        raise LeaseLost("The lease has run out.", attempt=job.attempt)
    renewed = job.model_copy(update={"lease_until": clock.wall() + timedelta(seconds=lease_seconds)})
    save(connection, job, renewed, lease_until=_lease_end(lease_seconds))
    return job.signal


def send_signal(connection: sqlite3.Connection, job_id: str, signal: Signal) -> Job:
    """Note a wish; a cancel stays a cancel."""
    job = load(connection, job_id)
    signaled = _signaled(job, signal)
    if signaled is not job:
        save(connection, job, signaled)
    return signaled


def _signaled(job: Job, signal: Signal) -> Job:
    if job.state not in RUNNING or job.is_playlist:
        raise InvalidTransition(f"Nobody runs a job that is {job.state}.", state=str(job.state))
    if job.signal in {Signal.CANCEL, signal}:
        return job
    return job.model_copy(update={"signal": signal, "updated_at": clock.wall()})


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
    return [_release(connection, job) for job in read_jobs(rows)]


def release_owner(connection: sqlite3.Connection, owner_prefix: str) -> list[Job]:
    """Take jobs from owners that are gone."""
    rows = rows_of(connection, "WHERE lease_until IS NOT NULL")
    held = [job for job in read_jobs(rows) if (job.owner or "").startswith(owner_prefix)]
    return [_release(connection, job) for job in held]


def _release(connection: sqlite3.Connection, job: Job) -> Job:
    facts = {**_move_facts(job, obeyed(job.state, State.QUEUED, job.signal)), "updated_at": clock.wall()}
    return _store(connection, job, job.model_copy(update=facts))


def remove(connection: sqlite3.Connection, job_id: str, *, expired: bool) -> Job:
    """Delete the job and its children, leaving tombstones when it expired."""
    job = load(connection, job_id)
    rows = rows_of(connection, "WHERE parent_id = ?", (job_id,))
    # A child that cannot be read is not removed unseen.
    family = [job, *(read_job(row) for row in rows)]
    if any(member.lease_until is not None for member in family):
        raise InvalidTransition("A runner still holds the job.", state=str(job.state))
    if expired and any(member.state not in FINISHED for member in family):
        raise InvalidTransition("The job, or an entry of it, is not finished.", state=str(job.state))
    now = clock.wall()
    for member in family:
        connection.execute("DELETE FROM jobs WHERE id = ?", (member.id,))
        if expired:
            _bury(connection, member, now)
    count_child(connection, job, None)
    return job


def _bury(connection: sqlite3.Connection, job: Job, now: datetime) -> None:
    files = tuple(artifact.name for artifact in job.artifacts)
    tombstone = Tombstone(id=job.id, state=job.state, files=files, expired_at=now)
    values = (job.id, tombstone.model_dump_json(), clock.micros(now))
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
