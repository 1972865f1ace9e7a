"""What is asked of a playlist is asked of its children, however many they are."""

import asyncio
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.errors import InvalidTransition
from media_downloader.jobs.model import DeletedEvent, Job, JobEvent, child_id, utc_now
from media_downloader.jobs.state import Action, State
from media_downloader.ports import Change, Claim, NewJobs, Reset
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
    entries = [a_job(id=child_id(parent.id, n), parent_id=parent.id, entry_index=n) for n in range(1, children + 1)]
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


async def test_a_removed_child_is_told_of_and_so_is_what_becomes_of_its_parent(container: Container) -> None:
    parent = await a_playlist(container, 2)
    news = container.bus.subscribe()
    await container.service.remove(child_id(parent.id, 1), files=False)
    found = []
    while not (found and isinstance(found[-1], JobEvent) and found[-1].job.children == {State.QUEUED: 1}):
        envelope = await asyncio.wait_for(anext(news), 5)
        assert not isinstance(envelope, Reset)
        found.append(envelope.event)
    assert DeletedEvent(id=child_id(parent.id, 1)) in found
    await container.store.close()
