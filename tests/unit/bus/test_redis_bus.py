"""News between processes: cursors that hold anywhere, and readers that are told when something is missing."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from media_downloader.bus.redis import STREAM, RedisEventBus
from media_downloader.jobs.model import DeletedEvent, JobEvent, Progress, ProgressEvent
from media_downloader.ports import Envelope, Reset
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import a_job

News = AsyncIterator[Envelope | Reset]


def event(number: int) -> DeletedEvent:
    return DeletedEvent(id=str(number))


async def take(news: News, count: int) -> list[str]:
    async with asyncio.timeout(20):
        found = [await anext(news) for _ in range(count)]
    return [one.event.id if isinstance(one, Envelope) else "reset" for one in found]  # type: ignore[union-attr]


async def opened(url: str, kept_events: int = 1000) -> RedisEventBus:
    bus = RedisEventBus(url, kept_events)
    await bus.open()
    return bus


async def test_events_reach_every_process_in_order(redis_url: str) -> None:
    one, two = await opened(redis_url), await opened(redis_url)
    readers = [one.subscribe(), two.subscribe()]
    job = a_job(1)
    await one.publish(JobEvent(job=job))
    for reader in readers:
        news = await anext(reader)
        assert isinstance(news, Envelope)
        assert news.event == JobEvent(job=job)
    for number in range(500):
        await one.publish(event(number))
    for reader in readers:
        assert await take(reader, 500) == [str(number) for number in range(500)]
    await one.close()
    await two.close()


async def test_a_cursor_of_one_process_holds_in_another_and_after_a_restart(redis_url: str) -> None:
    one = await opened(redis_url)
    reader = one.subscribe()
    for number in range(5):
        await one.publish(event(number))
    seen = [await anext(reader) for _ in range(5)]
    second = seen[1]
    assert isinstance(second, Envelope)
    await one.close()
    again = await opened(redis_url)
    assert await take(again.subscribe(second.cursor), 3) == ["2", "3", "4"]
    await again.close()


async def test_news_that_was_published_last_is_sent_before_the_end(redis_url: str) -> None:
    one, two = await opened(redis_url), await opened(redis_url)
    reader = two.subscribe()
    await one.publish(event(1))
    await one.close()
    assert await take(reader, 1) == ["1"]
    await two.close()


async def test_a_restart_with_its_data_loses_nothing(own_redis: RedisServer) -> None:
    bus = await opened(own_redis.url)
    reader = bus.subscribe()
    await bus.publish(event(1))
    assert await take(reader, 1) == ["1"]
    own_redis.kill()
    began = time.monotonic()
    for number in range(2, 10):
        await bus.publish(event(number))
    assert time.monotonic() - began < 0.5
    own_redis.start()
    assert await take(reader, 8) == [str(number) for number in range(2, 10)]
    await bus.close()


async def test_a_restart_without_its_data_is_a_reset_and_then_goes_on() -> None:
    with RedisServer() as server:
        bus = await opened(server.url)
        reader = bus.subscribe()
        await bus.publish(event(1))
        assert await take(reader, 1) == ["1"]
        server.kill()
        server.start()
        assert await take(reader, 1) == ["reset"]
        await bus.publish(event(2))
        assert await take(reader, 1) == ["2"]
        await bus.close()


async def test_a_reader_that_was_cut_off_too_long_is_reset(own_redis: RedisServer) -> None:
    bus = await opened(own_redis.url, kept_events=50)
    reader = bus.subscribe()
    await bus.publish(event(1))
    assert await take(reader, 1) == ["1"]
    # As long as this takes, the reader cannot read; afterwards its place in the stream is gone.
    with own_redis.client() as other, other.pipeline(transaction=True) as pipeline:
        for number in range(1000):
            pipeline.xadd(STREAM, {"deleted": event(number).model_dump_json()}, maxlen=50, approximate=False)
        pipeline.execute()
    assert await take(reader, 1) == ["reset"]
    await bus.close()


async def test_news_that_could_not_be_kept_in_line_is_a_reset_for_all(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media_downloader.bus.redis.WAITING_EVENTS", 20)
    one, two = await opened(own_redis.url), await opened(own_redis.url)
    reader = two.subscribe()
    own_redis.kill()
    for number in range(40):
        await one.publish(event(number))
    own_redis.start()
    told = await take(reader, 1)
    assert told == ["reset"]
    await one.publish(event(1000))
    while told[-1] != "1000":
        told += await take(reader, 1)
    await one.close()
    await two.close()


async def test_a_server_that_is_away_at_the_start_is_waited_for_behind(
    own_redis: RedisServer,
) -> None:
    own_redis.kill()
    bus = await opened(own_redis.url)
    reader = bus.subscribe()
    await bus.publish(event(1))
    own_redis.start()
    # What was in the stream before it could be read, that event perhaps, is covered by the reset.
    told = await take(reader, 1)
    assert told == ["reset"]
    await bus.publish(event(2))
    while told[-1] != "2":
        told += await take(reader, 1)
    with own_redis.client() as client:
        assert client.xlen(STREAM) == 2
    await bus.close()


async def test_an_event_of_a_newer_version_is_passed_over(redis_server: RedisServer, redis_url: str) -> None:
    bus = await opened(redis_url)
    reader = bus.subscribe()
    with redis_server.client() as newer:
        newer.xadd(STREAM, {"invented": "{}"})
        newer.xadd(STREAM, {"deleted": '{"id": "0", "invented": 1}'})
    await bus.publish(event(1))
    assert await take(reader, 1) == ["1"]
    await bus.close()


async def test_publishing_never_waits_for_a_server_that_does_not_answer(own_redis: RedisServer) -> None:
    bus = await opened(own_redis.url)
    own_redis.freeze()
    try:
        began = time.monotonic()
        for number in range(100):
            await bus.publish(event(number))
        assert time.monotonic() - began < 0.5
        await bus.close()
        assert time.monotonic() - began < 5
    finally:
        own_redis.thaw()


async def test_a_bus_that_does_not_listen_tells_those_who_do(redis_url: str, redis_server: RedisServer) -> None:
    listening, silent = await opened(redis_url), RedisEventBus(redis_url, listens=False)
    await silent.open()
    reader = listening.subscribe()
    await silent.publish(event(1))
    assert await silent.flush(5)
    assert await take(reader, 1) == ["1"]
    with redis_server.client() as client:
        blocked = [one for one in client.client_list() if one["name"] == "media-downloader" and "b" in one["flags"]]
        assert len(blocked) <= 1  # the reader of the one that listens
    await silent.close()
    await listening.close()


def test_what_was_flushed_is_sent_though_the_event_loop_stands_still(redis_url: str, redis_server: RedisServer) -> None:
    bus = RedisEventBus(redis_url, listens=False)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bus.open())

    async def job(number: int) -> None:
        for part in range(500):
            await bus.publish(event(number * 500 + part))
        assert await bus.flush(5)

    with redis_server.client() as client:
        for number in range(3):
            loop.run_until_complete(job(number))
            assert client.xlen(STREAM) == (number + 1) * 500
    loop.run_until_complete(bus.close())
    loop.close()


async def test_a_flush_ends_though_redis_is_away_and_nothing_is_lost(own_redis: RedisServer) -> None:
    silent = RedisEventBus(own_redis.url, listens=False)
    await silent.open()
    assert await silent.flush(0)
    own_redis.kill()
    await silent.publish(event(1))
    began = time.monotonic()
    assert not await silent.flush(0.1)
    assert time.monotonic() - began < 2
    own_redis.start()
    assert await silent.flush(20)
    with own_redis.client() as client:
        assert client.xlen(STREAM) == 1
    await silent.close()


@pytest.mark.parametrize("listens", [True, False])
def test_a_bus_can_be_used_in_one_event_loop_after_another(
    redis_url: str, redis_server: RedisServer, listens: bool
) -> None:
    bus = RedisEventBus(redis_url, listens=listens)

    async def once(number: int) -> None:
        await bus.open()
        reader = bus.subscribe() if listens else None
        await bus.publish(event(number))
        assert await bus.flush(5)
        assert reader is None or await take(reader, 1) == [str(number)]
        await bus.close()

    for number in range(3):
        asyncio.run(once(number))
    with redis_server.client() as client:
        assert client.xlen(STREAM) == 3


async def test_news_of_a_job_that_another_process_deleted_are_dropped_everywhere(redis_url: str) -> None:
    one, two = await opened(redis_url), await opened(redis_url)
    readers = [one.subscribe(), two.subscribe()]
    job = a_job(1)
    await one.publish(DeletedEvent(id=job.id))
    for reader in readers:
        assert await take(reader, 1) == [job.id]
    await two.publish(ProgressEvent(id=job.id, progress=Progress(downloaded_bytes=1)))
    await two.publish(JobEvent(job=job))
    await two.publish(event(2))
    for reader in readers:
        assert await take(reader, 1) == ["2"]
    for bus in (one, two):
        await bus.close()
