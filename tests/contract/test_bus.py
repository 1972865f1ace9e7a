"""What every EventBus promises (ports.EventBus)."""

import asyncio
from datetime import timedelta

from media_downloader.jobs.model import DeletedEvent, Job, JobEvent, Progress, ProgressEvent, utc_now
from media_downloader.ports import Envelope, EventBus, Reset
from tests.contract.conftest import KEPT


def event(number: int) -> DeletedEvent:
    return DeletedEvent(id=str(number))


async def take(news: object, count: int) -> list[Envelope | Reset]:
    async with asyncio.timeout(5):
        return [await anext(news) for _ in range(count)]  # type: ignore[call-overload]


def ids(news: list[Envelope | Reset]) -> list[str]:
    return [one.event.id if isinstance(one, Envelope) else "reset" for one in news]  # type: ignore[union-attr]


async def test_events_come_in_order_to_every_reader(bus: EventBus) -> None:
    readers = [bus.subscribe() for _ in range(3)]
    for number in range(10):
        await bus.publish(event(number))
    for reader in readers:
        assert ids(await take(reader, 10)) == [str(number) for number in range(10)]


async def test_a_reader_that_comes_back_gets_what_it_missed(bus: EventBus) -> None:
    reader = bus.subscribe()
    for number in range(5):
        await bus.publish(event(number))
    second = (await take(reader, 2))[-1]
    assert isinstance(second, Envelope)
    assert ids(await take(bus.subscribe(second.cursor), 3)) == ["2", "3", "4"]


async def test_a_cursor_that_is_too_old_or_foreign_is_told_so(bus: EventBus) -> None:
    reader = bus.subscribe()
    await bus.publish(event(0))
    first = (await take(reader, 1))[0]
    assert isinstance(first, Envelope)
    for number in range(1, KEPT + 10):
        await bus.publish(event(number))
        await take(reader, 1)
    for cursor in (first.cursor, "nonsense", "other-1", f"{first.cursor}0000", ""):
        again = bus.subscribe(cursor)
        assert isinstance((await take(again, 1))[0], Reset), cursor
        await bus.publish(event(99))
        assert ids(await take(again, 1)) == ["99"]
        await take(reader, 1)


async def test_a_slow_reader_is_reset_and_delays_nobody(bus: EventBus) -> None:
    slow, quick = bus.subscribe(), bus.subscribe()
    async with asyncio.timeout(5):
        for number in range(KEPT * 3):
            await bus.publish(event(number))
            assert ids([await anext(quick)]) == [str(number)]
    assert isinstance((await take(slow, 1))[0], Reset)
    await bus.publish(event(1000))
    assert ids(await take(slow, 1)) == ["1000"]


async def test_closing_ends_every_stream(bus: EventBus) -> None:
    reader = bus.subscribe()
    waiting = asyncio.ensure_future(anext(reader, None))
    await asyncio.sleep(0)
    await bus.close()
    assert await asyncio.wait_for(waiting, 5) is None


async def test_no_news_of_a_job_follow_its_deletion(bus: EventBus) -> None:
    now = utc_now()
    job = Job(id="1" * 32, url="https://example.org", site="example.org", created_at=now, updated_at=now)
    reader = bus.subscribe()
    await bus.publish(JobEvent(job=job))
    await bus.publish(DeletedEvent(id=job.id))
    await bus.publish(ProgressEvent(id=job.id, progress=Progress()))
    await bus.publish(JobEvent(job=job.model_copy(update={"updated_at": utc_now()})))
    later = utc_now() + timedelta(seconds=1)
    await bus.publish(JobEvent(job=job.model_copy(update={"created_at": later, "updated_at": later})))
    await bus.publish(ProgressEvent(id=job.id, progress=Progress(downloaded_bytes=1)))
    told = [type(one.event) for one in await take(reader, 4) if isinstance(one, Envelope)]
    assert told == [JobEvent, DeletedEvent, JobEvent, ProgressEvent]
