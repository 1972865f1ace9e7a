"""One job under the real runner, store and zygote; what the download process says is scripted."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.bus.memory import MemoryEventBus
from media_downloader.downloader.protocol import Finished, MadeFile, Message, StateChanged, encode
from media_downloader.jobs.model import Event, Job, JobEvent, utc_now
from media_downloader.jobs.state import Action, Signal, State
from media_downloader.ports import Claim, NewJobs
from media_downloader.runner import Runner
from media_downloader.settings import Settings
from media_downloader.stores.sqlite import SqliteJobStore
from tests.scripted_zygote import ScriptedZygote


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    """The whole program without a face, not started; its downloader is scripted."""
    made = bootstrap(
        Settings(downloads_dir=tmp_path / "downloads", data_dir=tmp_path / "data", min_free_bytes=0, max_retries=0)
    )
    made.zygote = ScriptedZygote(tmp_path / "zygote")
    yield made
    await made.stop()


def saying(*messages: Message) -> str:
    return "raw " + b"".join(encode(message) for message in messages).hex()


async def add(container: Container, order: str) -> str:
    now = utc_now()
    job = Job(id="a" * 32, url=order, site="example.org", state=State.QUEUED, created_at=now, updated_at=now)
    return (await container.store.add(NewJobs([job]))).jobs[0].id


async def until(container: Container, job_id: str, states: Sequence[State], seconds: float = 20.0) -> Job:
    async with asyncio.timeout(seconds):
        events = container.bus.subscribe()
        while True:
            job = await container.store.get(job_id)
            if job.state in states:
                return job
            await anext(events)


async def test_a_wish_is_seen_while_the_downloader_is_getting_warm(container: Container, tmp_path: Path) -> None:
    container.zygote = ScriptedZygote(tmp_path / "slow", "tests.slow_child")
    await container.start()
    job_id = await add(container, "wait")
    container.scheduler.wake()
    await until(container, job_id, [State.EXTRACTING])
    began = asyncio.get_running_loop().time()
    view = await container.service.act(job_id, Action.PAUSE)
    assert view.job.signal is Signal.PAUSE
    paused = await until(container, job_id, [State.PAUSED])
    assert asyncio.get_running_loop().time() - began < 2
    assert paused.workdir is not None


async def test_a_server_that_can_start_no_process_blames_no_job(container: Container, tmp_path: Path) -> None:
    container.zygote = ScriptedZygote(tmp_path / "none", "tests.there_is_no_such_module")
    await container.start()
    job_id = await add(container, "wait")
    container.scheduler.wake()
    await until(container, job_id, [State.EXTRACTING])
    job = await until(container, job_id, [State.QUEUED, State.ERROR])
    assert job.state is State.QUEUED
    assert job.crashes == job.retries == 0
    assert job.failure is not None
    assert "cannot be started" in job.failure.message
    assert job.failure.retry_at is not None
    assert container.zygote.problem is not None


async def test_a_log_that_cannot_be_written_costs_no_download(container: Container) -> None:
    await container.start()
    (container.settings.data_dir / "job-logs").write_text("in the way")
    made = MadeFile(path="work/media.bin", size_bytes=4, type="application/octet-stream")
    job_id = await add(container, "make media.bin 64617461 " + saying(Finished(files=(made,), name="made"))[4:])
    container.scheduler.wake()
    done = await until(container, job_id, [State.DONE, State.ERROR])
    assert done.state is State.DONE, done.failure
    assert (container.settings.downloads_dir / "made.bin").read_bytes() == b"data"


async def test_a_verdict_that_cannot_be_read_is_none(container: Container) -> None:
    await container.start()
    job_id = await add(container, "wait")
    container.scheduler.wake()
    running = await until(container, job_id, [State.EXTRACTING])
    await container.service.act(job_id, Action.PAUSE)
    paused = await until(container, job_id, [State.PAUSED])
    assert running.attempt == 1
    assert paused.workdir is not None
    folder = container.library.downloads_dir / paused.workdir
    (folder / "verdict.json").write_text('{"files": [], "of": "another version"}')
    await container.service.act(job_id, Action.RESUME)
    again = await until(container, job_id, [State.EXTRACTING])
    assert (again.attempt, again.crashes) == (2, 0)
    await container.service.act(job_id, Action.PAUSE)
    assert (await until(container, job_id, [State.PAUSED])).crashes == 0


async def test_what_a_user_did_to_a_waiting_job_is_in_its_folder_too(container: Container) -> None:
    await container.start()
    job_id = await add(container, "wait")
    container.scheduler.wake()
    await until(container, job_id, [State.EXTRACTING])
    await container.service.act(job_id, Action.PAUSE)
    await until(container, job_id, [State.PAUSED])
    await container.service.pause_queue()
    await container.service.act(job_id, Action.RESUME)
    await container.service.act(job_id, Action.PAUSE)
    told = json.loads(next(container.library.downloads_dir.glob("mdjob_*/job.json")).read_text())
    assert told["state"] == State.PAUSED


async def test_a_state_that_goes_back_and_forth_is_followed(container: Container) -> None:
    await container.start()
    states = (State.DOWNLOADING, State.PROCESSING, State.DOWNLOADING, State.EXTRACTING, State.EXTRACTING)
    job_id = await add(container, saying(*(StateChanged(state=state) for state in states)))
    container.scheduler.wake()
    ended = await until(container, job_id, [State.QUEUED, State.ERROR])
    # It ended without a last word, so it crashed.
    assert ended.crashes <= 1


class HoldingBus(MemoryEventBus):
    """Takes a moment to tell that a job is done."""

    def __init__(self) -> None:
        super().__init__()
        self.telling = asyncio.Event()

    async def publish(self, event: Event) -> None:
        if isinstance(event, JobEvent) and event.job.state is State.DONE:
            self.telling.set()
            await asyncio.sleep(0.1)
        await super().publish(event)


async def test_a_stop_right_after_the_verdict_leaves_no_folder(container: Container) -> None:
    bus = HoldingBus()
    container.bus = bus
    await container.start()
    made = MadeFile(path="work/media.bin", size_bytes=4, type="application/octet-stream")
    job_id = await add(container, "make media.bin 64617461 " + saying(Finished(files=(made,), name="made"))[4:])
    container.scheduler.wake()
    await bus.telling.wait()
    assert (await container.store.get(job_id)).state is State.DONE
    await container.stop()
    assert list(container.library.downloads_dir.glob("mdjob_*")) == []


async def test_a_stop_in_the_middle_of_a_claim_gives_the_job_back(container: Container, tmp_path: Path) -> None:
    class LateStore(SqliteJobStore):
        """Takes a moment to answer that a claim was granted."""

        claimed = asyncio.Event()

        async def claim(self, job_id: str, claim: Claim) -> Job:
            job = await super().claim(job_id, claim)
            self.claimed.set()
            await asyncio.sleep(0.1)
            return job

    container.settings.data_dir.mkdir()
    container.store = store = LateStore(tmp_path / "late.db")
    await store.open()
    await add(container, "wait")
    running = asyncio.create_task(Runner(container._runner_deps(False)).run("a" * 32))
    await store.claimed.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert (await store.get("a" * 32)).state is State.QUEUED
