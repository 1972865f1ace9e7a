"""One move of all jobs from store to store, which can be cut off anywhere and done again."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from media_downloader.errors import ConfigurationError, StoreUnavailable
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import Job, QueueState
from media_downloader.jobs.state import RUNNING, State
from media_downloader.library.moving import adopt_workdirs, adopted_name, workdir_owners
from media_downloader.migration.order import new_places
from media_downloader.ports import Change, JobQuery, JobStore, NewJobs

T = TypeVar("T")

#: Jobs that are read and copied in one step.
PAGE = 200
#: Changes that are under way at once; fewer than a store takes connections is no gain.
AT_ONCE = 32
#: Ids that are named when something is wrong with many jobs.
NAMED = 3


@dataclass(frozen=True)
class Side:
    """A store, and what belongs to its jobs beside it."""

    #: As the command line names it.
    name: str
    store: JobStore
    #: What names of work folders begin with.
    prefix: str
    job_logs: JobLogs


@dataclass
class MoveReport:
    """What was moved, or would be."""

    target: str
    dry_run: bool
    #: How many jobs, by state.
    jobs: Counter[State] = field(default_factory=Counter)
    work_folders: int = 0
    #: Jobs whose runner was gone: they went back to the queue.
    released: int = 0
    queue_paused: bool = False
    cooldowns: int = 0


@dataclass
class _Place:
    """Where a job stands in the queue of either store."""

    job_id: str
    source: int
    target: int


async def _nothing() -> None:
    """For targets that keep what they were told anyway."""


class Move:
    """Copies, compares, removes. Nobody else may use either store meanwhile: that is the caller's to see to.

    Each step finds by itself what an earlier run has done, so that doing everything again finishes what was cut off.
    A job is in the source, in both or in the target, and never in neither.
    """

    def __init__(self, source: Side, target: Side, downloads_dir: Path) -> None:
        self._source = source
        self._target = target
        self._downloads = downloads_dir
        #: Makes what was copied durable; called before anything is removed.
        self.settle: Callable[[], Awaitable[None]] = _nothing
        #: Called with each step's name before it; tests cut the move off here.
        self.step: Callable[[str], None] = lambda _: None
        #: An earlier run was cut off: what the target has of the jobs is its copies.
        self.goes_on = False
        self._ids: set[str] = set()

    async def plan(self) -> MoveReport:
        """Say what would be moved; changes nothing."""
        report = MoveReport(self._target.name, dry_run=True)
        await self._refuse_unreadable()
        await self._refuse_unknown_folders()
        async for page in _pages(self._source.store):
            report.jobs.update(job.state for job in page)
            report.released += sum(job.state in RUNNING and not job.is_playlist for job in page)
            report.work_folders += sum(job.workdir is not None for job in page)
        report.queue_paused = (await self._source.store.queue_state()).paused
        report.cooldowns = len(await self._source.store.cooldowns())
        return report

    async def run(self) -> MoveReport:
        """Move everything. Raises ``StoreUnavailable``; nothing is lost then, and the next run goes on."""
        report = MoveReport(self._target.name, dry_run=False)
        self.step("begin")
        await self._refuse_unreadable()
        if not self.goes_on:
            await self._refuse_unknown_folders()
        report.released = await self._release()
        if not self.goes_on:
            await self._refuse_strangers()
        places = await self._copy(report)
        await self._arrange(places)
        await self._compare(places)
        await self._copy_facts(report)
        self.step("settle")
        await self.settle()
        self.step("folders")
        report.work_folders = await asyncio.to_thread(adopt_workdirs, self._downloads, self._ids, self._target.prefix)
        await self._note_rebuilt()
        self.step("logs")
        await asyncio.to_thread(self._move_logs)
        await self._remove()
        return report

    async def _release(self) -> int:
        """Put jobs back whose runner is gone, as a server does when it starts. The caller knows that they all are."""
        released = await self._source.store.release_owner("")
        for job in released:
            if job.state is State.CANCELED and job.workdir is not None:
                # Housekeeping removes folders that no job names.
                await self._source.store.change(job.id, Change(facts={"workdir": None}))
        return len(released)

    def _adopted(self, job: Job) -> Job:
        """Return the job as the target is to have it."""
        return job.model_copy(update={"workdir": adopted_name(job.workdir, self._target.prefix)})

    # --- copying ------------------------------------------------------------------------------------------------

    async def _copy(self, report: MoveReport) -> dict[int, list[_Place]]:
        """Add every job to the target, and return the places in both queues by priority."""
        places: dict[int, list[_Place]] = defaultdict(list)
        async for page in _pages(self._source.store):
            self.step("copy")
            # The store counts children into their parents as they are added.
            bare = [self._adopted(job).model_copy(update={"children": {}}) for job in page]
            added = await self._target.store.add(NewJobs(bare))
            for job, copy in zip(page, added.jobs, strict=True):
                places[job.priority].append(_Place(job.id, job.position, copy.position))
                if job.state is State.QUEUED and copy.state is not State.QUEUED:
                    # A store gives an entry what was asked of its playlist; this one was asked to go on since.
                    await self._target.store.change(job.id, Change(State.QUEUED))
            report.jobs.update(job.state for job in page)
            self._ids.update(job.id for job in page)
        for of_priority in places.values():
            # Stable: what has one position keeps the order in which it was added.
            of_priority.sort(key=lambda place: place.source)
        return places

    async def _arrange(self, places: dict[int, list[_Place]]) -> None:
        """Place those anew that did not stand in the order in which they were added."""
        for of_priority in places.values():
            changed = new_places([place.target for place in of_priority])
            self.step("arrange")
            moved = [replace(of_priority[index], target=position) for index, position in changed.items()]
            await _each(moved, self._place)
            for index, position in changed.items():
                of_priority[index].target = position

    async def _place(self, place: _Place) -> None:
        await self._target.store.change(place.job_id, Change(facts={"position": place.target}))

    async def _copy_facts(self, report: MoveReport) -> None:
        self.step("facts")
        queue = await self._source.store.queue_state()
        if queue.paused:
            await self._target.store.set_queue_state(queue)
            report.queue_paused = True
        for cooldown in await self._source.store.cooldowns():
            await self._target.store.set_cooldown(cooldown)
            report.cooldowns += 1

    async def _note_rebuilt(self) -> None:
        """Tell a target that began empty that it has what is on disk, unless there are folders of jobs it has not.

        Its first server would look for the job of each folder, and set those aside that do not tell it.
        """
        if self._target.store.is_new:
            folders = await asyncio.to_thread(workdir_owners, self._downloads, self._target.prefix)
            if folders <= self._ids:
                await self._target.store.rebuild([])

    def _move_logs(self) -> None:
        for job_id in self._ids.intersection(self._source.job_logs.job_ids()):
            text = self._source.job_logs.read(job_id)
            # A copy that was cut off is taken away first: half a log that looks whole is worse than a log that is late.
            self._target.job_logs.remove(job_id)
            self._target.job_logs.append(job_id, text.splitlines())
            self._source.job_logs.remove(job_id)

    # --- comparing ----------------------------------------------------------------------------------------------

    async def _compare(self, places: dict[int, list[_Place]]) -> None:
        """See that the target has every job as the source has it. Raises ``StoreUnavailable``."""
        self.step("compare")
        missing, different = await self._differences()
        for of_priority in places.values():
            targets = [place.target for place in of_priority]
            if targets != sorted(set(targets)):
                different.extend(place.job_id for place in of_priority)
        if missing or different:
            raise StoreUnavailable(
                f"{len(missing) + len(different)} copies in {self._target.name} are not as the jobs in "
                f"{self._source.name} ({_named(missing + different)}). Nothing was removed. Run this again."
            )

    async def _refuse_unreadable(self) -> None:
        """Raise ``ConfigurationError`` for jobs of another version: nobody can copy what nobody can read."""
        listed = 0
        async for page in _pages(self._source.store):
            listed += len(page)
        unreadable = sum((await self._source.store.counts()).values()) - listed
        if unreadable > 0:
            raise ConfigurationError(
                f"{unreadable} jobs in {self._source.name} were written by another version of the program and cannot "
                "be read by this one. Move them with that version. Nothing was changed."
            )

    async def _refuse_unknown_folders(self) -> None:
        """Raise ``ConfigurationError`` for a source that was lost and has not found its jobs again on disk."""
        if not self._source.store.is_new:
            return
        folders = await asyncio.to_thread(workdir_owners, self._downloads, self._source.prefix)
        async for page in _pages(self._source.store):
            folders.difference_update(job.id for job in page)
        if folders:
            raise ConfigurationError(
                f"There are work folders of jobs that {self._source.name} does not know: it was lost, or is not the "
                "one that they belong to. Start a server with it once, which finds them, stop it, and run this again."
            )

    async def _refuse_strangers(self) -> None:
        """Raise ``ConfigurationError`` for jobs that are in both stores, each with a history of its own."""
        _, different = await self._differences()
        if different:
            raise ConfigurationError(
                f"{len(different)} jobs are in {self._target.name} already, and not as in {self._source.name} "
                f"({_named(different)}). Remove them from one of the two (media-downloader jobs remove), with a server "
                "that uses it, and run this again. Nothing was changed."
            )

    async def _differences(self) -> tuple[list[str], list[str]]:
        """Return the ids of the source's jobs that the target does not have, and that it has otherwise."""
        expected: dict[str, int] = {}
        different: list[str] = []
        async for page in _pages(self._source.store):
            expected.update({job.id: _digest(self._adopted(job)) for job in page})
        async for page in _pages(self._target.store):
            different.extend(job.id for job in page if expected.pop(job.id, None) not in {None, _digest(job)})
        return list(expected), different

    # --- removing -----------------------------------------------------------------------------------------------

    async def _remove(self) -> None:
        """Empty the source. With a playlist its children go in the same step."""
        store = self._source.store
        while page := (await store.find(JobQuery(sort="created_at", limit=PAGE))).jobs:
            self.step("remove")
            unknown = [job.id for job in page if job.id not in self._ids]
            if unknown:
                raise StoreUnavailable(f"Jobs were added to {self._source.name} meanwhile. Run this again.")
            # Children whose parent is gone are left when nothing else is.
            tops = [job for job in page if job.parent_id is None] or page
            await _each(tops, lambda job: store.remove(job.id))
        self.step("source")
        await store.set_queue_state(QueueState())


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")


def _digest(job: Job) -> int:
    """Return a hash of what must be the same in both; a place is its store's, and placing a job is a change of it."""
    lasting = job.model_copy(update={"position": 0, "updated_at": job.created_at})
    return hash(lasting.model_dump_json())


async def _pages(store: JobStore) -> AsyncIterator[Sequence[Job]]:
    """Yield all jobs in the order in which they were added: a parent before its children."""
    cursor: str | None = None
    while True:
        found = await store.find(JobQuery(sort="created_at", limit=PAGE, cursor=cursor))
        yield found.jobs
        cursor = found.next_cursor
        if cursor is None:
            return


async def _each(items: Sequence[T], do: Callable[[T], Awaitable[object]]) -> None:
    """Do the same to many things, some at once."""
    for start in range(0, len(items), AT_ONCE):
        await asyncio.gather(*(do(item) for item in items[start : start + AT_ONCE]))
