"""`media-downloader migrate-jobs`: everything moves, whatever cuts it off, and nothing that is in use is touched."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from media_downloader.jobs.state import State
from media_downloader.ports import Change, Claim, NewJobs
from tests.cli.command import Finished, one_line, run, told
from tests.cli.migrations import PREFIXES, Installation, everything, job, listed
from tests.cluster import Cluster
from tests.program import ROOT, Program
from tests.redis_server import RedisServer

WAYS = [("sqlite", "redis"), ("redis", "sqlite")]
#: More than two pages.
MANY = 430
STEPS = [
    *(("begin", 1), ("copy", 1), ("copy", 2), ("copy", 3), ("arrange", 2), ("compare", 1), ("facts", 1)),
    *(("settle", 1), ("folders", 1), ("logs", 1), ("remove", 1), ("remove", 2), ("source", 1)),
]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes") as server:
        yield server


@pytest.fixture
def installed(place: Program, redis: RedisServer) -> Installation:
    return Installation(place, redis)


def move(installed: Installation, target: str, *more: str) -> Finished:
    return run(installed.place, "migrate-jobs", "--to", target, *more, environment=installed.environment)


def cut_off(installed: Installation, target: str, step: str, number: int) -> Finished:
    return subprocess.run(
        [sys.executable, "-m", "tests.migration_cut", target, step, str(number)],
        env=installed.place.environment() | installed.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def folders(installed: Installation) -> list[str]:
    return sorted(path.name for path in installed.place.downloads.glob("md*_*"))


@pytest.mark.parametrize("source, target", WAYS)
async def test_everything_moves_and_the_source_is_empty(installed: Installation, source: str, target: str) -> None:
    await installed.fill(source)
    async with installed.store(source) as store:
        before = await everything(store)
    printed = told(move(installed, target))
    assert f"Moved 14 jobs to {target}" in printed
    assert "2 work folders" in printed
    assert "The queue is paused" in printed
    async with installed.store(target) as store:
        assert await everything(store) == before
        assert (await store.get(job(3).id)).workdir == f"{PREFIXES[target]}{3:032x}_0123abcd"
        # What is added now comes last.
        (newest,) = (await store.add(NewJobs([job(99)]))).jobs
        assert (await listed(store, "position"))[-1].id == newest.id
    async with installed.store(source) as store:
        assert await listed(store, "created_at") == []
        assert not (await store.queue_state()).paused
    assert folders(installed) == [f"{PREFIXES[target]}{3:032x}_0123abcd", f"{PREFIXES[target]}{4:032x}_ffffffff"]


async def test_there_and_back_again_changes_nothing(installed: Installation) -> None:
    await installed.fill("sqlite")
    before_folders = folders(installed)
    async with installed.store("sqlite") as store:
        before = await everything(store)
    told(move(installed, "redis"))
    told(move(installed, "sqlite"))
    async with installed.store("sqlite") as store:
        assert await everything(store) == before
    assert folders(installed) == before_folders


async def test_jobs_that_the_target_has_stay_in_front(installed: Installation) -> None:
    async with installed.store("redis") as store:
        await store.add(NewJobs([job(500), job(501)]))
    async with installed.store("sqlite") as store:
        await store.add(NewJobs([job(1), job(2), job(3)]))
        await store.move([job(3).id], None)
    told(move(installed, "redis"))
    async with installed.store("redis") as store:
        assert [one.id for one in await listed(store, "position")] == [job(n).id for n in (500, 501, 3, 1, 2)]


@pytest.mark.chaos
@pytest.mark.parametrize("step, number", STEPS)
@pytest.mark.parametrize("source, target", WAYS)
async def test_a_move_that_was_killed_anywhere_is_finished_by_the_next(
    installed: Installation, source: str, target: str, step: str, number: int
) -> None:
    await installed.fill(source, MANY)
    async with installed.store(source) as store:
        before = await everything(store)
    killed = cut_off(installed, target, step, number)
    assert killed.returncode == -9, killed.stderr
    found = set()
    for name in (source, target):
        async with installed.store(name) as store:
            found |= {one.id for one in await listed(store, "created_at")}
    assert found == {one["id"] for one in before["jobs"]}
    refused = one_line(run(installed.place, "serve", environment={"MEDIA_DOWNLOADER_MODE": "local"}), 2)
    assert f"migrate-jobs --to {target}" in refused
    assert "Finish it first" in one_line(move(installed, source), 2)
    told(move(installed, target))
    async with installed.store(target) as store:
        assert await everything(store) == before
    async with installed.store(source) as store:
        assert await listed(store, "created_at") == []
    assert all(name.startswith(PREFIXES[target]) for name in folders(installed))


@pytest.mark.parametrize("source, target", WAYS)
async def test_an_entry_that_goes_on_while_its_list_is_paused_does_so_still(
    installed: Installation, source: str, target: str
) -> None:
    async with installed.store(source) as store:
        await store.add(NewJobs([job(1)]))
        await store.add(NewJobs([job(2, parent_id=job(1).id, entry_index=1)]))
        await store.change(job(1).id, Change(State.PAUSED))
        assert (await store.get(job(2).id)).state is State.QUEUED
    told(move(installed, target))
    async with installed.store(target) as store:
        assert [(await store.get(job(number).id)).state for number in (1, 2)] == [State.PAUSED, State.QUEUED]


@pytest.mark.parametrize("source, target", WAYS)
async def test_a_folder_without_its_jobs_record_stays_its_jobs(
    installed: Installation, source: str, target: str
) -> None:
    await installed.fill(source)
    told(move(installed, target))
    async with installed.store(target) as store:
        # A new one takes folders that do not tell their job out of the way.
        assert not store.is_new


async def test_a_target_that_lost_jobs_is_left_to_find_them(installed: Installation) -> None:
    await installed.fill("sqlite")
    installed.work_folder(f"{PREFIXES['redis']}{77:032x}_0123abcd")
    told(move(installed, "redis"))
    async with installed.store("redis") as store:
        assert store.is_new


@pytest.mark.parametrize("source, target", WAYS)
async def test_a_dry_run_tells_and_changes_nothing(installed: Installation, source: str, target: str) -> None:
    await installed.fill(source)
    before_folders = folders(installed)
    async with installed.store(source) as store:
        before = await everything(store)
    printed = told(move(installed, target, "--dry-run"))
    assert f"Would move 14 jobs to {target}: 1 canceled, 2 done" in printed
    async with installed.store(source) as store:
        assert await everything(store) == before
    async with installed.store(target) as store:
        assert await listed(store, "created_at") == []
    assert folders(installed) == before_folders


@pytest.mark.parametrize("source, target", WAYS)
async def test_five_thousand_jobs_take_less_than_a_minute(installed: Installation, source: str, target: str) -> None:
    async with installed.store(source) as store:
        for start in range(0, 5000, 1000):
            await store.add(NewJobs([job(start + number) for number in range(1000)]))
        await store.move([job(4999).id], None)
    began = time.monotonic()
    assert "Moved 5000 jobs" in told(move(installed, target))
    seconds = time.monotonic() - began
    assert seconds < 60, seconds
    async with installed.store(target) as store:
        assert (await listed(store, "position"))[0].id == job(4999).id


async def test_what_a_killed_server_was_running_goes_back_to_the_queue(installed: Installation) -> None:
    async with installed.store("sqlite") as store:
        await store.add(NewJobs([job(1)]))
        await store.claim(job(1).id, Claim("local:gone:1", 3600))
    assert "go back to the queue" in told(move(installed, "redis"))
    async with installed.store("redis") as store:
        assert (await store.get(job(1).id)).state is State.QUEUED


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_a_job_that_a_worker_holds_keeps_all_from_moving(installed: Installation) -> None:
    async with installed.store("redis") as store:
        await store.add(NewJobs([job(1)]))
        await store.claim(job(1).id, Claim("worker:1", 3600))
    for more in ((), ("--dry-run",)):
        assert "still held by a worker" in one_line(move(installed, "sqlite", *more), 2)
    assert not (installed.place.downloads / ".media-downloader" / "moving").exists()


def test_a_running_server_keeps_all_from_moving(installed: Installation) -> None:
    with installed.place:
        refused = one_line(move(installed, "redis"), 2)
    assert "stop it" in refused
    assert str(installed.place.downloads) in refused


def test_servers_and_workers_of_a_cluster_keep_all_from_moving(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Cluster(tmp_path_factory.mktemp("cluster")) as many:
        environment = {"REDIS_URL": many.redis.tcp_url}
        assert "Workers are running" in one_line(run(many.server, "migrate-jobs", "--to", "sqlite"), 2)
        many.workers[0].terminate()
        refused = one_line(run(many.server, "migrate-jobs", "--to", "sqlite", environment=environment), 2)
        assert "connected to Redis (from 127.0.0.1)" in refused


async def test_another_job_of_the_same_id_is_never_overwritten(installed: Installation) -> None:
    async with installed.store("redis") as store:
        await store.add(NewJobs([job(1, url="https://other.example/")]))
    async with installed.store("sqlite") as store:
        await store.add(NewJobs([job(1), job(2)]))
    assert job(1).id in one_line(move(installed, "redis"), 2)
    async with installed.store("redis") as store:
        assert [one.url for one in await listed(store, "created_at")] == ["https://other.example/"]
    assert not (installed.place.downloads / ".media-downloader" / "moving").exists()


@pytest.mark.parametrize("source, target", WAYS)
async def test_a_job_of_another_version_keeps_all_from_moving(
    installed: Installation, source: str, target: str
) -> None:
    async with installed.store(source) as store:
        await store.add(NewJobs([job(1), job(2)]))
    installed.make_unreadable(source, job(1).id)
    for more in ((), ("--dry-run",)):
        assert "1 jobs in" in one_line(move(installed, target, *more), 2)
    async with installed.store(source) as store:
        assert [one.id for one in await listed(store, "created_at")] == [job(2).id]
    async with installed.store(target) as store:
        assert await listed(store, "created_at") == []


@pytest.mark.parametrize("source, target", WAYS)
async def test_a_lost_store_must_find_its_jobs_before_they_move(
    installed: Installation, source: str, target: str
) -> None:
    async with installed.store(source) as store:
        await store.add(NewJobs([job(1)]))
    lost = f"{PREFIXES[source]}{7:032x}_0123abcd"
    installed.work_folder(lost)
    assert "does not know" in one_line(move(installed, target), 2)
    assert folders(installed) == [lost]
    assert not (installed.place.downloads / ".media-downloader" / "moving").exists()


def test_a_redis_that_is_away_is_told_and_servers_may_start(installed: Installation) -> None:
    (installed.place.data / "media-downloader.db").touch()
    installed.redis.kill()
    assert "Redis cannot be reached" in one_line(move(installed, "redis"), 2)
    with installed.place:
        assert installed.place.client.get("/health/live").status_code == 200
    installed.redis.start()


def test_an_installation_without_a_database_has_nothing_to_move(installed: Installation) -> None:
    assert "does not exist" in one_line(move(installed, "redis"), 2)
    assert not (installed.place.data / "media-downloader.db").exists()


def test_without_redis_nothing_can_be_moved(installed: Installation) -> None:
    assert "REDIS_URL is not set" in one_line(run(installed.place, "migrate-jobs", "--to", "sqlite"), 2)


def test_a_third_kind_of_store_is_refused(installed: Installation) -> None:
    refused = move(installed, "postgres")
    assert refused.returncode == 2
    assert "redis or sqlite" in refused.stderr
