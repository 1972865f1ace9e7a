"""What one step of the store in Redis holds together: a place, a time that has come, a removal, a store that is new."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from media_downloader.errors import InvalidTransition, StoreUnavailable
from media_downloader.jobs.model import Job, QueueState, utc_now
from media_downloader.jobs.state import State
from media_downloader.ports import Change, JobQuery, NewJobs
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import redis_writes as writes
from media_downloader.stores.redis import RedisJobStore
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_work import Work
from media_downloader.stores.redis_writer import Conflict, RedisWriter
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import CLAIM, a_job


async def another(url: str) -> RedisJobStore:
    """Return the store of another process."""
    store = RedisJobStore(url)
    await store.open()
    return store


async def order(store: RedisJobStore) -> list[int]:
    return [int(job.id, 16) for job in (await store.find(JobQuery(sort="position", limit=100))).jobs]


@pytest.mark.parametrize("before", [a_job(30).id, None])
async def test_jobs_that_move_to_one_place_at_once_stay_together(
    store: RedisJobStore, redis_url: str, before: str | None
) -> None:
    await store.add(NewJobs([a_job(number) for number in range(1, 31)]))
    other = await another(redis_url)
    groups = [[a_job(3 * number + part).id for part in (1, 2, 3)] for number in range(8)]
    await asyncio.gather(*((store, other)[n % 2].move(group, before) for n, group in enumerate(groups)))
    told = await order(store)
    for group in groups:
        numbers = [int(job_id, 16) for job_id in group]
        at = told.index(numbers[0])
        assert told[at : at + 3] == numbers
    first = 0 if before is None else 5
    assert set(told[first : first + 24]) == set(range(1, 25))
    await other.close()


async def test_room_is_made_for_many_between_two_that_stand_close(store: RedisJobStore) -> None:
    await store.add(NewJobs([a_job(number) for number in range(1, 41)]))
    expected = list(range(1, 41))
    lots = random.Random(7)
    for _ in range(60):
        moved = lots.sample(range(1, 40), 12)
        await store.move([a_job(number).id for number in moved], a_job(40).id)
        expected = [number for number in expected if number not in moved and number != 40] + [*moved, 40]
        assert await order(store) == expected


async def test_a_job_whose_time_has_come_stays_due_wherever_the_clock_goes(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    await store.add(NewJobs([a_job(ready_at=utc_now() + timedelta(seconds=0.1))]))
    assert await store.next_due(()) is None
    await asyncio.sleep(0.15)
    due = await store.next_due(())
    assert due is not None
    with redis_server.client() as client:
        # As it is for a clock that has been set back since.
        client.hset(f"job:{due.id}", "ready_at", keys.iso(utc_now() + timedelta(hours=1)))
    await store.change(due.id, Change(facts={"notices": ("so",)}))
    assert await store.next_due(()) is not None
    assert (await store.claim(due.id, CLAIM)).state is State.EXTRACTING
    waits = {"ready_at": utc_now() + timedelta(hours=1)}
    await store.change(due.id, Change(State.QUEUED, waits))
    assert await store.next_due(()) is None


async def test_a_time_that_comes_in_the_middle_of_a_write_is_not_lost(store: RedisJobStore) -> None:
    await store.add(NewJobs([a_job(ready_at=utc_now() + timedelta(seconds=0.1))]))
    link = RedisLink(store._link._url)
    link.open()
    writer = RedisWriter(link)
    work = await writer.load([a_job().id])
    work.save(work.job(a_job().id).model_copy(update={"notices": ("so",)}))
    await asyncio.sleep(0.15)
    assert await store.next_due(()) is not None
    with pytest.raises(Conflict):
        await writer.commit(work)
    await link.close()


def removal(work: Work) -> None:
    work.delete(work.job(a_job().id))


def pause_of_the_queue(work: Work) -> None:
    work.require("is", "", "GET", keys.QUEUE)
    work.also("SET", keys.QUEUE, QueueState(paused=True).model_dump_json())


def change(work: Work) -> None:
    work.save(work.job(a_job().id).model_copy(update={"notices": ("so",)}))


@pytest.mark.parametrize("write", [removal, pause_of_the_queue, change])
async def test_a_write_whose_answer_was_lost_is_known_when_it_is_sent_again(
    store: RedisJobStore, write: Callable[[Work], None]
) -> None:
    await store.add(NewJobs([a_job()]))
    work = await store._writer.load([a_job().id])
    write(work)
    await store._writer.commit(work)
    await store._writer.commit(work)


async def test_a_store_is_new_for_everybody_until_somebody_has_rebuilt_it(
    store: RedisJobStore, redis_url: str, redis_server: RedisServer
) -> None:
    other = await another(redis_url)
    assert (store.is_new, other.is_new) == (True, True)
    await store.rebuild([a_job(1), a_job(2)])
    assert await order(other) == [1, 2]
    await other.change(a_job(1).id, Change(State.PAUSED))
    assert (store.is_new, other.is_new) == (False, False)
    with redis_server.client() as client:
        client.flushall()
    await store.add(NewJobs([a_job(3)]))
    assert store.is_new
    # Nobody takes what is on the disk for orphans meanwhile.
    with pytest.raises(StoreUnavailable, match="lost"):
        await other.workdirs()
    assert other.is_new
    assert await other.workdirs() == {}
    await other.rebuild([a_job(1), a_job(3)])
    assert await order(store) == [3, 1]
    await store.change(a_job(3).id, Change(State.PAUSED))
    assert not store.is_new
    await other.close()


async def test_empty_keys_are_noticed_by_who_asks_for_work_folders(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    await store.rebuild([a_job(workdir="md_1")])
    assert await store.workdirs() == {"md_1": a_job().id}
    with redis_server.client() as client:
        client.flushall()
    with pytest.raises(StoreUnavailable, match="lost"):
        await store.workdirs()


async def test_many_wishes_that_meet_others_are_one_step_all_the_same(store: RedisJobStore, redis_url: str) -> None:
    parent = a_job(1, is_playlist=True)
    children = [a_job(number, parent_id=parent.id) for number in range(2, 102)]
    await store.add(NewJobs([parent, *children]))
    other = await another(redis_url)
    pauses = {child.id: Change(State.PAUSED) for child in children}
    cancels = {child.id: Change(State.CANCELED, expected={State.QUEUED}) for child in children}
    paused, canceled, _ = await asyncio.gather(
        store.change_many(pauses),
        other.change_many(cancels),
        asyncio.gather(*(other.change(child.id, Change(facts={"notices": ("so",)})) for child in children[:20])),
    )
    assert (len(paused), len(canceled)) in {(100, 0), (0, 100)}
    counted = (await store.get(parent.id)).children
    assert counted == {State.PAUSED if paused else State.CANCELED: 100}
    await other.close()


@pytest.mark.parametrize("key, ask", [(keys.QUEUE, "queue_state"), (keys.COOLDOWNS, "cooldowns")])
async def test_a_fact_that_cannot_be_read_is_an_error_of_ours(
    store: RedisJobStore, redis_server: RedisServer, key: str, ask: str
) -> None:
    await store.add(NewJobs([a_job()]))
    with redis_server.client() as client:
        if key == keys.QUEUE:
            client.set(key, '{"of_tomorrow": 1}')
        else:
            client.hset(key, a_job().site, '{"of_tomorrow": 1}')
    for call in (getattr(store, ask)(), store.claim(a_job().id, CLAIM)):
        with pytest.raises(StoreUnavailable, match="cannot read"):
            await call


async def a_long_playlist(store: RedisJobStore, **facts: object) -> Job:
    parent = a_job(1, is_playlist=True)
    children = [a_job(number, parent_id=parent.id, **facts) for number in range(2, 2 * writes.REMOVED_AT_ONCE + 52)]
    await store.add(NewJobs([parent, *children]))
    return await store.get(parent.id)


@pytest.mark.parametrize("expired", [True, False])
async def test_a_long_playlist_leaves_in_steps_and_whole(
    store: RedisJobStore, redis_server: RedisServer, expired: bool
) -> None:
    parent = await a_long_playlist(store, state=State.DONE, finished_at=utc_now())
    # As far as one that was cut off came.
    assert await writes._remove_some(store._writer, parent.id, expired=expired)
    left = sum(parent.children.values()) - writes.REMOVED_AT_ONCE
    assert (await store.get(parent.id)).children == {State.DONE: left}
    assert (await store.remove(parent.id, expired=expired)).id == parent.id
    with redis_server.client() as person:
        assert not list(person.scan_iter("job:*"))
        assert not person.exists(keys.ALL)
        assert person.hlen(keys.TOMBSTONES) == (sum(parent.children.values()) + 1 if expired else 0)


async def test_a_long_playlist_of_which_one_entry_runs_is_refused_as_a_whole(store: RedisJobStore) -> None:
    parent = await a_long_playlist(store)
    last = a_job(2 * writes.REMOVED_AT_ONCE + 51)
    await store.claim(last.id, CLAIM)
    with pytest.raises(InvalidTransition, match="still holds"):
        await store.remove(parent.id)
    await store.change(last.id, Change(State.CANCELED, attempt=1))
    with pytest.raises(InvalidTransition, match="not finished"):
        await store.remove(parent.id, expired=True)
    assert sum((await store.get(parent.id)).children.values()) == sum(parent.children.values())
