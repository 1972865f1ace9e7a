"""A playlist that is listed again, after a failure or a crash: the same entries are the same jobs."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.bootstrap import Container, bootstrap
from media_downloader.downloader.protocol import EntriesFound, Entry, Failed, Finished, encode
from media_downloader.jobs.model import FailureKind, Job, QueueState, utc_now
from media_downloader.jobs.state import State
from media_downloader.ports import Change, JobQuery, NewJobs
from media_downloader.runner import Runner, RunnerDeps
from media_downloader.settings import Settings
from tests.unit.downloader.test_zygote import ScriptedZygote

SITE = "http://93.184.216.34"


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    """Opened, with a store and a downloads folder; nothing runs but what a test runs."""
    made = bootstrap(Settings(downloads_dir=tmp_path / "downloads", data_dir=tmp_path / "data"))
    made.settings.data_dir.mkdir()
    made.library.open()
    await made.store.open()
    yield made
    await made.store.close()
    made.library.close()


@pytest.fixture
async def runner(container: Container, tmp_path: Path) -> AsyncIterator[Runner]:
    """A real runner, whose download processes say what the job's link says."""
    zygote = ScriptedZygote(tmp_path / "zygote", "tests.scripted_child")
    zygote.start()
    c = container
    deps = RunnerDeps(c.settings, c.store, c.bus, c.library, zygote, c.policy, c.space, c.job_logs, owner="test:")
    yield Runner(deps)
    await zygote.stop()


def script(*names: str, fails: bool = False, site_ids: bool = False) -> str:
    entries = tuple(
        Entry(index=number, url=f"{SITE}/{number if site_ids else name}", id=name if site_ids else None, title=name)
        for number, name in enumerate(names, start=1)
    )
    end = Failed(kind=FailureKind.UNAVAILABLE, message="cut") if fails else Finished(is_playlist=True)
    return f"raw {(encode(EntriesFound(entries=entries)) + encode(end)).hex()}"


async def listed_twice(container: Container, runner: Runner, first: str, then: str) -> list[Job]:
    """Return the children after a listing that failed and one that did not, with ``b`` canceled between them."""
    now = utc_now()
    store = container.store
    parent = Job(id=uuid4().hex, url=first, site="example.org", created_at=now, updated_at=now)
    await store.add(NewJobs([parent]))
    await runner.run(parent.id)
    assert (await store.get(parent.id)).state is State.ERROR
    query = JobQuery(parent_id=parent.id, sort="created_at", limit=500)
    for job in (await store.find(query)).jobs:
        if job.media.title == "b":
            await store.change(job.id, Change(State.CANCELED))
    await store.change(parent.id, Change(State.QUEUED, {"url": then}))
    await runner.run(parent.id)
    assert (await store.get(parent.id)).is_playlist
    return list((await store.find(query)).jobs)


@pytest.mark.parametrize("site_ids", [False, True])
async def test_a_list_that_has_changed_loses_and_doubles_no_entry(
    container: Container, runner: Runner, site_ids: bool
) -> None:
    first = script("a", "b", "c", fails=True, site_ids=site_ids)
    then = script("new", "a", "b", "c", "d", site_ids=site_ids)
    children = await listed_twice(container, runner, first, then)
    assert [job.media.title for job in children] == ["a", "b", "c", "new", "d"]
    assert [job.entry_index for job in children] == [1, 2, 3, 1, 5]
    assert [job.state for job in children] == [
        State.QUEUED,
        State.CANCELED,
        State.QUEUED,
        State.QUEUED,
        State.QUEUED,
    ]


async def test_an_entry_that_comes_up_twice_is_two_jobs_however_often_it_is_listed(
    container: Container, runner: Runner
) -> None:
    children = await listed_twice(container, runner, script("a", "a", "b", fails=True), script("a", "a", "b"))
    assert [job.media.title for job in children] == ["a", "a", "b"]


async def test_a_full_disk_does_not_overwrite_the_pause_of_a_user(container: Container, runner: Runner) -> None:
    user = QueueState(paused=True, reason="user", since=utc_now())
    await container.store.set_queue_state(user)
    await runner.pause_for_disk()
    assert await container.store.queue_state() == user
    await container.service.resume_queue()
    await runner.pause_for_disk()
    assert (await container.store.queue_state()).reason == "disk"
