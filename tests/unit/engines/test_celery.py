"""What the engine of many machines promises beyond ports.Engine: doorbells, and workers that outlive the server."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from media_downloader.engines import worker_registry
from media_downloader.engines.celery import CeleryEngine
from media_downloader.engines.celery_app import KEY_PREFIX, QUEUE, make_app
from media_downloader.engines.worker_registry import Announcement, WorkerRegistry
from media_downloader.errors import EngineUnavailable
from media_downloader.redis_client import connect
from tests.engines import SLOTS, Workplace, until, until_free
from tests.redis_server import RedisServer, free_port
from tests.work import Work


async def nothing(_job_id: str) -> None:
    """What a server gives an engine that has workers."""


@pytest.fixture
async def registry(own_redis: RedisServer) -> AsyncIterator[WorkerRegistry]:
    """Where a worker would announce itself."""
    made = WorkerRegistry(lambda: connect(own_redis.tcp_url, connections=2))
    yield made
    await made.close()


@pytest.fixture
async def alone(own_redis: RedisServer) -> AsyncIterator[CeleryEngine]:
    """An engine at which no worker listens."""
    made = CeleryEngine(make_app(own_redis.tcp_url), WorkerRegistry(lambda: connect(own_redis.tcp_url, connections=2)))
    await made.start(nothing)
    yield made
    await made.stop()


def waiting_messages(redis: RedisServer) -> list[str]:
    """Return the ids of the tasks that wait in the broker, oldest first."""
    with redis.client() as client:
        messages = [json.loads(text) for text in client.lrange(KEY_PREFIX + QUEUE, 0, -1)]
    return [message["headers"]["id"] for message in reversed(messages)]


@pytest.mark.xdist_group("cluster")
async def test_workers_go_on_when_the_server_stops(workplace: Workplace) -> None:
    await workplace.until_idle()
    work = Work(workplace.folder)
    first = workplace.engine()
    await first.start(nothing)
    running, job_id = work.new(), work.new()
    await first.submit(running)
    await until(lambda: work.started == [running])
    await first.stop()
    second = workplace.engine()
    await second.start(nothing)
    assert await second.free_slots() == SLOTS - 1
    assert [worker.running for worker in await second.workers()] == [1]
    await second.submit(job_id)
    await until(lambda: work.started == [running, job_id])
    assert work.ended == []
    work.let_go()
    await until_free(second, SLOTS)
    await second.stop()


async def test_without_a_worker_there_is_no_slot(alone: CeleryEngine) -> None:
    assert await alone.free_slots() == 0
    assert await alone.workers() == []


async def test_a_doorbell_is_rung_once_until_it_is_answered(
    alone: CeleryEngine, registry: WorkerRegistry, own_redis: RedisServer
) -> None:
    """Its message bears the job's id first, and later the attempt's number too."""
    job_id = uuid4().hex
    await asyncio.gather(*(alone.submit(job_id) for _ in range(10)))
    await registry.took("worker", 1, job_id)
    await alone.submit(job_id, 1)
    await alone.submit(job_id, 1)
    assert waiting_messages(own_redis) == [job_id, f"{job_id}.1"]


async def test_a_doorbell_that_nobody_answers_is_rung_again(
    alone: CeleryEngine, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_registry, "RING_AGAIN_SECONDS", 0.05)
    job_id = uuid4().hex
    await alone.submit(job_id)
    await asyncio.sleep(0.06)
    await alone.submit(job_id)
    assert len(waiting_messages(own_redis)) == 2


async def test_a_broker_that_is_not_there_is_an_error_each_time(own_redis: RedisServer) -> None:
    """A doorbell whose message went nowhere does not count as rung."""
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    engine = CeleryEngine(make_app(nobody), WorkerRegistry(lambda: connect(own_redis.tcp_url, connections=2)))
    await engine.start(nothing)
    job_id = uuid4().hex
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            await engine.submit(job_id)
    await engine.stop()


async def test_without_redis_nobody_can_tell_and_nothing_is_taken(alone: CeleryEngine, own_redis: RedisServer) -> None:
    own_redis.kill()
    assert await alone.free_slots() == 0
    with pytest.raises(EngineUnavailable):
        await alone.workers()
    with pytest.raises(EngineUnavailable):
        await alone.submit(uuid4().hex)


async def test_a_slot_is_taken_from_the_ring_to_the_end(alone: CeleryEngine, registry: WorkerRegistry) -> None:
    told = Announcement(id="worker", host="here", slots=2, versions={}, free_bytes=0)
    await registry.announce(told, live_pids=(1, 2))
    seen = [await alone.free_slots()]
    job_id = uuid4().hex
    await alone.submit(job_id)
    seen.append(await alone.free_slots())
    await registry.took("worker", 1, job_id)
    seen.append(await alone.free_slots())
    # The process died: the worker's next word sets its slot free.
    await registry.announce(told, live_pids=(2, 3))
    seen.append(await alone.free_slots())
    assert seen == [2, 1, 1, 2]


async def test_a_worker_with_a_problem_has_no_slots(alone: CeleryEngine, registry: WorkerRegistry) -> None:
    told = Announcement(id="worker", host="here", slots=2, versions={}, free_bytes=0, problems=("It is deaf.",))
    await registry.announce(told, live_pids=(1, 2))
    assert await alone.free_slots() == 0
    assert [worker.problems for worker in await alone.workers()] == [("It is deaf.",)]


async def test_a_silent_worker_counts_as_dead_and_is_still_shown(
    alone: CeleryEngine, registry: WorkerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.announce(Announcement("worker", "here", 2, {}, 0), live_pids=(1, 2))
    monkeypatch.setattr(worker_registry, "DEAD_SECONDS", 0.05)
    await asyncio.sleep(0.06)
    assert await alone.free_slots() == 0
    assert [worker.alive for worker in await alone.workers()] == [False]
    await registry.leave("worker")
    assert await alone.workers() == []
