"""Two stores with every kind of job, and what of them must be the same after a move."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from media_downloader.jobs.model import (
    Artifact,
    Cooldown,
    Failure,
    FailureKind,
    Job,
    Media,
    Progress,
    QueueState,
    child_id,
    utc_now,
)
from media_downloader.jobs.options import JobOptions, Preset
from media_downloader.jobs.state import State
from media_downloader.ports import Change, JobQuery, JobStore, NewJobs
from media_downloader.stores.redis import RedisJobStore
from media_downloader.stores.sqlite import SqliteJobStore
from tests.program import Program
from tests.redis_server import RedisServer

PREFIXES = {"sqlite": "mdjob_", "redis": "md_"}


def job(number: int, **facts: object) -> Job:
    """Return a job of its own."""
    now = utc_now()
    known = {
        "id": f"{number:032x}",
        "url": f"https://user:pass@example.org/{number}",
        "site": "example.org",
        "created_at": now,
        "updated_at": now,
    }
    return Job.model_validate(known | facts)


class Installation:
    """Folders, a database and a Redis that one operator has."""

    def __init__(self, place: Program, redis: RedisServer) -> None:
        self.place = place
        self.redis = redis
        place.downloads.mkdir(parents=True, exist_ok=True)
        place.data.mkdir(parents=True, exist_ok=True)
        self.environment = {"REDIS_URL": redis.tcp_url}

    @contextlib.asynccontextmanager
    async def store(self, name: str) -> AsyncIterator[JobStore]:
        """Open one of the two stores for a moment."""
        store: JobStore = (
            SqliteJobStore(self.place.data / "media-downloader.db")
            if name == "sqlite"
            else RedisJobStore(self.redis.tcp_url)
        )
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def work_folder(self, name: str) -> Path:
        """Make a work folder that holds something."""
        folder = self.place.downloads / name
        folder.mkdir()
        (folder / "video.part").write_bytes(b"half of it")
        return folder

    def make_unreadable(self, name: str, job_id: str) -> None:
        """Have a job look as if another version of the program had written it."""
        if name == "redis":
            with self.redis.client() as client:
                client.hset(f"job:{job_id}", "state", '"from_the_future"')
        else:
            with contextlib.closing(sqlite3.connect(self.place.data / "media-downloader.db")) as database, database:
                database.execute("UPDATE jobs SET document = '{}' WHERE id = ?", (job_id,))

    async def fill(self, name: str, plain: int = 0) -> None:
        """Put jobs of every kind into a store, in an order that is not the one in which they were added."""
        kept = f"{PREFIXES[name]}{3:032x}_0123abcd"
        self.work_folder(kept)
        # A crash between renaming a folder and noting that has left another name than the job's.
        self.work_folder(f"{PREFIXES[name]}{4:032x}_ffffffff")
        async with self.store(name) as store:
            await store.add(NewJobs(_kinds(kept, f"{PREFIXES[name]}{4:032x}_00000000")))
            await store.add(NewJobs(_playlist(20)))
            if plain:
                await store.add(NewJobs([job(1000 + number) for number in range(plain)]))
            await store.move([job(9).id], None)
            await store.move([job(8).id], job(1).id)
            await store.change(job(1).id, Change(facts={"priority": 5}))
            await store.set_queue_state(QueueState(paused=True, reason="user", since=utc_now()))
            until = utc_now() + timedelta(hours=1)
            await store.set_cooldown(Cooldown(site="slow.example", until=until, reason="429"))


def _kinds(workdir: str, stale: str) -> list[Job]:
    artifact = Artifact(name="a/b.mp4", size_bytes=3, type="video/mp4", sha256="0" * 64)
    failure = Failure(kind=FailureKind.DRM, message="no", hint="none", retry=1, retries=5)
    progress = Progress(percent=43.0, downloaded_bytes=43, total_bytes=100)
    later = utc_now() + timedelta(days=1)
    ended = utc_now() - timedelta(minutes=5)
    return [
        job(1, options=JobOptions(preset=Preset.AUDIO)),
        job(2, not_before=later, ready_at=later),
        job(3, state=State.PAUSED, workdir=workdir, progress=progress, attempt=2, notices=("resumed",)),
        job(4, workdir=stale, attempt=1),
        job(5, state=State.DONE, artifacts=(artifact,), finished_at=ended, media=Media(title="ünï", site="X")),
        job(6, state=State.ERROR, failure=failure, finished_at=ended),
        job(7, state=State.CANCELED, finished_at=ended),
        job(8, priority=-1),
        job(9),
    ]


def _playlist(number: int) -> list[Job]:
    parent = job(number, is_playlist=True, state=State.DONE, media=Media(title="list", entry_count=4))
    states = (State.DONE, State.QUEUED, State.PAUSED, State.ERROR)
    children = [
        job(0, id=child_id(parent.id, entry), parent_id=parent.id, entry_index=entry, state=state)
        for entry, state in enumerate(states, start=1)
    ]
    return [parent, *children]


async def everything(store: JobStore) -> dict[str, Any]:
    """Return all that a move must keep."""
    created = [_lasting(one) for one in await listed(store, "created_at")]
    return {
        "jobs": created,
        "order": [one.id for one in await listed(store, "position")],
        "counts": dict(await store.counts()),
        "queue": await store.queue_state(),
        "cooldowns": await store.cooldowns(),
    }


def _lasting(one: Job) -> dict[str, Any]:
    known = one.model_dump(exclude={"position", "updated_at"})
    known["workdir"] = (one.workdir or "").removeprefix("mdjob_").removeprefix("md_")
    return known


async def listed(store: JobStore, sort: str) -> Sequence[Job]:
    """Return every job in an order."""
    found: list[Job] = []
    cursor = None
    while True:
        page = await store.find(JobQuery(sort=sort, limit=500, cursor=cursor))
        found.extend(page.jobs)
        cursor = page.next_cursor
        if cursor is None:
            return found
