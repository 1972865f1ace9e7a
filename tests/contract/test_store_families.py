"""What every JobStore promises of playlists: their children follow what was asked of them, and many change as one."""

from datetime import timedelta

import pytest

from media_downloader.errors import InvalidTransition, JobExpired
from media_downloader.jobs.model import Job, Media, Progress, utc_now
from media_downloader.jobs.state import Signal, State
from media_downloader.ports import Change, JobStore
from tests.contract.test_store import CLAIM, a_job, added


async def being_listed(store: JobStore) -> Job:
    """Return a parent that a runner holds."""
    await added(store, a_job(1))
    return await store.claim(a_job(1).id, CLAIM)


def a_child(number: int, **facts: object) -> Job:
    return a_job(number, parent_id=a_job(1).id, entry_index=number, **facts)


@pytest.mark.parametrize(
    "signal, state", [(None, State.QUEUED), (Signal.PAUSE, State.PAUSED), (Signal.CANCEL, State.CANCELED)]
)
async def test_what_was_asked_of_a_parent_holds_for_children_that_are_found_afterwards(
    store: JobStore, signal: Signal | None, state: State
) -> None:
    parent = await being_listed(store)
    before = await added(store, a_child(2))
    if signal is not None:
        await store.send_signal(parent.id, signal)
    after = await added(store, a_child(2), a_child(3), a_child(4))
    assert [child.state for child in (*before, *after)] == [State.QUEUED, State.QUEUED, state, state]
    assert all((child.finished_at is not None) == (state is State.CANCELED) for child in after[1:])
    counted = (await store.get(parent.id)).children
    assert counted == ({State.QUEUED: 3} if state is State.QUEUED else {State.QUEUED: 1, state: 2})
    if signal is not None:
        await store.change(parent.id, Change(State.QUEUED, attempt=parent.attempt))
        assert (await added(store, a_child(5)))[0].state is state


async def test_a_family_expires_when_all_of_it_has_ended(store: JobStore) -> None:
    parent = await being_listed(store)
    await added(store, a_child(2), a_child(3), a_job(9))
    # Its listing failed half-way; what was found goes on.
    await store.change(parent.id, Change(State.ERROR, attempt=parent.attempt))
    await store.change(a_job(9).id, Change(State.CANCELED))
    await store.change(a_child(2).id, Change(State.CANCELED))
    soon = utc_now() + timedelta(hours=1)
    for state in (State.PAUSED, State.QUEUED):
        await store.change(a_child(3).id, Change(state))
        assert [job.id for job in await store.finished_before(soon, 10)] == [a_job(9).id]
        with pytest.raises(InvalidTransition):
            await store.remove(parent.id, expired=True)
    moment = utc_now()
    await store.change(a_child(3).id, Change(State.CANCELED))
    assert [job.id for job in await store.finished_before(moment, 10)] == [a_job(9).id]
    assert {job.id for job in await store.finished_before(soon, 10)} == {parent.id, a_job(9).id}
    await store.remove(parent.id, expired=True)
    with pytest.raises(JobExpired):
        await store.get(a_child(3).id)


@pytest.mark.parametrize("signal, state", [(Signal.PAUSE, State.PAUSED), (Signal.CANCEL, State.CANCELED)])
async def test_becoming_a_playlist_swallows_no_wish(store: JobStore, signal: Signal, state: State) -> None:
    parent = await being_listed(store)
    await store.send_signal(parent.id, signal)
    facts = {"is_playlist": True, "media": Media(title="List"), "workdir": None}
    ended = await store.change(parent.id, Change(facts=facts, attempt=parent.attempt))
    assert (ended.state, ended.is_playlist, ended.signal, ended.owner) == (state, False, None, None)
    assert ended.media.title == "List"


async def test_many_jobs_change_in_one_step_each_as_it_would_alone(store: JobStore) -> None:
    parent = await being_listed(store)
    await added(store, *(a_child(number) for number in range(2, 8)))
    await store.change(parent.id, Change(facts={"is_playlist": True}, attempt=parent.attempt))
    running = await store.claim(a_child(2).id, CLAIM)
    await store.save_progress(running.id, running.attempt, Progress(downloaded_bytes=7))
    await store.change(a_child(3).id, Change(State.CANCELED))
    stale = Change(State.PAUSED, attempt=running.attempt + 1)
    pause = Change(State.PAUSED, {"notices": ("so",)}, expected={State.QUEUED})
    changed = await store.change_many(
        {
            a_child(4).id: pause,
            a_child(2).id: Signal.PAUSE,
            a_child(3).id: pause,  # ended meanwhile
            a_child(5).id: pause,
            a_child(6).id: Signal.PAUSE,  # nobody runs it
            a_child(7).id: stale,
            "f" * 32: pause,
        }
    )
    assert [(int(job.id, 16), job.state, job.signal) for job in changed] == [
        (4, State.PAUSED, None),
        (2, State.EXTRACTING, Signal.PAUSE),
        (5, State.PAUSED, None),
    ]
    assert [changed[0], changed[2]] == [await store.get(changed[0].id), await store.get(changed[2].id)]
    assert changed[0].notices == ("so",)
    assert await store.change_many({running.id: Signal.PAUSE}) == []
    (ended,) = await store.change_many({running.id: Change(State.PAUSED, attempt=running.attempt)})
    assert (ended.progress.downloaded_bytes, ended.signal, ended.owner) == (7, None, None)
    assert (await store.get(parent.id)).children == {State.PAUSED: 3, State.CANCELED: 1, State.QUEUED: 2}
    assert (await store.counts())[State.PAUSED] == 3


async def test_a_parent_whose_children_changed_as_one_is_where_they_are(store: JobStore) -> None:
    parent = await being_listed(store)
    await added(store, *(a_child(number) for number in range(2, 300)))
    await store.change(parent.id, Change(facts={"is_playlist": True}, attempt=parent.attempt))
    ids = [a_child(number).id for number in range(2, 300)]
    await store.change_many(dict.fromkeys(ids, Change(State.CANCELED)))
    ended = await store.get(parent.id)
    assert (ended.state, ended.children) == (State.CANCELED, {State.CANCELED: 298})
    assert ended.finished_at is not None
    later = utc_now() + timedelta(hours=1)
    await store.change_many(dict.fromkeys(ids, Change(State.QUEUED, {"ready_at": later, "priority": 3})))
    again = await store.get(parent.id)
    assert (again.state, again.finished_at) == (State.QUEUED, None)
    assert await store.next_due(()) is None
    found = (await store.get(ids[0]), await store.get(ids[1]))
    assert found[0].priority == 3
    assert found[0].position < found[1].position
