"""Servers that go away and come back: no call hangs, nothing is lost that was kept, no answer goes astray."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable

import pytest

from media_downloader.errors import LeaseLost, StoreUnavailable
from media_downloader.jobs.model import Progress
from media_downloader.jobs.state import State
from media_downloader.ports import Change, Claim, JobQuery, NewJobs
from media_downloader.stores.redis import RedisJobStore
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import CLAIM, a_job


async def seconds_until_unavailable(call: Awaitable[object]) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call
    return time.monotonic() - began


async def test_a_server_that_is_killed_is_unavailable_and_then_there_again(own_redis: RedisServer) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    await store.add(NewJobs([a_job()]))
    job = await store.claim(a_job().id, CLAIM)
    own_redis.kill()
    assert await seconds_until_unavailable(store.get(job.id)) < 5
    # Known to be away, it is not waited for so long again: a page with several answers stays quick.
    assert await seconds_until_unavailable(store.counts()) < 1
    assert await seconds_until_unavailable(store.renew(job.id, job.attempt, 30)) < 1
    await store.save_progress(job.id, job.attempt, Progress(downloaded_bytes=7))
    own_redis.start()
    assert (await store.get(job.id)).state is State.EXTRACTING
    assert await store.renew(job.id, job.attempt, 30) is None
    await store.close()
    again = RedisJobStore(own_redis.url)
    await again.open()
    assert (await again.get(job.id)).progress.downloaded_bytes == 7
    await again.close()


async def test_a_short_restart_is_not_noticed(own_redis: RedisServer) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    await store.add(NewJobs([a_job()]))
    own_redis.kill()
    waiting = asyncio.create_task(store.change(a_job().id, Change(State.PAUSED)))
    await asyncio.to_thread(own_redis.start)
    assert (await waiting).state is State.PAUSED
    await store.close()


async def test_a_server_that_does_not_answer_is_not_waited_for(own_redis: RedisServer) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    await store.add(NewJobs([a_job(n) for n in range(40)]))
    own_redis.freeze()
    try:
        calls = [seconds_until_unavailable(store.get(a_job(n).id)) for n in range(40)]
        assert max(await asyncio.gather(*calls)) < 5
    finally:
        own_redis.thaw()
    for number in range(40):
        assert (await store.get(a_job(number).id)).id == a_job(number).id
    await store.close()


async def test_a_server_that_lost_everything_begins_anew_and_says_so(own_redis: RedisServer) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    await store.rebuild([])
    await store.close()
    await store.open()
    assert not store.is_new
    await store.add(NewJobs([a_job()]))
    with own_redis.client() as other:
        other.flushall()
    await store.add(NewJobs([a_job(2)]))
    assert store.is_new
    assert [job.id for job in (await store.find(JobQuery())).jobs] == [a_job(2).id]
    await store.close()


async def test_who_only_looks_for_lost_leases_learns_that_everything_is_lost(own_redis: RedisServer) -> None:
    """A server that nobody writes through must find what is on the disk all the same."""
    store = RedisJobStore(own_redis.url)
    await store.open()
    await store.rebuild([a_job()])
    with own_redis.client() as other:
        other.flushall()
    assert await store.release_expired() == []
    assert store.is_new
    await store.close()


async def test_a_claim_that_redis_forgot_can_write_nothing(own_redis: RedisServer) -> None:
    """A Redis that lost its last second gives the same attempt out again: the number does not tell them apart."""
    first, second = RedisJobStore(own_redis.url), RedisJobStore(own_redis.url)
    await first.open()
    await second.open()
    await first.add(NewJobs([a_job()]))
    lost = await first.claim(a_job().id, CLAIM)
    with own_redis.client() as other:
        # As it was before the claim.
        other.hset(f"job:{lost.id}", mapping={"state": "queued", "attempt": "0"})
        other.hdel(f"job:{lost.id}", "owner", "lease_until", "started_at")
    again = await second.claim(lost.id, Claim("test:2", 30))
    assert again.attempt == lost.attempt
    for write in (
        first.renew(lost.id, lost.attempt, 30),
        first.change(lost.id, Change(State.DONE, attempt=lost.attempt)),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await second.renew(again.id, again.attempt, 30) is None
    await first.close()
    await second.close()


async def test_a_call_that_is_given_up_leaves_no_answer_to_the_next(store: RedisJobStore) -> None:
    await store.add(NewJobs([a_job(n) for n in range(50)]))
    lots = random.Random(1)

    async def ask(number: int) -> None:
        task = asyncio.create_task(store.get(a_job(number).id))
        for _ in range(lots.randrange(6)):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert (await task).id == a_job(number).id

    for _ in range(10):
        await asyncio.gather(*(ask(number) for number in range(50)))
    for number in range(50):
        assert (await store.get(a_job(number).id)).id == a_job(number).id


async def test_a_task_can_always_be_canceled_in_the_middle_of_a_call(store: RedisJobStore) -> None:
    """The asyncio.wait_for of Python 3.11 swallows a cancellation that comes at the wrong moment."""
    await store.add(NewJobs([a_job()]))

    async def forever() -> None:
        while True:
            await store.get(a_job().id)

    for turns in range(60):
        task = asyncio.create_task(forever())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, turns
