"""A store that goes away while a job runs: what was reached is written as soon as it is back, once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.downloader.protocol import Finished, MadeFile
from media_downloader.errors import StoreUnavailable
from media_downloader.jobs.model import Job, utc_now
from media_downloader.jobs.state import State
from media_downloader.ports import Change, NewJobs
from media_downloader.runner import Runner
from media_downloader.settings import Settings
from media_downloader.stores.sqlite import SqliteJobStore
from tests.scripted_zygote import ScriptedZygote
from tests.unit.runner.test_runner import saying

ID = "a" * 32
LEASE_SECONDS = 1.0
MADE = MadeFile(path="work/media.bin", size_bytes=4, type="application/octet-stream")
ORDER = "make media.bin 64617461 " + saying(Finished(files=(MADE,), name="made"))[4:]


class UnsteadyStore(SqliteJobStore):
    """Fails as often as it is told to when a job is to become done: before it has written, or after."""

    failures = 0
    after_writing = False

    async def change(self, job_id: str, change: Change) -> Job:
        fails = change.to is State.DONE and self.failures > 0
        if fails:
            self.failures -= 1
        if fails and not self.after_writing:
            raise StoreUnavailable("It is away.")
        job = await super().change(job_id, change)
        if fails:
            raise StoreUnavailable("Its answer is lost.")
        return job


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    """A runner's surroundings, without what would run jobs by itself."""
    made = bootstrap(
        Settings(downloads_dir=tmp_path / "downloads", data_dir=tmp_path, min_free_bytes=0, lease_seconds=LEASE_SECONDS)
    )
    made.store = UnsteadyStore(tmp_path / "jobs.db")
    made.zygote = ScriptedZygote(tmp_path / "zygote")
    await made.store.open()
    made.library.open()
    made.zygote.start()
    now = utc_now()
    job = Job(id=ID, url=ORDER, site="example.org", state=State.QUEUED, created_at=now, updated_at=now)
    await made.store.add(NewJobs([job]))
    yield made
    await made.zygote.stop()
    await made.store.close()
    made.library.close()


@pytest.fixture
def run(container: Container) -> Callable[[], "asyncio.Future[None]"]:
    """Run the job from claim to verdict."""
    return lambda: asyncio.ensure_future(Runner(container._runner_deps(False)).run(ID))


async def right(container: Container, attempts: int) -> None:
    job = await container.store.get(ID)
    assert (job.state, job.attempt) == (State.DONE, attempts)
    downloads = container.settings.downloads_dir
    assert [path.name for path in downloads.iterdir() if not path.name.startswith(".")] == ["made.bin"]
    assert (downloads / "made.bin").read_bytes() == b"data"


async def test_an_outage_within_the_lease_is_waited_for(
    container: Container, run: Callable[[], "asyncio.Future[None]"]
) -> None:
    assert isinstance(container.store, UnsteadyStore)
    container.store.failures = 2
    await run()
    await right(container, 1)


async def test_a_verdict_whose_answer_is_lost_is_written_once(
    container: Container, run: Callable[[], "asyncio.Future[None]"]
) -> None:
    assert isinstance(container.store, UnsteadyStore)
    container.store.failures, container.store.after_writing = 1, True
    await run()
    await right(container, 1)


async def test_a_verdict_that_could_not_be_written_is_found_by_the_next_attempt(
    container: Container, run: Callable[[], "asyncio.Future[None]"]
) -> None:
    """The file has its name already when the lease runs out: it gets no second one, and is not fetched again."""
    assert isinstance(container.store, UnsteadyStore)
    container.store.failures = 1000
    await run()
    assert (await container.store.get(ID)).state is State.PROCESSING
    container.store.failures = 0
    await asyncio.sleep(LEASE_SECONDS)
    (released,) = await container.store.release_expired()
    assert released.abandoned
    await run()
    await right(container, 2)
