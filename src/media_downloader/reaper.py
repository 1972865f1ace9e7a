"""Leaves nothing behind: lost jobs back to the queue, expired jobs off the list, orphaned folders off the disk."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from media_downloader.errors import ConfigurationError, JobError, JobUnreadable, MediaDownloaderError
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import DeletedEvent, Job, JobEvent
from media_downloader.jobs.state import FINISHED, RUNNING, State, obeyed
from media_downloader.library import Library
from media_downloader.ports import EventBus, JobQuery, JobStore
from media_downloader.settings import Settings
from media_downloader.volume import check_volume

log = structlog.get_logger(__name__)

#: How often leases are looked at.
LEASE_LOOK_SECONDS = 5.0
#: How long the names of an expired job's files are remembered.
TOMBSTONE_DAYS = 30
#: Jobs that one cleanup lets expire; the regular one is repeated until there are fewer.
EXPIRE_AT_ONCE = 500
#: Jobs that are asked for at once.
PAGE = 200


@dataclass
class CleanupReport:
    """What a cleanup removed, or would remove."""

    dry_run: bool
    #: Ids of finished jobs that leave the list; their files stay.
    expired_jobs: list[str] = field(default_factory=list)
    #: Published files older than the retention, below the downloads folder.
    files: list[str] = field(default_factory=list)
    #: Work folders that belong to no job.
    work_folders: list[str] = field(default_factory=list)
    #: Bytes that files and work folders take.
    bytes: int = 0


class Reaper:
    """One loop of housekeeping, and the same on demand."""

    def __init__(self, settings: Settings, store: JobStore, bus: EventBus, library: Library, job_logs: JobLogs) -> None:
        self._settings = settings
        self._store = store
        self._bus = bus
        self._library = library
        self._job_logs = job_logs
        self._tasks: list[asyncio.Task[None]] = []

    async def recover(self, *, alone: bool) -> None:
        """Set right what the last run left, before anything runs: call once at start.

        Who is ``alone`` with its store puts jobs that were running back in the queue, or to what their user had asked
        for; in a cluster they may be running elsewhere, and their leases tell. Work folders of unknown jobs are turned
        into jobs again when the store is new (it was lost), else they are removed.
        """
        if alone:
            await self._tell(await self._store.release_owner(""))
        await self._ensure_rebuilt()
        report = CleanupReport(dry_run=False)
        await self._sweep_work_folders(report)
        if report.work_folders:
            log.info("Removed work folders that belong to no job", count=len(report.work_folders), bytes=report.bytes)

    async def start(self) -> None:
        """Begin to keep house; a cleanup that takes long keeps no lost job waiting."""
        rounds = {self._look: LEASE_LOOK_SECONDS, self._keep_house: self._settings.cleanup_interval_seconds}
        self._tasks = [asyncio.create_task(_repeat(work, seconds)) for work, seconds in rounds.items()]

    async def stop(self) -> None:
        """Stop keeping house."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cleanup(self, *, dry_run: bool) -> CleanupReport:
        """Remove expired jobs, files past their retention and orphaned work folders; or say what would go."""
        report = CleanupReport(dry_run=dry_run)
        await self._expire_jobs(report)
        if await self._volume_is_there():
            await self._sweep_files(report)
            await self._sweep_work_folders(report)
            if not dry_run and not self._store.is_new:
                await self._sweep_logs()
        if not dry_run:
            await self._store.drop_tombstones_before(await self._store.now() - timedelta(days=TOMBSTONE_DAYS))
        return report

    async def _look(self) -> None:
        await self._tell(await self._store.release_expired())
        await self._obey_flags()
        await check_volume(self._store, self._library)
        # A shared store can be lost while its members live on.
        await self._ensure_rebuilt()

    async def _keep_house(self) -> None:
        expired = 0
        while True:
            report = CleanupReport(dry_run=False)
            few = await self._expire_jobs(report) < EXPIRE_AT_ONCE
            expired += len(report.expired_jobs)
            if few:
                break
        report = await self.cleanup(dry_run=False)
        log.info("Kept house", expired_jobs=expired + len(report.expired_jobs), files=len(report.files))

    async def _tell(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            log.info("Job was left by its runner", job_id=job.id, state=str(job.state))
            if job.state is not State.CANCELED:
                await asyncio.to_thread(self._library.note_job, job)
            elif job.workdir is not None:
                await asyncio.to_thread(self._library.remove_workdir, job.workdir)
            await self._bus.publish(JobEvent(job=job))

    async def _obey_flags(self) -> None:
        """Have wishes obeyed that were left in the store itself, and do what an action does beside."""
        changed = await self._store.obey_flags()
        for before, job in changed:
            log.info("Job was asked for in the store itself", job_id=job.id, state=str(job.state))
            if job.state is State.CANCELED and before.workdir is not None:
                await asyncio.to_thread(self._library.remove_workdir, before.workdir)
            elif job.state not in RUNNING:
                await asyncio.to_thread(self._library.note_job, job)
            await self._bus.publish(JobEvent(job=job))
        told = {job.id for _, job in changed}
        for parent_id in {job.parent_id for _, job in changed} - told - {None}:
            with contextlib.suppress(JobError):
                await self._bus.publish(JobEvent(job=await self._store.get(str(parent_id))))

    async def _ensure_rebuilt(self) -> bool:
        """Turn the ``job.json`` in each work folder into a job again, unless that has been done since the store began.

        False when it could not be done: then nothing on disk may be taken for an orphan. It is repeated with the next
        sweep, and by the next run when this one is cut off.
        """
        if not self._store.is_new:
            return True
        if not await self._volume_is_there():
            return False
        try:
            found = await asyncio.to_thread(self._library.read_job_files)
            await asyncio.to_thread(self._library.set_aside_workdirs, [name for name, job in found.items() if not job])
        except OSError as error:
            log.error("Work folders cannot be looked at: nothing is removed", problem=error.strerror)
            return False
        jobs = rebuilt(found)
        await self._store.rebuild(jobs)
        if jobs:
            log.warning("The store is new: rebuilt jobs from their work folders", count=len(jobs))
        return True

    async def _volume_is_there(self) -> bool:
        """Say whether the downloads folder may be looked into: on another one everything would be lost or an orphan."""
        try:
            await check_volume(self._store, self._library)
        except ConfigurationError as error:
            log.error("The downloads folder is another one: nothing in it is touched", detail=error.detail)
            return False
        if not await asyncio.to_thread(self._library.is_present):
            log.error("The downloads folder is gone or not mounted: nothing in it is touched")
            return False
        return True

    async def _expire_jobs(self, report: CleanupReport) -> int:
        """Return how many left the list, a playlist counted as one."""
        expired = 0
        if self._settings.job_ttl <= 0:
            return expired
        cutoff = await self._store.now() - timedelta(seconds=self._settings.job_ttl)
        for job in await self._store.finished_before(cutoff, EXPIRE_AT_ONCE):
            if job.state not in FINISHED:
                continue
            with contextlib.suppress(JobError):
                family = [job, *await self._children(job)]
                if not report.dry_run:
                    await self._store.remove(job.id, expired=True)
                    await self._forget(family)
                report.expired_jobs.extend(member.id for member in family)
                expired += 1
        return expired

    async def _children(self, parent: Job) -> list[Job]:
        """List a playlist's entries, which leave the store with it."""
        children: list[Job] = []
        query = JobQuery(parent_id=parent.id, sort="created_at", limit=PAGE)
        while parent.children:
            page = await self._store.find(query)
            children.extend(page.jobs)
            if page.next_cursor is None:
                break
            query = replace(query, cursor=page.next_cursor)
        return children

    async def _forget(self, family: Sequence[Job]) -> None:
        """Remove what jobs leave outside the store, and tell of them: a playlist last, as it came first."""
        for job in reversed(family):
            if job.workdir is not None:
                await asyncio.to_thread(self._library.remove_workdir, job.workdir)
            await asyncio.to_thread(self._job_logs.remove, job.id)
            await self._bus.publish(DeletedEvent(id=job.id))

    async def _sweep_logs(self) -> None:
        """Remove logs of jobs that the store does not know: a crash came between the job's removal and its log's."""
        logged = await asyncio.to_thread(self._job_logs.job_ids)
        for start in range(0, len(logged), PAGE):
            page = logged[start : start + PAGE]
            known = await self._store.known(page)
            for job_id in page:
                if job_id not in known:
                    await asyncio.to_thread(self._job_logs.remove, job_id)

    async def _sweep_files(self, report: CleanupReport) -> None:
        if self._settings.retention_days is None:
            return
        cutoff = await self._store.now() - timedelta(days=self._settings.retention_days)
        for old in await asyncio.to_thread(self._library.published_before, cutoff):
            report.files.extend(old.names)
            report.bytes += old.bytes
            if not report.dry_run:
                await asyncio.to_thread(self._library.delete_artifacts, old.job_id, old.names)

    async def _sweep_work_folders(self, report: CleanupReport) -> None:
        if (report.dry_run and self._store.is_new) or not await self._ensure_rebuilt():
            return
        if not await self._volume_is_there():
            return
        known = set(await self._store.workdirs())
        for orphan in await asyncio.to_thread(self._library.orphaned_workdirs, known):
            if await self._is_claimed(orphan.job_id):
                continue
            report.work_folders.append(orphan.name)
            report.bytes += orphan.bytes
            if not report.dry_run:
                await asyncio.to_thread(self._library.remove_workdir, orphan.name)

    async def _is_claimed(self, job_id: str) -> bool:
        """Say whether a folder that the store does not name may still be its job's.

        A runner renames the folder before it can write down the new name, so a job that is not over keeps it.
        """
        try:
            job = await self._store.get(job_id)
        except JobUnreadable:
            return True
        except JobError:
            return False
        return job.state not in {State.DONE, State.CANCELED} and not job.is_playlist


async def _repeat(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Work again and again; what fails once is done the next time."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except MediaDownloaderError as error:
            log.warning("Housekeeping was put off", error=error.code, detail=error.detail)
        except Exception:
            log.exception("Housekeeping failed")


def rebuilt(found: Mapping[str, Job | None]) -> list[Job]:
    """Return the jobs that work folders tell of, in the order of the queue; of two folders of one job the newer's.

    The last that was written down decides, and of two readings the one that does less: what was paused, or was to be
    paused, stays so, an error stays one, and what was to be canceled does not come back. An attempt that may still
    run somewhere is fenced off by the next number. Playlists of which nothing is on disk are not known any more.
    """
    newest: dict[str, Job] = {}
    for workdir, job in found.items():
        if job is None or job.is_playlist:
            continue
        state = obeyed(job.state, State.QUEUED, job.signal) if job.state in RUNNING else job.state
        known = newest.get(job.id)
        if state in {State.DONE, State.CANCELED} or (known is not None and known.updated_at > job.updated_at):
            continue
        attempt = job.attempt + (job.state in RUNNING)
        left: dict[str, object] = {"signal": None, "owner": None, "lease_until": None, "children": {}}
        newest[job.id] = job.model_copy(update={**left, "state": state, "attempt": attempt, "workdir": workdir})
        if job.state in RUNNING:
            newest[job.id] = newest[job.id].model_copy(update={"abandoned": True})
    orphaned = {"parent_id": None, "entry_index": None}
    jobs = [job if job.parent_id in newest else job.model_copy(update=orphaned) for job in newest.values()]
    return sorted(jobs, key=lambda job: (job.parent_id is not None, -job.priority, job.position))
