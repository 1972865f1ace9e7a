"""What a user can do to jobs; shared by the API and the CLI."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog

from media_downloader.downloader.inquiry import Inquiry
from media_downloader.errors import InvalidTransition, JobError, JobNotFound, MediaDownloaderError
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import Artifact, DeletedEvent, Job, JobEvent, QueueEvent, QueueState, utc_now
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import (
    FINISHED,
    RUNNING,
    Action,
    State,
    allowed_actions,
    already_true,
    outcome,
    signal_for,
)
from media_downloader.jobs.waiting import QueueFacts, WaitingFor, why_waiting
from media_downloader.library import Library, OpenFile
from media_downloader.netguard import Policy, check_url, resolve_and_check, site_of
from media_downloader.ports import Change, EventBus, JobQuery, JobStore, NewJobs
from media_downloader.settings import Settings

log = structlog.get_logger(__name__)

#: How often an action is tried again when the job moves under it.
RACES = 5
#: Names that are resolved at once when many links are added.
RESOLVING_AT_ONCE = 20
#: More links than this in one request are not resolved before they are accepted; the download process judges them.
RESOLVE_AT_MOST = 50


@dataclass(frozen=True)
class AddRequest:
    """Links to download, and how."""

    urls: Sequence[str]
    options: JobOptions = field(default_factory=JobOptions)
    priority: int = 0
    not_before: datetime | None = None
    paused: bool = False
    idempotency_key: str | None = None
    request_digest: str | None = None


@dataclass(frozen=True)
class Rejected:
    """A link that was not accepted."""

    url: str
    error: MediaDownloaderError


@dataclass(frozen=True)
class AddOutcome:
    """What became of the links of a request."""

    jobs: Sequence[Job]
    rejected: Sequence[Rejected] = ()
    replayed: bool = False


@dataclass(frozen=True)
class JobPatch:
    """What may be changed of a job; None leaves it."""

    priority: int | None = None
    not_before: datetime | None = None
    clear_not_before: bool = False
    #: Place it right before this queued job.
    before: str | None = None
    to_front: bool = False


@dataclass(frozen=True)
class JobView:
    """A job and what can be said about it at this moment."""

    job: Job
    allowed_actions: Sequence[Action]
    waiting_for: WaitingFor | None = None
    waiting_until: datetime | None = None


@dataclass(frozen=True)
class ServiceDeps:
    """What the service works with."""

    settings: Settings
    store: JobStore
    bus: EventBus
    library: Library
    inquiry: Inquiry
    policy: Policy
    job_logs: JobLogs
    #: The scheduler's facts, for ``waiting_for``.
    queue_facts: Callable[[], Awaitable[QueueFacts]]


class JobService:
    """Every action of a user, validated, made durable and told to everybody."""

    def __init__(self, deps: ServiceDeps) -> None:
        self._deps = deps
        self._store = deps.store
        self._bus = deps.bus

    # --- adding -------------------------------------------------------------------------------------------------

    async def add(self, request: AddRequest) -> AddOutcome:
        """Store a job for each link that is acceptable; nothing is fetched before that.

        Options are judged first, for all links at once. Raises ``OptionRejected``, ``IdempotencyConflict`` and, for
        a request with a single link, what is wrong with it.
        """
        await self._check_options(request.options)
        judged = await self._judge(request.urls)
        rejected = [entry for entry in judged if isinstance(entry, Rejected)]
        if len(request.urls) == 1 and rejected:
            raise rejected[0].error
        urls = [entry for entry in judged if isinstance(entry, str)]
        jobs = await asyncio.to_thread(lambda: [self._new_job(url, request) for url in urls])
        if not jobs:
            return AddOutcome([], rejected)
        added = await self._store.add(NewJobs(jobs, request.idempotency_key, request.request_digest))
        if not added.replayed:
            for number, job in enumerate(added.jobs):
                await self._bus.publish(JobEvent(job=job))
                if number % 100 == 99:
                    # Thousands of events at once must not keep other requests waiting.
                    await asyncio.sleep(0)
        return AddOutcome(added.jobs, rejected, added.replayed)

    async def _check_options(self, options: JobOptions) -> None:
        if options.folder is not None:
            self._deps.library.check_folder(options.folder)
        if options.output_template is not None:
            self._deps.library.check_template(options.output_template)
        await self._deps.inquiry.check(options)

    async def _judge(self, urls: Sequence[str]) -> list[str | Rejected]:
        if len(urls) > RESOLVE_AT_MOST:
            return await asyncio.to_thread(self._judge_spellings, urls)
        judged = self._judge_spellings(urls)
        gate = asyncio.Semaphore(RESOLVING_AT_ONCE)

        async def resolved(entry: str | Rejected) -> str | Rejected:
            if isinstance(entry, Rejected):
                return entry
            try:
                async with gate:
                    await resolve_and_check(entry, self._deps.policy)
            except MediaDownloaderError as error:
                return Rejected(entry, error)
            return entry

        return list(await asyncio.gather(*(resolved(entry) for entry in judged)))

    def _judge_spellings(self, urls: Sequence[str]) -> list[str | Rejected]:
        judged: list[str | Rejected] = []
        for url in urls:
            try:
                judged.append(check_url(url, self._deps.policy))
            except MediaDownloaderError as error:
                judged.append(Rejected(url, error))
        return judged

    @staticmethod
    def _new_job(url: str, request: AddRequest) -> Job:
        now = utc_now()
        return Job(
            id=uuid4().hex,
            url=url,
            site=site_of(url),
            options=request.options,
            state=State.PAUSED if request.paused else State.QUEUED,
            priority=request.priority,
            not_before=request.not_before,
            ready_at=request.not_before,
            created_at=now,
            updated_at=now,
        )

    # --- looking ------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobView:
        """Return a job. Raises ``JobNotFound`` and ``JobExpired``."""
        return await self.view(await self._store.get(job_id))

    async def find(self, query: JobQuery) -> tuple[Sequence[JobView], str | None]:
        """Return a page of jobs and the cursor of the next one. Raises ``InvalidCursor``."""
        page = await self._store.find(query)
        facts = await self._deps.queue_facts()
        gone = await asyncio.to_thread(self._gone, page.jobs)
        return [self._view(job, facts, file_is_gone=job.id in gone) for job in page.jobs], page.next_cursor

    async def view(self, job: Job) -> JobView:
        """Say what can be asked of a job now, and why it waits."""
        facts = await self._deps.queue_facts()
        gone = await asyncio.to_thread(self._gone, [job]) if job.state is State.DONE else set()
        return self._view(job, facts, file_is_gone=bool(gone))

    async def views(self, jobs: Sequence[Job]) -> Sequence[JobView]:
        """Say the same of many jobs at once."""
        facts = await self._deps.queue_facts()
        return [self._view(job, facts, file_is_gone=False) for job in jobs]

    async def open_artifact(self, artifact: Artifact) -> OpenFile:
        """Open a published file; the caller closes it. Raises ``FileMissing`` and ``PathEscapesLibrary``."""
        return await asyncio.to_thread(self._deps.library.open_artifact, artifact.name)

    async def counts(self) -> Mapping[State, int]:
        """Count jobs by state."""
        return await self._store.counts()

    async def log(self, job_id: str) -> str:
        """Return the last 64 KiB of a job's log. Raises ``JobNotFound`` and ``JobExpired``."""
        await self._store.get(job_id)
        return await asyncio.to_thread(self._deps.job_logs.read, job_id)

    async def probe(self, url: str, options: JobOptions) -> dict[str, Any]:
        """Say what is behind a link, and download nothing."""
        url = check_url(url, self._deps.policy)
        await resolve_and_check(url, self._deps.policy)
        return await self._deps.inquiry.probe(url, options)

    def _gone(self, jobs: Sequence[Job]) -> set[str]:
        exists = self._deps.library.exists
        done = [job for job in jobs if job.state is State.DONE and job.artifacts]
        return {job.id for job in done if not all(exists(artifact.name) for artifact in job.artifacts)}

    @staticmethod
    def _view(job: Job, facts: QueueFacts, *, file_is_gone: bool) -> JobView:
        if job.is_playlist:
            actions = [action for action in Action if any(_applies(action, state) for state in _child_states(job))]
        else:
            actions = allowed_actions(job.state, job.signal, file_is_gone=file_is_gone)
        wait = why_waiting(job, facts)
        return JobView(job, actions, wait.reason if wait else None, wait.until if wait else None)

    # --- acting -------------------------------------------------------------------------------------------------

    async def act(self, job_id: str, action: Action) -> JobView:
        """Do what the user asks, or leave the wish for the job's runner.

        Asking for what is so already succeeds. Raises ``InvalidTransition`` with the state that the job is in.
        A playlist's parent passes the wish on to its children.
        """
        job = await self._store.get(job_id)
        if job.is_playlist or (job.children and action is not Action.RETRY):
            await self._act_on_children(job, action)
            job = await self._store.get(job_id)
            if job.is_playlist:
                await self._bus.publish(JobEvent(job=job))
                return await self.view(job)
        for _ in range(RACES):
            try:
                return await self._act_once(job, action)
            except InvalidTransition:
                moved = await self._store.get(job_id)
                if (moved.state, moved.signal) == (job.state, job.signal):
                    raise
                job = moved
        raise _does_not_apply(job, action)

    async def _act_once(self, job: Job, action: Action) -> JobView:
        if already_true(action, job.state, job.signal):
            return await self.view(job)
        signal = signal_for(action, job.state)
        if signal is not None:
            changed = await self._store.send_signal(job.id, signal)
            return await self._tell(changed)
        target = outcome(action, job.state)
        if target is None or (job.state is State.DONE and not await asyncio.to_thread(self._gone, [job])):
            raise _does_not_apply(job, action)
        changed = await self._store.change(job.id, Change(target, _facts_for(action, job), expected={job.state}))
        if action is Action.CANCEL and job.workdir is not None:
            await asyncio.to_thread(self._deps.library.remove_workdir, job.workdir)
        return await self._tell(changed)

    async def _act_on_children(self, parent: Job, action: Action) -> None:
        states = [state for state in State if _applies(action, state)]
        if not states and not parent.children:
            raise _does_not_apply(parent, action)
        query = JobQuery(states=states, parent_id=parent.id, sort="created_at", limit=200)
        while True:
            page = await self._store.find(query)
            for child in page.jobs:
                with contextlib.suppress(JobError):
                    await self.act(child.id, action)
            if page.next_cursor is None:
                return
            query = JobQuery(states, None, None, parent.id, "created_at", 200, page.next_cursor)

    async def update(self, job_id: str, patch: JobPatch) -> JobView:
        """Change priority, time or place. Raises ``InvalidTransition`` for a place among jobs that do not wait."""
        job = await self._store.get(job_id)
        facts: dict[str, Any] = {}
        if patch.priority is not None:
            facts["priority"] = patch.priority
        if patch.not_before is not None or patch.clear_not_before:
            if job.state in FINISHED or job.state in RUNNING:
                raise InvalidTransition(f"A job that is {job.state} has no time to wait for.", state=str(job.state))
            facts["not_before"] = facts["ready_at"] = patch.not_before
        if facts:
            job = await self._store.change(job_id, Change(facts=facts))
        if patch.before is not None or patch.to_front:
            job = await self._store.move(job_id, patch.before)
        return await self._tell(job)

    async def remove(self, job_id: str, *, files: bool) -> None:
        """Take a job off the list, and its files with it only when asked.

        A running job is canceled first. Raises ``JobNotFound`` and ``JobExpired``.
        """
        job = await self._store.get(job_id)
        if job.state not in FINISHED:
            await self.act(job_id, Action.CANCEL)
            job = await self._until_nobody_runs(job_id)
        children = await self._all_children(job) if job.children else []
        await self._store.remove(job_id)
        for gone in (*children, job):
            await asyncio.to_thread(self._forget, gone, files=files)
            await self._bus.publish(DeletedEvent(id=gone.id))

    def _forget(self, job: Job, *, files: bool) -> None:
        self._deps.job_logs.remove(job.id)
        if job.workdir is not None:
            self._deps.library.remove_workdir(job.workdir)
        if files:
            self._deps.library.delete_artifacts(job.id, [artifact.name for artifact in job.artifacts])

    async def _all_children(self, parent: Job) -> list[Job]:
        query = JobQuery(parent_id=parent.id, sort="created_at", limit=500)
        children: list[Job] = []
        while True:
            page = await self._store.find(query)
            children.extend(page.jobs)
            if page.next_cursor is None:
                return children
            query = JobQuery(parent_id=parent.id, sort="created_at", limit=500, cursor=page.next_cursor)

    async def _until_nobody_runs(self, job_id: str) -> Job:
        """Wait until the runner has obeyed a cancel; it does within a second."""
        async with asyncio.timeout(10):
            while True:
                job = await self._store.get(job_id)
                running = job.state in RUNNING or any(job.children.get(state, 0) for state in RUNNING)
                if not running:
                    return job
                await asyncio.sleep(0.05)

    async def _tell(self, job: Job) -> JobView:
        await self._bus.publish(JobEvent(job=job))
        if job.parent_id is not None:
            with contextlib.suppress(JobNotFound):
                await self._bus.publish(JobEvent(job=await self._store.get(job.parent_id)))
        return await self.view(job)

    # --- the queue as a whole -----------------------------------------------------------------------------------

    async def queue_state(self) -> QueueState:
        """Say whether the queue is paused."""
        return await self._store.queue_state()

    async def pause_queue(self) -> QueueState:
        """Start no more jobs until the queue is resumed; what runs goes on. Kept across restarts."""
        return await self._set_queue(QueueState(paused=True, reason="user", since=utc_now()))

    async def resume_queue(self) -> QueueState:
        """Let jobs start again."""
        return await self._set_queue(QueueState())

    async def _set_queue(self, state: QueueState) -> QueueState:
        now = await self._store.queue_state()
        if (now.paused, now.reason) == (state.paused, state.reason):
            return now
        await self._store.set_queue_state(state)
        await self._bus.publish(QueueEvent(queue=state))
        return state


def _applies(action: Action, state: State) -> bool:
    return (outcome(action, state) is not None and state is not State.DONE) or signal_for(action, state) is not None


def _child_states(parent: Job) -> list[State]:
    return [state for state, count in parent.children.items() if count > 0]


def _facts_for(action: Action, job: Job) -> dict[str, Any]:
    """Return what else changes: a resume keeps the failure's story, a retry starts it anew."""
    if action is Action.CANCEL:
        return {"workdir": None}
    if action is Action.PAUSE:
        return {}
    facts: dict[str, Any] = {"ready_at": job.not_before, "retries": 0, "crashes": 0, "failure": None}
    if action is Action.RETRY and job.state in {State.DONE, State.CANCELED}:
        facts |= {"artifacts": (), "progress": type(job.progress)(), "notices": (), "workdir": None}
    return facts


def _does_not_apply(job: Job, action: Action) -> InvalidTransition:
    return InvalidTransition(
        f"Cannot {action} a job that is {job.state}.", state=str(job.state), signal=job.signal and str(job.signal)
    )
