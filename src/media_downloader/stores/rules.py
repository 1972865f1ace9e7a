"""What a write makes of a job: the rules that every store applies inside its atomic step. No I/O."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from media_downloader.errors import ClaimRefused, IdempotencyConflict, InvalidTransition, JobExpired, LeaseLost
from media_downloader.jobs.model import Job, Progress, Tombstone
from media_downloader.jobs.state import (
    FINISHED,
    RUNNING,
    Signal,
    State,
    can_move,
    derived_state,
    inherited,
    obeyed,
)
from media_downloader.netguard.redaction import redact_url
from media_downloader.ports import Change, Claim

#: Room between two neighbours in the queue: so many jobs can be placed between them before room must be made.
GAP = 1 << 32


@dataclass(frozen=True)
class QueueNow:
    """What a claim is judged by, beside the job itself."""

    now: datetime
    #: Whether the job need not wait for its time.
    due: bool
    paused: bool
    #: Whether the job's site cools down.
    cooling: bool
    running_of_site: int
    running: int


def changed(job: Job, wanted: Change, now: datetime, newest: tuple[int, Progress] | None = None) -> Job:
    """Return the job after the change. ``newest`` is progress not yet stored, with its attempt.

    A changed priority leaves the position as it is: only the store knows where the end of the queue is.
    """
    if wanted.attempt is not None:
        fence(job, wanted.attempt)
    if wanted.expected is not None and job.state not in wanted.expected:
        raise InvalidTransition(f"The job is {job.state} by now.", state=str(job.state))
    facts = dict(wanted.facts)
    if newest is not None and newest[0] == job.attempt and job.state in RUNNING:
        facts.setdefault("progress", newest[1])
    target = wanted.to
    if facts.get("is_playlist") and not job.is_playlist and job.signal is not None and job.state in RUNNING:
        # It would swallow the wish: the one who asked for it knew of no playlist.
        del facts["is_playlist"]
        target = State.QUEUED
    if target is not None:
        _check_move(job, target)
        to = obeyed(job.state, target, job.signal)
        if to is not target:
            # The failure of an attempt that was to end anyway is no news, and its work folder goes with a cancel.
            facts |= {"failure": None, "ready_at": job.not_before} | ({"workdir": None} if to is State.CANCELED else {})
        facts |= _move_facts(job, to, now)
    return derive(job.model_copy(update={**facts, "updated_at": now}), now)


def fence(job: Job, attempt: int) -> None:
    """Refuse a write under a token that is not the job's."""
    if job.attempt != attempt or job.owner is None:
        raise LeaseLost("Another attempt holds the job.", attempt=job.attempt)


def _check_move(job: Job, to: State) -> None:
    if job.is_playlist:
        raise InvalidTransition("A playlist's state follows from its entries.", state=str(job.state))
    if not can_move(job.state, to):
        raise InvalidTransition(f"A job that is {job.state} cannot become {to}.", state=str(job.state))


def _move_facts(job: Job, to: State, now: datetime) -> dict[str, Any]:
    facts: dict[str, Any] = {"state": to}
    if to not in RUNNING:
        facts |= {"signal": None, "owner": None, "lease_until": None}
    if to in FINISHED:
        facts["finished_at"] = now
    elif job.state in FINISHED:
        facts["finished_at"] = None
    return facts


def claimed(job: Job, wanted: Claim, queue: QueueNow) -> Job:
    """Return the job in the claimant's hands; the wish that came while it waited is kept for the runner."""
    refusal = _refusal(job, wanted, queue)
    if refusal is not None:
        raise ClaimRefused(refusal, state=str(job.state))
    facts = {
        "state": State.EXTRACTING,
        "attempt": job.attempt + 1,
        "owner": wanted.owner,
        "lease_until": queue.now + timedelta(seconds=wanted.lease_seconds),
        "started_at": queue.now,
        "ready_at": None,
        "updated_at": queue.now,
    }
    return job.model_copy(update=facts)


def _refusal(job: Job, wanted: Claim, queue: QueueNow) -> str | None:
    site_is_full = wanted.max_per_site is not None and queue.running_of_site >= wanted.max_per_site
    all_is_full = wanted.max_running is not None and queue.running >= wanted.max_running
    reasons = {
        f"The job is {job.state}.": job.state is not State.QUEUED or job.is_playlist,
        "The job is not due yet.": not queue.due,
        "The queue is paused.": queue.paused,
        "The site cools down.": queue.cooling,
        "The site is at its limit.": site_is_full,
        "As many jobs run as may.": all_is_full,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def renewed(job: Job, attempt: int, until: datetime, *, ended: bool) -> Job:
    """Return the job with its lease extended; one that has ended is not revived."""
    fence(job, attempt)
    if job.lease_until is None or ended:
        raise LeaseLost("The lease has run out.", attempt=job.attempt)
    return job.model_copy(update={"lease_until": until})


def signaled(job: Job, signal: Signal, now: datetime) -> Job:
    """Return the job with the wish noted, or the very same when it has it; a cancel stays a cancel."""
    if job.state not in RUNNING or job.is_playlist:
        raise InvalidTransition(f"Nobody runs a job that is {job.state}.", state=str(job.state))
    if job.signal in {Signal.CANCEL, signal}:
        return job
    return job.model_copy(update={"signal": signal, "updated_at": now})


def released(job: Job, now: datetime, *, abandoned: bool) -> Job:
    """Return a job that its runner lost: back in the queue, or where its user wanted it.

    ``abandoned``: nobody knows whether the runner's process is dead.
    """
    to = obeyed(job.state, State.QUEUED, job.signal)
    facts = {**_move_facts(job, to, now), "abandoned": abandoned, "updated_at": now}
    return job.model_copy(update=facts)


def must_wait(job: Job) -> None:
    """Refuse to place a job that is not in the queue."""
    if job.state is not State.QUEUED:
        raise InvalidTransition(f"A job that is {job.state} has no place in the queue.", state=str(job.state))


def must_be_removable(family: Iterable[Job], state: State, *, expired: bool) -> None:
    """Refuse to remove what a runner holds, and to let expire what is not finished; ``state`` is its head's."""
    members = list(family)
    if any(member.lease_until is not None for member in members):
        raise InvalidTransition("A runner still holds the job.", state=str(state))
    if expired and any(member.state not in FINISHED for member in members):
        raise InvalidTransition("The job, or an entry of it, is not finished.", state=str(state))


def must_have_removable_children(parent: Job, *, expired: bool) -> None:
    """Refuse the same by what a playlist counts, before any of its children has gone."""
    left = [state for state, count in parent.children.items() if count > 0]
    if any(state in RUNNING for state in left):
        raise InvalidTransition("A runner still holds the job.", state=str(parent.state))
    if expired and any(state not in FINISHED for state in left):
        raise InvalidTransition("The job, or an entry of it, is not finished.", state=str(parent.state))


def as_wished(child: Job, parent: Job | None, now: datetime) -> Job:
    """Return a new child as what was asked of its parent wants it; the very same where it wants nothing."""
    if parent is None or parent.is_playlist:
        return child
    state = inherited(parent.state, parent.signal, child.state)
    if state is child.state:
        return child
    return child.model_copy(update={"state": state, "finished_at": now if state in FINISHED else None})


class Tally:
    """Keeps playlists' counters, and the states that follow from them, in step with children that come, move and go."""

    def __init__(self) -> None:
        self._parents: dict[str, Counter[State]] = {}

    def note(self, before: Job | None, after: Job | None) -> None:
        """Take note of one child, as it was and as it is."""
        job = after or before
        if job is None or job.parent_id is None or (before and before.state) == (after and after.state):
            return
        counts = self._parents.setdefault(job.parent_id, Counter())
        if before is not None:
            counts[before.state] -= 1
        if after is not None:
            counts[after.state] += 1

    def parents(self, find: Callable[[str], Job | None], now: datetime) -> Iterator[tuple[Job, Job]]:
        """Yield each parent that is there, as ``find`` has it and as it must be, once."""
        for parent_id, counts in self._parents.items():
            parent = find(parent_id) if any(counts.values()) else None
            if parent is None:
                continue
            counts.update(parent.children)
            children = {state: counts[state] for state in State if counts[state] > 0}
            yield parent, derive(parent.model_copy(update={"children": children, "updated_at": now}), now)


def derive(parent: Job, now: datetime) -> Job:
    """Return an expanded playlist with the state that follows from its children; any other job as it is."""
    if not parent.is_playlist:
        return parent
    state = derived_state(parent.children)
    finished_at = (parent.finished_at or now) if state in FINISHED else None
    return parent.model_copy(
        update={"state": state, "finished_at": finished_at, "owner": None, "lease_until": None, "signal": None}
    )


def buried(job: Job, now: datetime) -> Tombstone:
    """Return what is left of a job that expires."""
    files = tuple(artifact.name for artifact in job.artifacts)
    return Tombstone(id=job.id, state=job.state, files=files, expired_at=now)


def expired(tombstone: Tombstone) -> JobExpired:
    """Return the error that says where a job has gone."""
    return JobExpired(
        "The job has left the list; its files stay.", state=str(tombstone.state), files=list(tombstone.files)
    )


def must_be_same(known: str, digest: str) -> None:
    """Refuse a key that came with another request before."""
    if known != digest:
        raise IdempotencyConflict("This Idempotency-Key was used before, for another request.")


def searched(job: Job) -> str:
    """Return the text that a search looks into: without secrets, or it lets them be guessed, letter by letter."""
    return f"{job.media.title or ''}\n{redact_url(job.url)}".casefold()


def words_of(text: str | None) -> list[str]:
    """Return what ``searched`` must contain. Links are searched without secrets, so one is asked for without them."""
    return [redact_url(word) for word in (text or "").casefold().split()]
