"""What every Engine promises (ports.Engine)."""

import asyncio

import pytest

from media_downloader.errors import EngineUnavailable
from media_downloader.ports import Engine
from tests.engines import SLOTS, until, until_free
from tests.work import Work


async def test_what_is_submitted_runs_and_takes_a_slot(engine: Engine, work: Work) -> None:
    assert await engine.free_slots() == 0
    await engine.start(work)
    assert await engine.free_slots() == SLOTS
    ids = [work.new(), work.new()]
    for taken, job_id in enumerate(ids, 1):
        await engine.submit(job_id)
        assert await engine.free_slots() == SLOTS - taken
    await until(lambda: sorted(work.started) == sorted(ids))
    assert await engine.free_slots() == SLOTS - 2
    work.let_go(ids[0])
    await until_free(engine, SLOTS - 1)
    assert work.ended == ids[:1]
    work.let_go()
    await until_free(engine, SLOTS)
    assert sorted(work.ended) == sorted(ids)


async def test_slots_run_at_the_same_time(engine: Engine, work: Work) -> None:
    await engine.start(work)
    ids = [work.new() for _ in range(SLOTS)]
    for job_id in ids:
        await engine.submit(job_id)
    await until(lambda: len(work.started) == SLOTS)
    assert work.ended == []
    assert await engine.free_slots() == 0


async def test_what_is_submitted_twice_before_it_begins_takes_one_slot(engine: Engine, work: Work) -> None:
    await engine.start(work)
    job_id = work.new()
    await asyncio.gather(*(engine.submit(job_id) for _ in range(5)))
    assert await engine.free_slots() >= SLOTS - 2
    await until(lambda: len(work.started) >= 1)
    work.let_go()
    await until_free(engine, SLOTS)
    assert set(work.ended) == {job_id}


async def test_what_is_submitted_while_it_runs_is_run_once_more(engine: Engine, work: Work) -> None:
    await engine.start(work)
    job_id = work.new()
    await engine.submit(job_id)
    await until(lambda: work.started == [job_id])
    await engine.submit(job_id)
    assert await engine.free_slots() >= SLOTS - 2
    work.let_go()
    await until(lambda: work.ended == [job_id, job_id])
    await until_free(engine, SLOTS)
    assert work.started == [job_id, job_id]


async def test_an_id_can_be_run_again_and_again(engine: Engine, work: Work) -> None:
    await engine.start(work)
    job_id = work.new()
    work.let_go(job_id)
    for attempts in range(SLOTS * 2):
        await engine.submit(job_id, attempts)
        await until(lambda: len(work.ended) == attempts + 1)  # noqa: B023 - awaited at once
        await until_free(engine, SLOTS)


async def test_a_broken_runner_costs_no_slot(engine: Engine, work: Work) -> None:
    await engine.start(work)
    for _ in range(SLOTS * 2):
        job_id = work.new(broken=True)
        work.let_go(job_id)
        await engine.submit(job_id)
        await until(lambda: job_id in work.ended)  # noqa: B023 - awaited at once
        await until_free(engine, SLOTS)
    whole = work.new()
    work.let_go(whole)
    await engine.submit(whole)
    await until(lambda: whole in work.ended)


async def test_without_a_slot_a_job_is_refused_or_kept_and_nobody_waits(engine: Engine, work: Work) -> None:
    await engine.start(work)
    ids = [work.new() for _ in range(SLOTS + 1)]
    taken = ids[:SLOTS]
    for job_id in taken:
        await engine.submit(job_id)
    async with asyncio.timeout(2):
        try:
            await engine.submit(ids[-1])
        except EngineUnavailable:
            pass
        else:
            taken = ids
    assert await engine.free_slots() == 0
    work.let_go()
    await until(lambda: sorted(work.ended) == sorted(taken))
    await until_free(engine, SLOTS)


async def test_a_stop_takes_nothing_more_and_what_ran_ends(engine: Engine, work: Work) -> None:
    await engine.start(work)
    job_id = work.new()
    await engine.submit(job_id)
    await until(lambda: work.started == [job_id])
    async with asyncio.timeout(3):
        await engine.stop()
    assert await engine.free_slots() == 0
    with pytest.raises(EngineUnavailable):
        await engine.submit(work.new())
    work.let_go()
    await until(lambda: work.ended == [job_id])
    assert work.started == [job_id]


async def test_who_works_elsewhere_is_told_of(engine: Engine, work: Work) -> None:
    """None where jobs run in this process."""
    await engine.start(work)
    await engine.submit(work.new())
    await until(lambda: len(work.started) == 1)
    for worker in await engine.workers():
        assert worker.alive
        assert (worker.slots, worker.running) == (SLOTS, 1)
        assert worker.problems == ()
        assert {"media_downloader", "yt_dlp"} <= {name.replace("-", "_") for name in worker.versions}
