"""A flag that a person sets with redis-cli is obeyed like the button, whatever state the job is in."""

import asyncio
from pathlib import Path

import pytest

from media_downloader import reaper as reaping
from media_downloader.bus.memory import MemoryEventBus
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import Job, JobEvent, utc_now
from media_downloader.jobs.state import Signal, State
from media_downloader.library import SHARED_PREFIX, Library
from media_downloader.ports import Change, Envelope, NewJobs
from media_downloader.reaper import Reaper
from media_downloader.settings import Settings
from media_downloader.stores.redis import RedisJobStore
from media_downloader.volume import open_volume
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import CLAIM, a_job


def set_flag(server: RedisServer, number: int, signal: Signal) -> None:
    """Do what ``redis-cli SET`` does."""
    with server.client() as person:
        person.set(f"job:{a_job(number).id}:{signal}", "1")


def flags(server: RedisServer) -> list[str]:
    with server.client() as person:
        return [*person.scan_iter("job:*:pause"), *person.scan_iter("job:*:cancel")]


@pytest.mark.parametrize(
    "state, signal, becomes",
    [
        (State.QUEUED, Signal.PAUSE, State.PAUSED),
        (State.QUEUED, Signal.CANCEL, State.CANCELED),
        (State.PAUSED, Signal.CANCEL, State.CANCELED),
        (State.ERROR, Signal.CANCEL, State.CANCELED),
    ],
)
async def test_a_flag_beside_a_job_that_nobody_runs_is_obeyed(
    store: RedisJobStore, redis_server: RedisServer, state: State, signal: Signal, becomes: State
) -> None:
    await store.add(NewJobs([a_job(1, state=state, workdir="md_1"), a_job(2)]))
    set_flag(redis_server, 1, signal)
    ((before, after),) = await store.obey_flags()
    assert (before.state, before.workdir, after.state) == (state, "md_1", becomes)
    assert await store.get(a_job(1).id) == after
    assert (await store.get(a_job(2).id)).state is State.QUEUED
    assert flags(redis_server) == []
    assert await store.obey_flags() == []


@pytest.mark.parametrize(
    "state, signal",
    [(State.PAUSED, Signal.PAUSE), (State.ERROR, Signal.PAUSE), *((State.DONE, signal) for signal in Signal)],
)
async def test_a_flag_that_asks_for_nothing_goes(
    store: RedisJobStore, redis_server: RedisServer, state: State, signal: Signal
) -> None:
    job = a_job(1, state=state, finished_at=utc_now())
    await store.add(NewJobs([job]))
    set_flag(redis_server, 1, signal)
    # Of a job that is not known.
    set_flag(redis_server, 2, signal)
    assert await store.obey_flags() == []
    assert flags(redis_server) == []
    assert (await store.get(job.id)).state is state


async def test_the_flag_of_a_running_job_is_left_to_its_runner(store: RedisJobStore, redis_server: RedisServer) -> None:
    await store.add(NewJobs([a_job(1)]))
    await store.claim(a_job(1).id, CLAIM)
    set_flag(redis_server, 1, Signal.PAUSE)
    assert await store.obey_flags() == []
    assert await store.renew(a_job(1).id, 1, 30) is Signal.PAUSE
    await store.change(a_job(1).id, Change(State.QUEUED, attempt=1))
    assert (await store.get(a_job(1).id)).state is State.PAUSED


async def test_a_flag_beside_another_version_s_job_is_left(store: RedisJobStore, redis_server: RedisServer) -> None:
    await store.add(NewJobs([a_job(1)]))
    with redis_server.client() as other:
        other.hset(f"job:{a_job(1).id}", "format", "999")
    set_flag(redis_server, 1, Signal.PAUSE)
    assert await store.obey_flags() == []
    assert flags(redis_server) == [f"job:{a_job(1).id}:pause"]


async def test_a_flag_beside_a_playlist_is_for_all_of_its_entries(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    parent = a_job(1, is_playlist=True)
    children = [a_job(number, parent_id=parent.id) for number in range(2, 502)]
    await store.add(NewJobs([parent, *children]))
    running = await store.claim(children[0].id, CLAIM)
    set_flag(redis_server, 1, Signal.PAUSE)
    # An entry that moves in that moment takes the wish from nobody.
    await store.change(children[1].id, Change(State.CANCELED))
    changed = await store.obey_flags()
    assert {after.id for _, after in changed} == {parent.id, *(child.id for child in children)} - {children[1].id}
    assert changed[-1][1].children == {State.PAUSED: 498, State.EXTRACTING: 1, State.CANCELED: 1}
    assert await store.renew(running.id, 1, 30) is Signal.PAUSE
    assert flags(redis_server) == [f"job:{running.id}:pause"]
    assert (await store.get(parent.id)).signal is None
    set_flag(redis_server, 1, Signal.CANCEL)
    await store.obey_flags()
    assert (await store.get(parent.id)).children == {State.EXTRACTING: 1, State.CANCELED: 499}


async def test_flags_are_found_among_very_many_keys(store: RedisJobStore, redis_server: RedisServer) -> None:
    await store.add(NewJobs([a_job(1)]))
    with redis_server.client() as other:
        other.mset({f"theirs:{number}": "1" for number in range(120_000)})
    set_flag(redis_server, 1, Signal.PAUSE)
    rounds = [await store.obey_flags() for _ in range(4)]
    assert sum(len(found) for found in rounds) == 1


async def test_the_housekeeping_obeys_flags_tells_of_it_and_settles_the_folders(
    store: RedisJobStore, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "LEASE_LOOK_SECONDS", 0.05)
    bus, library = MemoryEventBus(), Library(tmp_path, prefix=SHARED_PREFIX)
    await bus.open()
    library.open()
    await open_volume(store, library)
    reaper = Reaper(Settings(downloads_dir=tmp_path), store, bus, library, JobLogs(tmp_path / "logs"))
    await reaper.recover(alone=False)
    gone, kept = (library.prepare_workdir(a_job(number).id, None) for number in (2, 3))
    parent = a_job(1, is_playlist=True)
    await store.add(NewJobs([parent, a_job(2, parent_id=parent.id, workdir=gone.name), a_job(3, workdir=kept.name)]))
    set_flag(redis_server, 2, Signal.CANCEL)
    set_flag(redis_server, 3, Signal.PAUSE)
    told: dict[str, Job] = {}
    news = bus.subscribe()
    await reaper.start()
    async with asyncio.timeout(10):
        while len(told) < 3:
            event = await anext(news)
            assert isinstance(event, Envelope)
            assert isinstance(event.event, JobEvent)
            told[event.event.job.id] = event.event.job
    await reaper.stop()
    states = [told[a_job(number).id].state for number in (1, 2, 3)]
    assert states == [State.CANCELED, State.CANCELED, State.PAUSED]
    assert not gone.exists()
    written = library.read_job_files()[kept.name]
    assert written is not None
    assert written.state is State.PAUSED
    await bus.close()
