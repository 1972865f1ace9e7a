"""What every Engine promises (ports.Engine)."""

import asyncio
from collections.abc import Callable

import pytest

from media_downloader.errors import EngineUnavailable
from media_downloader.ports import Engine
from tests.contract.conftest import SLOTS


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if check():
                return
            await asyncio.sleep(0)


class Work:
    """Runs ids until it is told to let go, and writes down what happened."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.let_go = asyncio.Event()

    async def __call__(self, job_id: str) -> None:
        self.started.append(job_id)
        try:
            await self.let_go.wait()
            if job_id == "broken":
                raise RuntimeError("a mistake in a runner")
        finally:
            self.ended.append(job_id)

    async def until_started(self, count: int) -> None:
        await until(lambda: len(self.started) >= count)


async def test_what_is_submitted_runs_and_takes_a_slot(engine: Engine) -> None:
    work = Work()
    assert engine.free_slots() == 0
    await engine.start(work)
    assert engine.free_slots() == SLOTS
    await engine.submit("a")
    await engine.submit("b")
    await work.until_started(2)
    assert engine.free_slots() == SLOTS - 2
    work.let_go.set()
    await until(lambda: engine.free_slots() == SLOTS)
    assert sorted(work.ended) == ["a", "b"]


async def test_what_runs_already_is_not_run_twice_at_once(engine: Engine) -> None:
    work = Work()
    await engine.start(work)
    await engine.submit("a")
    await engine.submit("a")
    await work.until_started(1)
    await asyncio.sleep(0)
    assert work.started == ["a"]


async def test_what_is_submitted_while_it_runs_is_run_again_afterwards(engine: Engine) -> None:
    work = Work()
    await engine.start(work)
    await engine.submit("a")
    await work.until_started(1)
    await engine.submit("a")
    assert engine.free_slots() == SLOTS - 1
    work.let_go.set()
    await until(lambda: work.ended == ["a", "a"])
    await until(lambda: engine.free_slots() == SLOTS)


async def test_a_broken_runner_costs_no_slot(engine: Engine) -> None:
    work = Work()
    work.let_go.set()
    await engine.start(work)
    for _ in range(SLOTS * 2):
        await engine.submit("broken")
        await until(lambda: engine.free_slots() == SLOTS)


async def test_no_slot_is_an_error_and_not_a_wait(engine: Engine) -> None:
    work = Work()
    await engine.start(work)
    for number in range(SLOTS):
        await engine.submit(str(number))
    with pytest.raises(EngineUnavailable):
        await engine.submit("one too many")


async def test_a_stop_ends_what_runs_and_takes_nothing_more(engine: Engine) -> None:
    work = Work()
    await engine.start(work)
    await engine.submit("a")
    await work.until_started(1)
    async with asyncio.timeout(3):
        await engine.stop()
    assert work.ended == ["a"]
    assert engine.free_slots() == 0
    with pytest.raises(EngineUnavailable):
        await engine.submit("b")
