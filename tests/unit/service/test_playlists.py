"""What is asked of a playlist is asked of its children, however many they are."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.errors import InvalidTransition
from media_downloader.jobs.model import DeletedEvent, Job, JobEvent, child_id, utc_now
from media_downloader.jobs.state import Action, State
from media_downloader.ports import Change, Claim, JobQuery, NewJobs, Reset
from media_downloader.service import JobPatch
from media_downloader.settings import Settings

CHILDREN = 1000


@pytest.fixture
async def container(tmp_path: Path) -> Container:
    """Opened, not started: nothing runs the jobs."""
    made = bootstrap(Settings(downloads_dir=tmp_path / "downloads", data_dir=tmp_path / "data"))
    made.settings.data_dir.mkdir()
    made.library.open()
    await made.store.open()
    return made


def a_job(**facts: object) -> Job:
    now = utc_now()
    base = {"id": uuid4().hex, "url": "https://example.org/list", "site": "example.org"}
    return Job.model_validate({**base, "created_at": now, "updated_at": now, **facts})


async def a_playlist(container: Container, children: int) -> Job:
    """Return an expanded playlist whose children wait."""
    parent = a_job()
    store = container.store
    await store.add(NewJobs([parent]))
    await store.claim(parent.id, Claim("test", 600))
    entries = [
        a_job(id=child_id(parent.id, str(n)), parent_id=parent.id, entry_index=n) for n in range(1, children + 1)
    ]
    await store.add(NewJobs(entries))
    return await store.change(parent.id, Change(facts={"is_playlist": True}))


async def test_a_thousand_children_are_paused_resumed_and_canceled_as_one(container: Container) -> None:
    parent = await a_playlist(container, CHILDREN)
    news = container.bus.subscribe()
    for action, state in ((Action.PAUSE, "paused"), (Action.RESUME, "queued"), (Action.CANCEL, "canceled")):
        view = await container.service.act(parent.id, action)
        assert view.job.state == state
        assert view.job.children == {State(state): CHILDREN}
    # One event for each child and one for the parent: not one for the parent with every child.
    told: Counter[str] = Counter()
    while sum(told.values()) < 3 * (CHILDREN + 1):
        envelope = await asyncio.wait_for(anext(news), 5)
        assert not isinstance(envelope, Reset)
        assert isinstance(envelope.event, JobEvent)
        told[envelope.event.job.id] += 1
    assert set(told.values()) == {3}
    await container.store.close()


async def test_an_action_that_fits_no_child_is_refused(container: Container) -> None:
    parent = await a_playlist(container, 2)
    for action in (Action.RESUME, Action.RETRY):
        # They wait already.
        assert (await container.service.act(parent.id, action)).job.children == {State.QUEUED: 2}
    await container.service.act(parent.id, Action.CANCEL)
    assert (await container.service.act(parent.id, Action.CANCEL)).job.state == "canceled"
    for action in (Action.PAUSE, Action.RESUME):
        with pytest.raises(InvalidTransition):
            await container.service.act(parent.id, action)
    await container.store.close()


@pytest.mark.parametrize("action, state", [(Action.PAUSE, State.PAUSED), (Action.CANCEL, State.CANCELED)])
async def test_what_is_asked_while_a_playlist_is_listed_holds_for_all_of_it(
    container: Container, action: Action, state: State
) -> None:
    store = container.store
    parent = a_job()
    await store.add(NewJobs([parent]))
    held = await store.claim(parent.id, Claim("test", 600))
    entries = [a_job(parent_id=parent.id, entry_index=n) for n in range(1, 5)]
    await store.add(NewJobs(entries[:2]))
    running = await store.claim(entries[0].id, Claim("test", 600))
    asked = await container.service.act(parent.id, action)
    assert asked.job.children == {State.EXTRACTING: 1, state: 1}
    assert (await store.get(running.id)).signal == action
    await store.add(NewJobs(entries[2:]))
    ended = await store.change(parent.id, Change(facts={"is_playlist": True}, attempt=held.attempt))
    await store.change(running.id, Change(State.QUEUED, attempt=running.attempt))
    assert ended.state is state
    assert (await store.get(parent.id)).children == {state: 4}
    again = await container.service.act(parent.id, Action.RESUME if state is State.PAUSED else Action.RETRY)
    assert (again.job.state, again.job.children) == (State.QUEUED, {State.QUEUED: 4})
    await store.close()


async def test_what_a_failed_listing_left_behind_can_still_be_stopped(container: Container) -> None:
    parent = a_job()
    store = container.store
    await store.add(NewJobs([parent]))
    await store.claim(parent.id, Claim("test", 600))
    await store.add(NewJobs([a_job(parent_id=parent.id), a_job(parent_id=parent.id)]))
    await store.change(parent.id, Change(State.ERROR))
    assert Action.PAUSE in (await container.service.get(parent.id)).allowed_actions
    paused = await container.service.act(parent.id, Action.PAUSE)
    assert (paused.job.state, paused.job.children) == (State.ERROR, {State.PAUSED: 2})
    canceled = await container.service.act(parent.id, Action.CANCEL)
    assert (canceled.job.state, canceled.job.children) == (State.CANCELED, {State.CANCELED: 2})
    with pytest.raises(InvalidTransition):
        await container.service.act(parent.id, Action.PAUSE)
    await store.close()


async def test_nothing_can_be_asked_of_a_playlist_that_is_done(container: Container) -> None:
    parent = await a_playlist(container, 2)
    for number in (1, 2):
        job = await container.store.claim(child_id(parent.id, str(number)), Claim("test", 600))
        await container.store.change(job.id, Change(State.DONE))
    for action in Action:
        with pytest.raises(InvalidTransition):
            await container.service.act(parent.id, action)
    await container.store.close()


async def test_a_pause_that_is_being_obeyed_is_no_resume(container: Container) -> None:
    parent = await a_playlist(container, 1)
    await container.store.claim(child_id(parent.id, "1"), Claim("test", 600))
    await container.service.act(parent.id, Action.RESUME)
    for _ in range(2):
        await container.service.act(parent.id, Action.PAUSE)
    with pytest.raises(InvalidTransition):
        await container.service.act(parent.id, Action.RESUME)
    await container.store.close()


async def test_a_retry_leaves_alone_what_the_user_gave_up(container: Container) -> None:
    parent = await a_playlist(container, 3)
    await container.service.act(child_id(parent.id, "1"), Action.CANCEL)
    await container.store.change(child_id(parent.id, "2"), Change(State.ERROR))
    retried = await container.service.act(parent.id, Action.RETRY)
    assert retried.job.children == {State.CANCELED: 1, State.QUEUED: 2}
    # Nothing failed: there is nothing else that a retry could mean.
    retried = await container.service.act(parent.id, Action.RETRY)
    assert retried.job.children == {State.QUEUED: 3}
    await container.store.close()


async def test_the_work_folders_of_canceled_children_go(container: Container) -> None:
    parent = await a_playlist(container, 2)
    folders = []
    for number in (1, 2):
        workdir = container.library.prepare_workdir(child_id(parent.id, str(number)), None)
        await container.store.change(child_id(parent.id, str(number)), Change(facts={"workdir": workdir.name}))
        folders.append(workdir)
    await container.service.act(parent.id, Action.CANCEL)
    assert not any(folder.exists() for folder in folders)
    assert await container.store.workdirs() == {}
    await container.store.close()


async def waiting(container: Container) -> list[int | None]:
    """Return the places of the queue: an entry's number, or None for another job."""
    query = JobQuery(states=(State.QUEUED,), sort="position", limit=500)
    return [job.entry_index for job in (await container.store.find(query)).jobs if not job.is_playlist]


async def test_a_change_of_a_playlist_is_passed_to_its_children_that_wait(container: Container) -> None:
    store = container.store
    others = [a_job() for _ in range(2)]
    await store.add(NewJobs(others))
    parent = await a_playlist(container, 4)
    await store.claim(child_id(parent.id, "1"), Claim("test", 600))
    await store.change(child_id(parent.id, "2"), Change(State.PAUSED))
    await container.service.update(parent.id, JobPatch(before=others[1].id))
    assert await waiting(container) == [None, 3, 4, None]
    await container.service.update(others[1].id, JobPatch(before=parent.id))
    assert await waiting(container) == [None, None, 3, 4]
    await container.service.update(parent.id, JobPatch(to_front=True))
    assert await waiting(container) == [3, 4, None, None]
    later = utc_now() + timedelta(hours=1)
    view = await container.service.update(parent.id, JobPatch(priority=-1, not_before=later))
    assert (view.job.priority, await waiting(container)) == (-1, [None, None, 3, 4])
    found = (await store.find(JobQuery(parent_id=parent.id, sort="created_at"))).jobs
    assert [(job.priority, job.not_before) for job in found] == [(0, None), *[(-1, later)] * 3]
    await store.close()


async def test_a_change_that_fits_no_child_is_refused_and_changes_nothing(container: Container) -> None:
    parent = await a_playlist(container, 1)
    await container.service.act(parent.id, Action.CANCEL)
    before = await container.store.get(parent.id)
    for patch in (JobPatch(to_front=True), JobPatch(priority=3, not_before=utc_now() + timedelta(hours=1))):
        with pytest.raises(InvalidTransition):
            await container.service.update(parent.id, patch)
    assert await container.store.get(parent.id) == before
    await container.store.close()


async def test_a_removed_child_is_told_of_and_so_is_what_becomes_of_its_parent(container: Container) -> None:
    parent = await a_playlist(container, 2)
    news = container.bus.subscribe()
    await container.service.remove(child_id(parent.id, "1"), files=False)
    found = []
    while not (found and isinstance(found[-1], JobEvent) and found[-1].job.children == {State.QUEUED: 1}):
        envelope = await asyncio.wait_for(anext(news), 5)
        assert not isinstance(envelope, Reset)
        found.append(envelope.event)
    assert DeletedEvent(id=child_id(parent.id, "1")) in found
    await container.store.close()
