"""What the engine of one machine promises beyond ports.Engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from media_downloader.engines.local import LocalEngine
from media_downloader.errors import EngineUnavailable
from tests.engines import SLOTS, until, until_free
from tests.work import Work


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """What it runs."""
    return Work(tmp_path / "work")


@pytest.fixture
async def engine(work: Work) -> AsyncIterator[LocalEngine]:
    """An engine that has started."""
    made = LocalEngine(SLOTS)
    await made.start(work)
    yield made
    await made.stop()


async def test_a_job_never_runs_twice_at_once_and_again_in_the_same_slot(engine: LocalEngine, work: Work) -> None:
    job_id = work.new()
    await engine.submit(job_id)
    await until(lambda: work.started == [job_id])
    await engine.submit(job_id)
    await engine.submit(job_id)
    assert await engine.free_slots() == SLOTS - 1
    await asyncio.sleep(0.05)
    assert work.started == [job_id]
    work.let_go()
    await until_free(engine, SLOTS)
    assert work.started == work.ended == [job_id, job_id]


async def test_no_slot_is_an_error(engine: LocalEngine, work: Work) -> None:
    for _ in range(SLOTS):
        await engine.submit(work.new())
    with pytest.raises(EngineUnavailable):
        await engine.submit(work.new())


async def test_a_stop_ends_what_runs_and_what_was_to_run_again(engine: LocalEngine, work: Work) -> None:
    job_id = work.new()
    await engine.submit(job_id)
    await until(lambda: work.started == [job_id])
    await engine.submit(job_id)
    async with asyncio.timeout(1):
        await engine.stop()
    assert work.ended == work.started == [job_id]
