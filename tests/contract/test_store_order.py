"""What every JobStore promises of the queue, its order and its pauses, and of adds that are asked for again."""

import asyncio
from datetime import timedelta

import pytest

from media_downloader.errors import IdempotencyConflict, InvalidTransition, JobNotFound
from media_downloader.jobs.model import QueueState, utc_now
from media_downloader.jobs.state import State
from media_downloader.ports import Change, JobQuery, JobStore, NewJobs
from tests.contract.conftest import OpenStore
from tests.contract.test_store import CLAIM, a_job, added


async def order(store: JobStore) -> list[int]:
    return [int(job.id, 16) for job in (await store.find(JobQuery(sort="position"))).jobs]


async def test_many_jobs_move_as_one_and_keep_their_order(store: JobStore) -> None:
    await added(store, *(a_job(number) for number in range(1, 8)))
    await added(store, a_job(8, priority=5), a_job(9, priority=5))
    moved = await store.move([a_job(number).id for number in (5, 3, 7)], a_job(2).id)
    assert [int(job.id, 16) for job in moved] == [5, 3, 7]
    assert await order(store) == [8, 9, 1, 5, 3, 7, 2, 4, 6]
    await store.move([a_job(number).id for number in (6, 1)], None)
    assert await order(store) == [6, 1, 8, 9, 5, 3, 7, 2, 4]
    moved = await store.move([a_job(number).id for number in (4, 2)], a_job(9).id)
    assert [job.priority for job in moved] == [5, 5]
    assert await order(store) == [6, 1, 8, 4, 2, 9, 5, 3, 7]
    await store.move([a_job(number).id for number in (8, 9)], a_job(9).id)
    assert await order(store) == [6, 1, 8, 4, 2, 9, 5, 3, 7]


async def test_facts_change_with_the_place_or_not_at_all(store: JobStore) -> None:
    later = utc_now() + timedelta(hours=1)
    facts = {"not_before": later, "ready_at": later}
    await added(store, *(a_job(number) for number in range(1, 5)))
    await store.change(a_job(3).id, Change(State.PAUSED))
    before = [await store.get(a_job(number).id) for number in range(1, 5)]
    for ids, target, problem in (
        ([2, 3], 1, InvalidTransition),
        ([4], 3, InvalidTransition),
        ([4, 99], 1, JobNotFound),
        ([4], 99, JobNotFound),
    ):
        with pytest.raises(problem):
            await store.move([a_job(number).id for number in ids], a_job(target).id, facts)
    assert [await store.get(a_job(number).id) for number in range(1, 5)] == before
    (moved,) = await store.move([a_job(4).id], a_job(1).id, facts)
    assert (moved.not_before, moved.ready_at) == (later, later)
    assert await store.get(moved.id) == moved
    await store.claim(a_job(1).id, CLAIM)
    assert (await store.next_due(()) or moved).id == a_job(2).id


async def test_who_is_not_in_the_queue_keeps_his_place_while_others_move(store: JobStore) -> None:
    await added(store, *(a_job(number, site=f"{number}.org") for number in range(1, 8)))
    await store.change(a_job(2).id, Change(State.PAUSED))
    running = await store.claim(a_job(4).id, CLAIM)
    for _ in range(50):  # more often than there is room between two
        await store.move([a_job(6).id], a_job(5).id)
        await store.move([a_job(7).id], a_job(5).id)
    await store.change(a_job(2).id, Change(State.QUEUED))
    await store.change(running.id, Change(State.QUEUED, attempt=running.attempt))
    assert await order(store) == [1, 2, 3, 4, 6, 7, 5]


async def test_a_job_that_is_added_twice_at_once_is_one(store: JobStore) -> None:
    await added(store, a_job(1), a_job(2), a_job(1), a_job(3, priority=1))
    assert await order(store) == [3, 1, 2]


async def test_a_key_is_looked_up_without_adding_anything(open_store: OpenStore) -> None:
    store = await open_store()
    assert await store.replay("key", "digest") is None
    await store.add(NewJobs([a_job(1), a_job(2), a_job(3)], "key", "digest", note="a note"))
    await store.remove(a_job(1).id)
    await store.change(a_job(2).id, Change(State.CANCELED))
    await store.remove(a_job(2).id, expired=True)
    store = await open_store()
    found = await store.replay("key", "digest")
    assert found is not None
    assert (found.replayed, found.note) == (True, "a note")
    assert list(found.ids) == [a_job(number).id for number in (1, 2, 3)]
    assert [job.id for job in found.jobs] == [a_job(3).id]
    assert await store.add(NewJobs([a_job(4)], "key", "digest")) == found
    with pytest.raises(IdempotencyConflict):
        await store.replay("key", "other")


async def test_the_queue_changes_only_from_what_was_seen(store: JobStore) -> None:
    disk = QueueState(paused=True, reason="disk", since=utc_now())
    user = QueueState(paused=True, reason="user", since=utc_now())
    assert await store.set_queue_state(disk, expected=QueueState())
    assert await store.set_queue_state(user, expected=disk)
    for state in (disk, QueueState()):
        assert not await store.set_queue_state(state, expected=disk)
        assert await store.queue_state() == user
    tries = (store.set_queue_state(disk.model_copy(update={"reason": str(n)}), expected=user) for n in range(20))
    assert sum(await asyncio.gather(*tries)) == 1


async def test_a_job_that_is_skipped_hides_nobody(store: JobStore) -> None:
    await added(store, *(a_job(n) for n in range(100)), a_job(100, site="other.org"))
    skip = {a_job(0).id, a_job(1).id}
    assert (await store.next_due((), skip) or a_job(99)).id == a_job(2).id
    assert await store.next_due({"example.org"}, {a_job(100).id}) is None


async def test_what_is_due_is_so_by_the_clock_that_the_store_tells(store: JobStore) -> None:
    now = await store.now()
    await store.add(NewJobs([a_job(1, ready_at=now + timedelta(hours=1)), a_job(2, ready_at=now)]))
    due = await store.next_due(())
    assert due is not None
    assert due.id == a_job(2).id
    claimed = await store.claim(due.id, CLAIM)
    assert claimed.started_at is not None
    assert now <= claimed.started_at <= await store.now()
