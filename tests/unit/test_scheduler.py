"""Which job goes next: nobody waits behind one that cannot start."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.jobs.model import Job, utc_now
from media_downloader.ports import Claim, NewJobs
from media_downloader.settings import Settings


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    """A store and a scheduler; what runs is a test's own."""
    made = bootstrap(Settings(downloads_dir=tmp_path / "downloads", data_dir=tmp_path / "data"))
    made.settings.data_dir.mkdir()
    made.library.open()
    await made.store.open()
    yield made
    await made.scheduler.stop()
    await made.engine.stop()
    await made.store.close()
    made.library.close()


def a_job() -> Job:
    now = utc_now()
    job_id = uuid4().hex
    return Job(id=job_id, url="https://example.org", site=f"{job_id}.example", created_at=now, updated_at=now)


async def test_a_job_that_is_not_claimed_keeps_no_other_waiting(container: Container) -> None:
    stuck, *others = jobs = [a_job() for _ in range(3)]
    await container.store.add(NewJobs(jobs))
    started: list[str] = []
    all_started = asyncio.Event()

    async def run(job_id: str) -> None:
        if job_id != stuck.id:
            await container.store.claim(job_id, Claim("test", 600))
            started.append(job_id)
            if len(started) == len(others):
                all_started.set()
        await asyncio.sleep(60)

    await container.engine.start(run)
    await container.scheduler.start()
    async with asyncio.timeout(2.5):
        await all_started.wait()
    assert started == [job.id for job in others]
