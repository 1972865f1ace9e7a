"""One process of a worker's pool, by itself."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.bootstrap import RunnerContainer, bootstrap_runner
from media_downloader.engines.worker_registry import BUSY, RUNG
from media_downloader.settings import Settings
from media_downloader.worker.pool_process import DRAIN, PoolProcess
from tests.redis_server import RedisServer
from tests.scripted_zygote import ScriptedZygote

Run = Callable[[str], Awaitable[None]]


class Pool:
    """Makes processes of a pool in this one."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self._settings = Settings(
            downloads_dir=folder / "downloads",
            data_dir=folder / "data",
            redis_url=redis.tcp_url,  # type: ignore[arg-type]
        )
        real = bootstrap_runner(self._settings)
        self.container: RunnerContainer = replace(real, zygote=ScriptedZygote(folder / "zygote"))
        self.process: PoolProcess | None = None

    def start(self, run: Run) -> PoolProcess:
        """Start the one that runs this."""
        self.process = PoolProcess(replace(self.container, run=run), "worker")
        self.process.start(os.getppid())
        return self.process


@pytest.fixture
def pool(tmp_path: Path, own_redis: RedisServer) -> Iterator[Pool]:
    """Leave this process as it was."""
    before = signal.getsignal(DRAIN)
    made = Pool(tmp_path, own_redis)
    yield made
    if made.process is not None:
        made.process.stop()
    signal.signal(DRAIN, before)


def test_a_doorbell_counts_as_answered_before_its_job_can_have_ended(pool: Pool, own_redis: RedisServer) -> None:
    """Whoever rings for what comes next must not be taken for one that was heard."""
    still_rung: list[object] = []

    async def run(job_id: str) -> None:
        with own_redis.client() as client:
            still_rung.append(client.zscore(RUNG, job_id))

    process = pool.start(run)
    job_id = uuid4().hex
    with own_redis.client() as client:
        client.zadd(RUNG, {job_id: time.time()})
    process.answer(job_id)
    assert still_rung == [None]


def test_what_is_no_id_of_ours_is_dropped(pool: Pool) -> None:
    ran: list[str] = []

    async def run(job_id: str) -> None:
        ran.append(job_id)

    process = pool.start(run)
    for strange in (None, 17, "", "x", "f" * 31, "F" * 32, f"{'f' * 32}\n", ["f" * 32]):
        process.answer(strange)
    assert ran == []


def test_a_process_that_is_to_end_gives_its_job_back_and_takes_no_other(pool: Pool) -> None:
    given_back: list[str] = []

    async def run(job_id: str) -> None:
        os.kill(os.getpid(), DRAIN)
        try:
            await asyncio.sleep(20)
        finally:
            given_back.append(job_id)

    process = pool.start(run)
    first, second = uuid4().hex, uuid4().hex
    process.answer(first)
    process.answer(second)
    assert given_back == [first]


def test_a_mistake_in_a_runner_leaves_a_process_that_answers(pool: Pool, own_redis: RedisServer) -> None:
    ran: list[str] = []

    async def run(job_id: str) -> None:
        ran.append(job_id)
        if len(ran) == 1:
            raise RuntimeError("a mistake in a runner")

    process = pool.start(run)
    with pytest.raises(RuntimeError):
        process.answer(uuid4().hex)
    process.answer(uuid4().hex)
    assert len(ran) == 2
    with own_redis.client() as client:
        assert client.hgetall(BUSY) == {}


def test_a_job_runs_though_nobody_can_be_told_of_it(pool: Pool, own_redis: RedisServer) -> None:
    ran: list[str] = []

    async def run(job_id: str) -> None:
        ran.append(job_id)
        if len(ran) == 2:
            own_redis.start()

    process = pool.start(run)
    first, second = uuid4().hex, uuid4().hex
    process.answer(first)
    own_redis.kill()
    process.answer(second)
    assert ran == [first, second]


def test_a_process_that_was_started_without_redis_runs_jobs_when_it_is_there(
    pool: Pool, own_redis: RedisServer
) -> None:
    ran: list[str] = []

    async def run(job_id: str) -> None:
        ran.append(job_id)

    own_redis.kill()
    process = pool.start(run)
    unheard, heard = uuid4().hex, uuid4().hex
    process.answer(unheard)
    own_redis.start()
    process.answer(heard)
    assert ran == [heard]


def test_a_process_ends_though_it_cannot_say_that_it_is_free(pool: Pool, own_redis: RedisServer) -> None:
    async def run(job_id: str) -> None:
        own_redis.kill()
        os.kill(os.getpid(), DRAIN)

    pool.start(run).answer(uuid4().hex)
    own_redis.start()
