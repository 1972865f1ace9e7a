"""What is on disk is an orphan only when it is proven that the store has nothing to learn from it."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from media_downloader import reaper as reaping
from media_downloader.bus.memory import MemoryEventBus
from media_downloader.errors import JobUnreadable, StoreUnavailable
from media_downloader.job_log import JobLogs
from media_downloader.jobs.model import DeletedEvent, Job, utc_now
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import Signal, State
from media_downloader.library import Library
from media_downloader.ports import Change, Claim, Envelope, JobQuery, NewJobs
from media_downloader.reaper import Reaper
from media_downloader.settings import Settings
from media_downloader.stores.sqlite import SqliteJobStore

FIRST, SECOND, THIRD = ("a" * 32, "b" * 32, "c" * 32)


class House:
    """A reaper with all that it keeps, on a disk of its own; ``restart`` is what a kill and a start do."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.settings = Settings(downloads_dir=folder / "downloads", data_dir=self.data, **settings)
        self.logs = JobLogs(self.data / "job-logs")
        self.bus = MemoryEventBus()
        self.library = Library(folder / "downloads")
        self.library.prepare()
        self.open()

    def open(self) -> None:
        self.store = SqliteJobStore(self.data / "jobs.db")
        self.reaper = Reaper(self.settings, self.store, self.bus, self.library, self.logs)

    async def restart(self, *, lose_store: bool = False) -> None:
        await self.store.close()
        if lose_store:
            for path in self.data.glob("jobs.db*"):
                path.unlink()
        self.open()
        await self.store.open()

    async def recover(self) -> None:
        await self.reaper.recover(alone=True)

    async def jobs(self) -> dict[str, Job]:
        return {job.id: job for job in (await self.store.find(JobQuery(limit=500))).jobs}

    def work_folder(self, job: Job, content: str = "bytes") -> str:
        """Make a work folder that tells the job, as the runner does."""
        folder = self.library.prepare_workdir(job.id, None)
        (folder / "part").write_text(content)
        self.library.write_job_file(folder, job.model_copy(update={"workdir": folder.name}))
        return folder.name


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path, job_ttl=1)
    await made.store.open()
    await made.bus.open()
    yield made
    await made.bus.close()
    await made.store.close()


def a_job(job_id: str, **facts: Any) -> Job:
    now = utc_now()
    return Job(id=job_id, url="https://example.org/v", site="example.org", created_at=now, updated_at=now, **facts)


async def test_a_crash_between_a_new_store_and_the_rebuild_loses_no_work_folder(house: House) -> None:
    folder = house.work_folder(a_job(FIRST))
    # The database is made, and before anything is rebuilt the program is killed; twice.
    await house.restart(lose_store=True)
    await house.restart()
    await house.restart()
    assert house.store.is_new
    await house.recover()
    assert house.library.list_workdirs() == {folder: FIRST}
    assert (await house.jobs())[FIRST].workdir == folder
    await house.restart()
    assert not house.store.is_new


async def test_a_database_file_that_is_empty_counts_as_a_new_one(house: House) -> None:
    """It is what a kill between the file's making and its first table leaves."""
    folder = house.work_folder(a_job(FIRST))
    await house.store.close()
    for path in house.data.glob("jobs.db*"):
        path.unlink()
    (house.data / "jobs.db").touch()
    await house.restart()
    await house.recover()
    assert (await house.jobs())[FIRST].workdir == folder


async def test_no_sweep_comes_before_the_rebuild(house: House) -> None:
    """Neither the loop's, nor one that a user asks for, nor a dry run, which changes nothing."""
    folder = house.work_folder(a_job(FIRST))
    await house.restart(lose_store=True)
    report = await house.reaper.cleanup(dry_run=True)
    assert report.work_folders == []
    assert await house.jobs() == {}
    await house.reaper.cleanup(dry_run=False)
    assert house.library.list_workdirs() == {folder: FIRST}
    assert set(await house.jobs()) == {FIRST}


async def test_a_rebuild_is_done_once_and_a_work_folder_of_no_job_is_then_an_orphan(house: House) -> None:
    await house.restart(lose_store=True)
    await house.recover()
    house.work_folder(a_job(FIRST))
    await house.restart()
    await house.recover()
    assert house.library.list_workdirs() == {}
    assert await house.jobs() == {}


@pytest.mark.parametrize("told", ["", "{", '{"id": "x"}', None])
async def test_a_work_folder_that_does_not_tell_its_job_is_kept_when_the_store_is_lost(
    house: House, told: str | None
) -> None:
    name = house.work_folder(a_job(FIRST), "precious")
    record = house.library.work_dir / name / "job.json"
    record.unlink() if told is None else record.write_text(told)
    empty = house.library.prepare_workdir(SECOND, None)
    await house.restart(lose_store=True)
    await house.recover()
    await house.restart()
    await house.recover()
    kept = list(house.library.downloads_dir.rglob("part"))
    assert [path.read_text() for path in kept] == ["precious"]
    assert not empty.exists()
    assert house.library.list_workdirs() == {}


async def test_what_cannot_be_looked_at_is_neither_swept_nor_taken_for_rebuilt(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = house.work_folder(a_job(FIRST))
    (house.library.work_dir / name / "job.json").unlink()
    await house.restart(lose_store=True)
    lost = house.library.downloads_dir / ".media-downloader" / "lost"
    lost.write_text("in the way")
    await house.recover()
    assert house.library.list_workdirs() == {name: FIRST}
    assert house.store.is_new
    lost.unlink()
    await house.recover()
    assert [path.name[: len(name)] for path in lost.iterdir()] == [name]


@pytest.mark.parametrize(
    "last, came_back",
    [
        ({"state": State.EXTRACTING}, State.QUEUED),
        ({"state": State.DOWNLOADING, "signal": Signal.PAUSE}, State.PAUSED),
        ({"state": State.DOWNLOADING, "signal": Signal.CANCEL}, None),
        ({"state": State.PAUSED}, State.PAUSED),
        ({"state": State.QUEUED}, State.QUEUED),
        ({"state": State.ERROR}, State.ERROR),
        ({"state": State.CANCELED}, None),
    ],
)
async def test_a_rebuilt_job_is_what_it_was_last_or_less(
    house: House, last: dict[str, Any], came_back: State | None
) -> None:
    job = a_job(
        FIRST,
        **last,
        options=JobOptions(folder="films"),
        priority=7,
        attempt=4,
        crashes=2,
        retries=3,
        owner="local:x",
        lease_until=utc_now() + timedelta(hours=1),
        not_before=utc_now(),
    )
    house.work_folder(job)
    await house.restart(lose_store=True)
    await house.recover()
    jobs = await house.jobs()
    if came_back is None:
        assert jobs == {}
        assert house.library.list_workdirs() == {}
        return
    back = jobs[FIRST]
    assert back.state is came_back
    assert (back.owner, back.lease_until, back.signal) == (None, None, None)
    same = ("options", "priority", "crashes", "retries", "not_before", "created_at")
    assert [getattr(back, name) for name in same] == [getattr(job, name) for name in same]
    # The number of an attempt that may still run somewhere is never given out again.
    assert back.attempt == (5 if last["state"] in {State.EXTRACTING, State.DOWNLOADING} else 4)


async def test_rebuilt_jobs_keep_their_order_and_two_folders_of_one_job_become_one(house: House) -> None:
    now = utc_now()
    house.work_folder(a_job(FIRST, position=3))
    house.work_folder(a_job(SECOND, position=1))
    house.work_folder(a_job(THIRD, position=2, priority=1).model_copy(update={"updated_at": now + timedelta(1)}))
    newer = house.library.work_dir / f"mdjob_{THIRD}_00000000"
    newer.mkdir()
    house.library.write_job_file(newer, a_job(THIRD, crashes=1).model_copy(update={"updated_at": now}))
    await house.restart(lose_store=True)
    await house.recover()
    order = (await house.store.find(JobQuery(sort="position"))).jobs
    assert [job.id for job in order] == [THIRD, SECOND, FIRST]
    assert order[0].crashes == 0
    assert order[0].workdir != newer.name


async def test_entries_keep_a_playlist_that_is_rebuilt_and_lose_one_that_is_not(house: House) -> None:
    house.work_folder(a_job(FIRST, children={State.QUEUED: 40}))
    house.work_folder(a_job(SECOND, parent_id=FIRST, entry_index=1))
    house.work_folder(a_job(THIRD, parent_id="f" * 32, entry_index=9))
    await house.restart(lose_store=True)
    await house.recover()
    jobs = await house.jobs()
    assert (jobs[SECOND].parent_id, jobs[SECOND].entry_index) == (FIRST, 1)
    assert jobs[FIRST].children == {State.QUEUED: 1}
    assert (jobs[THIRD].parent_id, jobs[THIRD].entry_index) == (None, None)


async def test_a_job_that_lost_its_runner_is_written_down_in_its_work_folder(house: House) -> None:
    await house.store.add(NewJobs([a_job(FIRST)]))
    claimed = await house.store.claim(FIRST, Claim("local:gone", 30))
    name = house.work_folder(claimed)
    await house.store.change(FIRST, Change(facts={"workdir": name}, attempt=1))
    await house.store.send_signal(FIRST, Signal.PAUSE)
    await house.restart()
    await house.recover()
    told = house.library.read_job_files()[name]
    assert told is not None
    assert told.state is State.PAUSED


async def an_old_playlist(house: House) -> tuple[Job, list[Job]]:
    parent = a_job(FIRST, is_playlist=True, state=State.DONE)
    await house.store.add(NewJobs([parent]))
    long_ago = utc_now() - timedelta(days=1)
    children = [
        a_job(f"{number:032x}", parent_id=FIRST, entry_index=number, state=State.DONE, finished_at=long_ago)
        for number in range(1, 451)
    ]
    await house.store.add(NewJobs(children))
    await house.store.change(FIRST, Change(facts={"finished_at": long_ago}))
    for child in children[:3]:
        house.logs.append(child.id, ["a line"])
    house.logs.append(FIRST, ["a line"])
    return parent, children


async def test_an_expired_playlist_leaves_no_log_and_tells_of_every_entry(house: House) -> None:
    _, children = await an_old_playlist(house)
    told: list[str] = []

    async def listen() -> None:
        async for envelope in house.bus.subscribe():
            if isinstance(envelope, Envelope) and isinstance(envelope.event, DeletedEvent):
                told.append(envelope.event.id)
                if len(told) == len(children) + 1:
                    return

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    expected = sorted([FIRST, *(child.id for child in children)])
    assert sorted((await house.reaper.cleanup(dry_run=True)).expired_jobs) == expected
    assert len(house.logs.job_ids()) == 4
    assert sorted((await house.reaper.cleanup(dry_run=False)).expired_jobs) == expected
    await asyncio.wait_for(listening, 10)
    assert sorted(told) == expected
    assert told[-1] == FIRST
    assert house.logs.job_ids() == []
    assert await house.jobs() == {}


async def test_all_that_is_to_expire_leaves_in_one_round_however_much_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "EXPIRE_AT_ONCE", 10)
    house = House(tmp_path, job_ttl=1, cleanup_interval_seconds=0.01)
    await house.store.open()
    await house.bus.open()
    old = {"state": State.DONE, "finished_at": utc_now() - timedelta(days=1)}
    await house.store.rebuild([a_job(f"{number:032x}", **old) for number in range(45)])
    with structlog.testing.capture_logs() as logs:
        await house.reaper.start()
        async with asyncio.timeout(20):
            while not any(entry["event"] == "Kept house" for entry in logs):  # noqa: ASYNC110 - a line of a log
                await asyncio.sleep(0.01)
        await house.reaper.stop()
    kept = next(entry for entry in logs if entry["event"] == "Kept house")
    assert kept["expired_jobs"] == 45
    assert await house.jobs() == {}
    await house.bus.close()
    await house.store.close()


async def test_logs_of_jobs_that_are_not_known_go_with_a_cleanup_and_stay_in_a_dry_run(house: House) -> None:
    await house.store.rebuild([a_job(FIRST)])
    for job_id in (FIRST, SECOND):
        house.logs.append(job_id, ["a line"])
    (house.data / "job-logs" / f"{THIRD}.new").write_text("half a rotation")
    await house.reaper.cleanup(dry_run=True)
    assert house.logs.job_ids() == [FIRST, SECOND, THIRD]
    await house.reaper.cleanup(dry_run=False)
    assert house.logs.job_ids() == [FIRST]


async def test_logs_of_a_lost_store_are_kept_until_it_is_rebuilt(house: House) -> None:
    (house.library.downloads_dir / ".media-downloader" / "lost").write_text("in the way")
    (house.library.work_dir / house.work_folder(a_job(FIRST)) / "job.json").unlink()
    house.logs.append(SECOND, ["a line"])
    await house.reaper.cleanup(dry_run=False)
    assert house.store.is_new
    assert house.logs.job_ids() == [SECOND]


async def test_the_log_of_a_job_that_another_version_wrote_is_kept(house: House) -> None:
    await house.store.rebuild([a_job(FIRST)])
    house.logs.append(FIRST, ["a line"])
    with contextlib.closing(sqlite3.connect(house.data / "jobs.db")) as other:
        other.execute("UPDATE jobs SET document = json_set(document, '$.of_tomorrow', 1)")
        other.commit()
    with pytest.raises(JobUnreadable):
        await house.store.get(FIRST)
    await house.reaper.cleanup(dry_run=False)
    assert house.logs.job_ids() == [FIRST]


async def test_a_store_that_cannot_be_asked_costs_no_log(house: House) -> None:
    await house.store.rebuild([])
    house.logs.append(FIRST, ["a line"])
    await house.store.close()
    with pytest.raises(StoreUnavailable):
        await house.reaper.cleanup(dry_run=False)
    assert house.logs.job_ids() == [FIRST]
