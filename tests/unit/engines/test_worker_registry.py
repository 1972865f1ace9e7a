"""The registry while Redis does not answer: nobody who asks for workers is kept waiting."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from media_downloader.engines import worker_registry
from media_downloader.engines.worker_registry import Announcement, WorkerRegistry
from media_downloader.errors import EngineUnavailable
from media_downloader.redis_client import connect
from tests.redis_server import RedisServer

TOLD = Announcement("w", "host", slots=2, versions={}, free_bytes=1)


async def seconds_until_unavailable(call: Awaitable[object]) -> float:
    began = time.monotonic()
    with pytest.raises(EngineUnavailable):
        await call
    return time.monotonic() - began


async def test_a_redis_that_does_not_answer_is_not_waited_for(own_redis: RedisServer) -> None:
    registry = WorkerRegistry(lambda: connect(own_redis.url, connections=2))
    await registry.announce(TOLD, [1])
    await registry.took("w", 1, "a" * 32)
    own_redis.freeze()
    try:
        # More callers than connections: those that wait for one wait no longer.
        asked = [seconds_until_unavailable(registry.workers()) for _ in range(5)]
        assert max(await asyncio.gather(*asked)) < 3
        assert await seconds_until_unavailable(registry.let_go("w", 1)) < 1
        assert await seconds_until_unavailable(registry.may_ring("b" * 32)) < 1
    finally:
        own_redis.thaw()
    (worker,) = await registry.workers()
    assert worker.alive
    await registry.let_go("w", 1)
    assert await registry.free_slots() == 2
    await registry.close()


async def test_no_answer_goes_astray_after_one_that_came_too_late(own_redis: RedisServer) -> None:
    registry = WorkerRegistry(lambda: connect(own_redis.url, connections=2))
    await registry.announce(TOLD, [])
    for _ in range(3):
        own_redis.freeze()
        await seconds_until_unavailable(registry.free_slots())
        own_redis.thaw()
        assert [one.id for one in await registry.workers()] == ["w"]
    await registry.close()


async def test_one_member_at_a_time_hands_out_jobs(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_registry, "TURN_SECONDS", 0.2)
    one, two = (WorkerRegistry(lambda: connect(own_redis.url, connections=2)) for _ in range(2))
    assert [await one.take_turn("one"), await two.take_turn("two"), await one.take_turn("one")] == [True, False, True]
    await two.end_turn("two")
    assert not await two.take_turn("two")
    await one.end_turn("one")
    assert await two.take_turn("two")
    # Who is not heard of any more loses its turn.
    await asyncio.sleep(0.25)
    assert await one.take_turn("one")
    await one.close()
    await two.close()


async def test_a_dead_worker_is_forgotten_when_another_has_taken_its_place(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_registry, "DEAD_SECONDS", 0.1)
    before, after, elsewhere = (WorkerRegistry(lambda: connect(own_redis.url, connections=2)) for _ in range(3))
    await before.announce(replace(TOLD, id="killed"), [1])
    await before.took("killed", 1, "a" * 32)
    await elsewhere.announce(replace(TOLD, id="elsewhere", host="other"), [1])
    await after.announce(replace(TOLD, id="new"), [2])
    assert {one.id: one.alive for one in await after.workers()} == {"killed": True, "elsewhere": True, "new": True}
    await asyncio.sleep(0.15)
    await elsewhere.announce(replace(TOLD, id="elsewhere", host="other"), [1])
    assert {one.id: one.alive for one in await after.workers()} == {"killed": False, "elsewhere": True, "new": False}
    await after.announce(replace(TOLD, id="new"), [2])
    assert {one.id: one.alive for one in await after.workers()} == {"elsewhere": True, "new": True}
    with own_redis.client() as client:
        assert client.hgetall(worker_registry.BUSY) == {}
    for registry in (before, after, elsewhere):
        await registry.close()
