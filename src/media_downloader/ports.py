"""The three contracts that have more than one implementation, with every guarantee in words."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from media_downloader.jobs.model import Cooldown, Event, Job, Progress, QueueState, Tombstone
from media_downloader.jobs.state import Signal, State

NO_FACTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class NewJobs:
    """Jobs to add in one step, and the key under which a client may ask for the same again."""

    jobs: Sequence[Job]
    idempotency_key: str | None = None
    #: Digest of the request that came with the key; another digest under the same key is a conflict.
    request_digest: str | None = None
    #: Kept with the key and given back with it; the store does not look into it.
    note: str | None = None


@dataclass(frozen=True)
class Added:
    """What an add left in the store. ``replayed``: the key had been used, these are the jobs of that time.

    ``ids`` and ``note`` come with a replay: every id of that time, in order (those that are not among ``jobs`` have
    left the list since, or cannot be read), and the note that was kept.
    """

    jobs: Sequence[Job]
    replayed: bool = False
    ids: Sequence[str] = ()
    note: str | None = None


@dataclass(frozen=True)
class Change:
    """One atomic change of a job.

    ``facts`` are fields of ``Job`` by name. ``expected`` narrows the states that the move may start from;
    with ``attempt`` the write is fenced: it is refused once another attempt holds the job.
    """

    to: State | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    expected: Collection[State] | None = None
    attempt: int | None = None


@dataclass(frozen=True)
class Claim:
    """Who wants to run a job, for how long, and which limits the claim must respect."""

    owner: str
    lease_seconds: float
    #: Most jobs of one site that may run at once; None is no limit.
    max_per_site: int | None = None
    #: Most jobs that may run at once in the whole store; None leaves that to the engines.
    max_running: int | None = None


@dataclass(frozen=True)
class JobQuery:
    """Which jobs, in which order, from where on."""

    states: Collection[State] = ()
    site: str | None = None
    #: Words that the title or the URL must contain, case-insensitively.
    text: str | None = None
    parent_id: str | None = None
    #: One of "created_at", "finished_at", "position"; "-" in front reverses it.
    sort: str = "-created_at"
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True)
class JobPage:
    """A page of jobs; ``next_cursor`` is None on the last one."""

    jobs: Sequence[Job]
    next_cursor: str | None


class JobStore(Protocol):
    """Where every fact about jobs lives: the truth.

    Every write is durable when it returns (progress excepted), survives a ``kill -9`` of the program, and either
    happened wholly or not at all. Values come back exactly as they were stored. An unknown id raises
    ``JobNotFound``, one that left the list ``JobExpired``, from every method that takes one.
    A job that another version of the program wrote and this one cannot read raises ``JobUnreadable`` from them, is left
    as it is, and is left out of everything that returns or picks several.
    A store that cannot be reached or written raises ``StoreUnavailable``, never a library's own exception.
    A lease is measured on a clock that nobody sets: neither a step of the wall clock nor a machine that slept ends or
    prolongs it; ``Job.lease_until`` is for people only. (A store that machines share has no such clock: there it is its
    server's, and no machine's own.) A job that ``next_due`` once found due is due for ``claim``
    too, until its ``ready_at`` changes, wherever the wall clock goes.
    A playlist's parent (``is_playlist``) follows its children: each write that moves a child updates the
    parent's ``children`` and derived ``state`` in the same transaction.
    """

    async def now(self) -> datetime:
        """Return the moment by the clock that decides here what is due, what is old and what is new.

        A store that machines share asks its server: their own clocks differ, and none may decide for the others.
        """

    @property
    def is_new(self) -> bool:
        """Whether the store began empty and ``rebuild`` has not been done since, in this run or in an earlier one.

        While it is so, jobs may be on disk that the store does not know, and nothing on disk is an orphan.
        """

    async def rebuild(self, jobs: Sequence[Job]) -> None:
        """Add jobs as ``add`` does, and note in the same step that what is on disk has been found: it is not new."""

    async def volume(self, proposed: str | None = None) -> str | None:
        """Return the id of the volume that whoever shares this store must have; None where there is none.

        Where a shared store has none, ``proposed`` becomes it, and in the same step the store is new: what is on that
        volume has never been compared with it. Of any number of concurrent callers, one's becomes it.
        """

    async def open(self) -> None:
        """Connect and migrate. Raises ``StoreTooNew`` for a store that a newer version wrote."""

    async def close(self) -> None:
        """Write what is pending and let go of everything. Safe to call twice."""

    async def add(self, new: NewJobs) -> Added:
        """Store all of the jobs or none, each behind the last of its priority.

        A job whose id exists is left as it is and returned as stored, so that an add can be repeated.
        A queued child of a parent that is no playlist yet is stored as its parent's wish wants it at that moment
        (``jobs.state.inherited``): paused, or canceled and finished.
        A key that was used with the same digest returns the jobs of that time; with another digest it raises
        ``IdempotencyConflict``. Of any number of concurrent callers with one key, one adds.
        """

    async def replay(self, key: str, digest: str) -> Added | None:
        """Return what ``add`` with this key would replay, or None for a key that was not used; adds nothing.

        Raises ``IdempotencyConflict`` for another digest than that of the first time.
        """

    async def get(self, job_id: str) -> Job:
        """Return the job with its newest progress."""

    async def known(self, job_ids: Collection[str]) -> Collection[str]:
        """Return which of these are ids of jobs, those that cannot be read included. Callers ask for some hundreds."""

    async def find(self, query: JobQuery) -> JobPage:
        """Return a page in a stable order: no job is listed twice or left out because others came or went.

        Raises ``InvalidCursor`` for a cursor that this store did not give out for this sort.
        """

    async def counts(self) -> Mapping[State, int]:
        """Count jobs by state (all states are keys), playlists' parents included."""

    async def change(self, job_id: str, change: Change) -> Job:
        """Apply one change atomically and return the job after it.

        A move is checked against ``TRANSITIONS``. Entering a state that nobody runs clears ``signal``, owner and lease;
        a move between running states keeps them, so that a wish is never overtaken. Entering a finished state stamps
        ``finished_at``, leaving it clears it. Moving to the state it is in is illegal. A running job with a pending
        signal that is to go back to the queue ends as the user asked instead, and a cancel overrules an error
        (``jobs.state.obeyed``). So does one with a pending signal that is to become a playlist (``is_playlist`` among
        the facts): it becomes none, and the other facts are kept. Raises ``InvalidTransition``; ``LeaseLost`` when
        ``attempt`` is not the job's.
        Of any number of concurrent callers asking for the same move, exactly one succeeds.
        """

    async def change_many(self, wishes: Mapping[str, Change | Signal]) -> Sequence[Job]:
        """Apply to each job, by id, what ``change`` or ``send_signal`` would; all of it in one atomic step.

        Returns the jobs that changed, in the order given. One that is not there, cannot be read, has the signal
        already, or to which its wish does not apply by now (``InvalidTransition``, ``LeaseLost``) is left as it is and
        left out. A parent of many of them is updated once. Callers ask for a few hundred at once, not for thousands.
        """

    async def claim(self, job_id: str, claim: Claim) -> Job:
        """Take a queued job: ``extracting``, attempt + 1, lease, ``started_at``. Exactly one of many claimants wins.

        Raises ``ClaimRefused`` when it is not queued, not due, an expanded playlist, the queue is paused, its site
        cools down or is at its limit. All of that is judged in the same atomic step.
        """

    async def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Signal | None:
        """Extend the lease and return the pending signal. Raises ``LeaseLost``; a lost lease is never revived."""

    async def send_signal(self, job_id: str, signal: Signal) -> Job:
        """Leave a wish for the runner of a running job; cancel overrules pause, never the reverse.

        Raises ``InvalidTransition`` when nobody runs the job (the caller moves it itself then).
        """

    async def obey_flags(self) -> Sequence[tuple[Job, Job]]:
        """Carry out wishes that somebody left in the store itself, beside jobs that nobody runs, as an action would.

        Returns the jobs that changed, as they were and as they are, a playlist after its children; folders and news are
        the caller's matter. A wish that can mean nothing is forgotten. It is called every few seconds and looks at a
        part of a large store each time. Nothing is to be found in a store into which nobody else can write.
        """

    async def save_progress(self, job_id: str, attempt: int, progress: Progress) -> None:
        """Keep the newest progress; it may be written up to a second later. A stale attempt's is ignored."""

    async def next_due(self, full_sites: Collection[str], skip: Collection[str] = ()) -> Job | None:
        """Return the queued job that should run next: highest priority, then lowest position.

        Skips jobs that are not due, sites in ``full_sites`` or cooling down, expanded playlists, and the few jobs whose
        ids are in ``skip``.
        Costs no more for a longer queue (it may cost more for more sites).
        """

    async def next_ready_at(self) -> datetime | None:
        """Return when the next queued job that is not due becomes due (its own time or its site's cool-down)."""

    async def running_by_site(self) -> Mapping[str, int]:
        """Count running jobs by site."""

    async def release_expired(self) -> Sequence[Job]:
        """Put every job whose lease has expired back in the queue, at its place, and return them.

        A pending pause or cancel is obeyed instead: such a job ends ``paused`` or ``canceled``.
        A shared store that has lost everything meanwhile is known to be new (``is_new``) when this returns.
        """

    async def release_owner(self, owner_prefix: str) -> Sequence[Job]:
        """The same at once for every job held by an owner that is known to be gone; "" is every owner.

        In a store that others share only for one's own owners: nobody knows that another's are gone, and "" would take
        every running job from under its runner.
        """

    async def move(
        self, job_ids: Sequence[str], before: str | None, facts: Mapping[str, Any] = NO_FACTS
    ) -> Sequence[Job]:
        """Place queued jobs, in the order given, right before another queued one (taking its priority) or before all.

        ``facts`` change with it, in the same step; jobs that are to stand before one of themselves stay where they are.
        Raises ``InvalidTransition`` when one of them, or the other, is not queued; then nothing has changed.
        Its cost does not grow with the queue.
        """

    async def remove(self, job_id: str, *, expired: bool = False) -> Job:
        """Delete a job that nobody runs, with its children; ``expired`` leaves a tombstone.

        Hundreds of children may leave in several atomic steps, the job itself with the last of them. Who is cut off
        between two, or refused because a child has begun by then, leaves a playlist with fewer entries, and asks again.
        Raises ``InvalidTransition`` while a runner holds it or one of its children; with ``expired`` also while it, or
        one of them, is not finished.
        """

    async def finished_before(self, moment: datetime, limit: int) -> Sequence[Job]:
        """Return finished top-level jobs that ended before ``moment``, oldest first.

        One of which a child is not finished, or ended no earlier than that, is not among them.
        """

    async def tombstone(self, job_id: str) -> Tombstone | None:
        """Return what is left of an expired job."""

    async def drop_tombstones_before(self, moment: datetime) -> int:
        """Forget older tombstones and idempotency keys; return how many were dropped."""

    async def queue_state(self) -> QueueState:
        """Return whether the queue is paused; survives restarts."""

    async def set_queue_state(self, state: QueueState, expected: QueueState | None = None) -> bool:
        """Pause or resume the queue as a whole, and say whether that was done.

        With ``expected`` it is done only while the queue's state equals that, in one atomic step.
        """

    async def set_cooldown(self, cooldown: Cooldown) -> None:
        """Keep a site from starting jobs until a moment; an earlier end than the present one is ignored."""

    async def cooldowns(self) -> Sequence[Cooldown]:
        """Return the sites that cool down now."""

    async def workdirs(self) -> Mapping[str, str]:
        """Return job id by work folder, for every job that has one."""


@dataclass(frozen=True)
class Envelope:
    """An event with its cursor: opaque, growing within one stream."""

    cursor: str
    event: Event


class Reset:
    """What a subscriber gets in place of events that it can no longer have; it must fetch the list anew."""


class EventBus(Protocol):
    """News for whoever watches. Losing it loses nothing but time: the store has the facts.

    Events of one job arrive in the order in which they were published. A slow reader never delays a publisher
    or another reader: it is given a ``Reset`` and goes on from there.
    What is published of a job after its ``DeletedEvent`` is dropped, unless the job was created since: who was late
    with news must not bring back what has left everybody's list.
    """

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """End every subscription at once; its iterator stops."""

    async def publish(self, event: Event) -> None:
        """Tell everybody. Never raises for want of readers and never waits for one."""

    def subscribe(self, after: str | None = None) -> AsyncIterator[Envelope | Reset]:
        """Yield what comes after the cursor (None: from now on).

        A cursor that is too old, or of another stream, yields ``Reset`` first.
        """


@dataclass(frozen=True)
class WorkerInfo:
    """A worker on this machine or another, as it last spoke of itself."""

    id: str
    host: str
    slots: int
    running: int
    #: False once it has been silent for too long.
    alive: bool
    heard_at: datetime
    versions: Mapping[str, str]
    free_bytes: int
    #: Why it takes no work ("cannot see the volume"); empty when all is well.
    problems: Sequence[str] = ()


class Engine(Protocol):
    """Where runners run. It carries ids; what a job is and whether it may run is the runner's and store's matter.

    At least once: a submitted id is run unless the engine, or what runs it, dies first; whoever submits looks again
    later. Running one twice is harmless, even at the same time: the claim decides. One that was submitted and has not
    begun may be submitted again to no effect. One that is submitted while it runs is run once more, beside the present
    run or after it: the attempt that runs may be over for the store.
    """

    async def start(self, run: Callable[[str], Awaitable[None]]) -> None:
        """Make ready. ``run`` takes a job from claim to verdict; one that raises costs no slot.

        Where jobs run elsewhere it is not called: whoever runs them has a runner of its own.
        """

    async def stop(self) -> None:
        """Take no more work, and stop what runs in this process; its jobs go back to the queue. Under 3 seconds.

        What runs elsewhere goes on.
        """

    async def has_turn(self) -> bool:
        """Say whether this process is the one that hands out jobs now, where several share them.

        A convenience, not a lock: two that do it at the same time do no harm.
        """

    async def free_slots(self) -> int:
        """Return how many more jobs may be submitted now; 0 when nobody can tell, and before the start and after the
        stop. What was submitted takes a slot at once, until it has ended.
        """

    async def submit(self, job_id: str, attempts: int = 0) -> None:
        """Run the job as soon as may be; never waits for a slot.

        Raises ``EngineUnavailable`` when it cannot be handed over. Without a free slot an engine refuses so, or takes
        the job and runs it once there is one.
        ``attempts``: how many there have been; only for the names that an engine's own tools show.
        """

    async def workers(self) -> Sequence[WorkerInfo]:
        """Return the workers that were heard of lately, dead ones included; none where jobs run in this process."""
