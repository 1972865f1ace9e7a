"""Which two stores jobs are moved between, and what must hold before one of them is touched."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

from media_downloader.bootstrap.cluster import redis_url, shared_job_logs
from media_downloader.bootstrap.container import DATABASE_NAME
from media_downloader.errors import ConfigurationError, MediaDownloaderError
from media_downloader.job_log import JobLogs
from media_downloader.jobs.state import RUNNING
from media_downloader.library import LOCAL_PREFIX, SHARED_PREFIX
from media_downloader.library.lock import FolderLock
from media_downloader.library.moving import forget_move, note_move, unfinished_move
from media_downloader.migration import Move, MoveReport, Side
from media_downloader.ports import JobQuery, JobStore
from media_downloader.settings import Settings

Target = Literal["redis", "sqlite"]
Step = Callable[[str], None]


async def migrate_jobs(settings: Settings, target: Target, *, dry_run: bool, step: Step = lambda _: None) -> MoveReport:
    """Move all jobs to the target. Raises ``ConfigurationError`` and ``BackendError``; no job is lost then.

    ``step`` is called with the name of each step before it.
    """
    begun = unfinished_move(settings.downloads_dir)
    if begun not in {None, target}:
        raise ConfigurationError(
            f"A move of jobs to {begun} was cut off. Finish it first: media-downloader migrate-jobs --to {begun}"
        )
    database = settings.data_dir / DATABASE_NAME
    if target == "redis" and not database.exists():
        raise ConfigurationError(
            f"There are no jobs to move: {database} does not exist. Is MEDIA_DOWNLOADER_DATA_DIR the server's?"
        )
    with _downloads_to_ourselves(settings):
        if dry_run:
            return await _plan(settings, target)
        copying = begun is not None

        def stepping(name: str) -> None:
            nonlocal copying
            copying = copying or name == "copy"
            step(name)

        await asyncio.to_thread(note_move, settings.downloads_dir, target)
        try:
            report = await _move(settings, target, stepping, goes_on=begun is not None)
        except MediaDownloaderError:
            if not copying:
                forget_move(settings.downloads_dir)
            raise
        await asyncio.to_thread(forget_move, settings.downloads_dir)
        return report


@contextlib.contextmanager
def _downloads_to_ourselves(settings: Settings) -> Iterator[None]:
    """Keep servers of one machine from the downloads folder. Raises ``ConfigurationError`` when one has it."""
    hidden = settings.downloads_dir / ".media-downloader"
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(hidden / "lock")
        if not lock.take():
            raise ConfigurationError(
                f"A server{lock.holder()} uses the downloads folder {settings.downloads_dir}: stop it, move the jobs, "
                "and start it again. Jobs are not moved while anything may change them."
            )
    except OSError as error:
        raise ConfigurationError(
            f"The downloads folder {settings.downloads_dir} cannot be written ({error.strerror}): the jobs' work "
            "folders are in it. Set YTDLP_OUTPUT_PATH to the servers' folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


async def _plan(settings: Settings, target: Target) -> MoveReport:
    from media_downloader.bootstrap.migration_redis import refuse_while_connected

    await refuse_while_connected(redis_url(settings))
    source, other = _sides(settings, target)
    async with _opened(source):
        await _refuse_while_held(source, live_only=True)
        return await Move(source, other, settings.downloads_dir).plan()


async def _move(settings: Settings, target: Target, step: Step, *, goes_on: bool) -> MoveReport:
    from media_downloader.bootstrap.migration_redis import flush_to_disk, refuse_while_connected

    # After the mark was set: whoever starts from now on is refused, and whoever started before is seen.
    await refuse_while_connected(redis_url(settings))
    source, other = _sides(settings, target)
    async with _opened(source), _opened(other):
        if source.name == "redis":
            await source.store.release_expired()
        await _refuse_while_held(source)
        move = Move(source, other, settings.downloads_dir)
        move.step, move.goes_on = step, goes_on
        if target == "redis":
            move.settle = lambda: flush_to_disk(redis_url(settings))
        return await move.run()


def _sides(settings: Settings, target: Target) -> tuple[Side, Side]:
    """Return source and target; nothing is opened yet."""
    from media_downloader.stores.redis import RedisJobStore
    from media_downloader.stores.sqlite import SqliteJobStore

    database = settings.data_dir / DATABASE_NAME
    local = Side("sqlite", SqliteJobStore(database), LOCAL_PREFIX, JobLogs(settings.data_dir / "job-logs"))
    shared = Side("redis", RedisJobStore(redis_url(settings)), SHARED_PREFIX, shared_job_logs(settings))
    if target == "redis":
        return local, shared
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return shared, local


@contextlib.asynccontextmanager
async def _opened(side: Side) -> AsyncIterator[JobStore]:
    await side.store.open()
    try:
        broken = getattr(side.store, "set_aside", None)
        if broken is not None:
            raise ConfigurationError(
                f"The database is corrupt and was set aside as {broken}. Start the server once: it rebuilds jobs from "
                "their work folders; then move what it found."
            )
        yield side.store
    finally:
        await side.store.close()


async def _refuse_while_held(source: Side, *, live_only: bool = False) -> None:
    """Refuse while a runner holds a job in Redis. SQLite's file is ours, so nobody runs what it says is running."""
    if source.name != "redis":
        return
    page = await source.store.find(JobQuery(states=RUNNING, limit=500))
    held = [job for job in page.jobs if job.lease_until is not None]
    if live_only:
        now = await source.store.now()
        held = [job for job in held if job.lease_until is not None and job.lease_until > now]
    if held:
        until = max(job.lease_until for job in held if job.lease_until is not None)
        raise ConfigurationError(
            f"{len(held)} jobs are still held by a worker, until {until:%H:%M:%S} UTC if that one is gone. Stop every "
            "worker (its jobs go back to the queue with their bytes), or wait until then, and run this again."
        )
