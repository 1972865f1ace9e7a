"""A store that machines share and the volume of its files belong together: who sees another one must not touch it."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from media_downloader import reaper, volume
from media_downloader.bootstrap import bootstrap, bootstrap_runner, bootstrap_station, until_cluster_opens
from media_downloader.bootstrap.mode import Choice
from media_downloader.bus.memory import MemoryEventBus
from media_downloader.errors import ConfigurationError
from media_downloader.job_log import JobLogs
from media_downloader.jobs.state import State
from media_downloader.library import SHARED_PREFIX, Library
from media_downloader.library.volume import IN_USE_SECONDS
from media_downloader.ports import JobQuery
from media_downloader.reaper import Reaper
from media_downloader.settings import Settings
from media_downloader.stores.redis import RedisJobStore
from media_downloader.volume import check_volume, open_volume
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import a_job


class Member:
    """What a server or worker has of the store and the volume."""

    def __init__(self, url: str, downloads: Path) -> None:
        self.store = RedisJobStore(url)
        self.library = Library(downloads, prefix=SHARED_PREFIX)
        settings = Settings(downloads_dir=downloads)
        self.reaper = Reaper(settings, self.store, MemoryEventBus(), self.library, JobLogs(downloads / "logs"))

    async def open(self) -> None:
        """Do what a start does."""
        self.library.open()
        await self.store.open()
        await open_volume(self.store, self.library)

    async def check(self) -> None:
        """Do what a member does while it lives."""
        await check_volume(self.store, self.library)

    @property
    def id(self) -> str | None:
        assert self.library.volume is not None
        return self.library.volume.expected

    def marks(self) -> list[str]:
        assert self.library.volume is not None
        return self.library.volume.found()


StartMember = Callable[..., Awaitable[Member]]


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
async def member(redis_url: str, downloads: Path) -> AsyncIterator[StartMember]:
    """Start a member, of the first cluster and on its volume unless told otherwise."""
    started: list[Member] = []

    async def start(url: str = redis_url, folder: Path = downloads) -> Member:
        started.append(Member(url, folder))
        await started[-1].open()
        return started[-1]

    yield start
    for one in started:
        await one.store.close()


def unmount(folder: Path) -> Callable[[], None]:
    """Leave an empty folder in the place of the volume; what is returned mounts it again."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.mkdir()

    def mount() -> None:
        shutil.rmtree(folder)
        away.rename(folder)

    return mount


def leave_alone_for_long(folder: Path) -> None:
    """Let nobody have touched the volume for a while."""
    long_ago = time.time() - 2 * IN_USE_SECONDS
    for mark in (folder / ".media-downloader").glob("volume-*"):
        os.utime(mark, (long_ago, long_ago))


async def test_members_that_start_at_once_agree_on_one_volume(redis_url: str, downloads: Path) -> None:
    members = [Member(redis_url, downloads) for _ in range(8)]
    await asyncio.gather(*(one.open() for one in members))
    assert len({one.id for one in members}) == 1
    assert members[0].marks() == [members[0].id]
    for one in members:
        await one.check()
        await one.store.close()


async def test_a_folder_that_is_not_mounted_is_refused_by_name_and_stays_unmarked(
    member: StartMember, tmp_path: Path
) -> None:
    first = await member()
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(ConfigurationError) as refused:
        await member(folder=elsewhere)
    told = str(refused.value)
    assert "not the volume of the other members" in told
    assert str(first.id) in told
    assert f"{elsewhere} bears no mark" in told
    assert "DEL jobs:volume" in told
    assert not list(elsewhere.rglob("volume-*"))


async def test_the_volume_of_another_cluster_is_refused(
    member: StartMember, tmp_path: Path, own_redis: RedisServer
) -> None:
    first, second = await member(), await member(own_redis.url, tmp_path / "second")
    with pytest.raises(ConfigurationError) as refused:
        await member(folder=tmp_path / "second")
    assert str(first.id) in str(refused.value)
    assert str(second.id) in str(refused.value)
    await second.check()


async def test_a_volume_that_another_cluster_uses_is_not_taken_from_it(
    member: StartMember, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await member()
    monkeypatch.setattr(volume, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(ConfigurationError, match="in another Redis use the downloads folder"):
        await member(own_redis.url)
    await first.check()
    assert first.marks() == [first.id]


async def test_a_cluster_whose_volume_was_taken_while_it_was_down_finds_that_out(
    member: StartMember, downloads: Path, own_redis: RedisServer
) -> None:
    first = await member()
    leave_alone_for_long(downloads)
    second = await member(own_redis.url)
    assert second.marks() == [second.id]
    with pytest.raises(ConfigurationError, match=str(second.id)):
        await first.check()
    with pytest.raises(ConfigurationError, match=str(second.id)):
        await member()


async def test_a_volume_that_is_gone_stops_all_work_on_it_until_it_is_back(
    member: StartMember, downloads: Path
) -> None:
    one = await member()
    mount = unmount(downloads)
    with pytest.raises(ConfigurationError, match="bears no mark"):
        await one.check()
    assert not one.library.facts().exists
    with pytest.raises(OSError, match="not mounted"):
        one.library.prepare_workdir(a_job().id, None)
    mount()
    await one.check()
    assert one.library.facts().exists


async def test_members_name_the_volume_to_a_redis_that_lost_everything(
    member: StartMember, redis_server: RedisServer
) -> None:
    """One that starts in that moment waits for them, and takes no other id."""
    one, other = await member(), await member()
    await one.store.rebuild([])
    with redis_server.client() as client:
        client.flushall()
    starting = asyncio.create_task(member())
    while not one.store.is_new:
        await one.store.release_expired()
    await one.check()
    third = await starting
    await other.check()
    assert one.id == other.id == third.id
    assert one.marks() == [one.id]


async def test_a_lost_redis_and_a_volume_that_nobody_uses_begin_anew_together(
    member: StartMember, redis_server: RedisServer, downloads: Path
) -> None:
    before = await member()
    folder = before.library.prepare_workdir(a_job().id, None)
    before.library.write_job_file(folder, a_job(state=State.PAUSED, workdir=folder.name))
    await before.store.close()
    leave_alone_for_long(downloads)
    with redis_server.client() as client:
        client.flushall()
    after = await member()
    assert after.id != before.id
    await after.reaper.recover(alone=False)
    assert [job.state for job in (await after.store.find(JobQuery())).jobs] == [State.PAUSED]
    assert folder.exists()


async def test_what_a_lost_redis_knew_is_back_though_nobody_writes(
    member: StartMember, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "LEASE_LOOK_SECONDS", 0.05)
    one = await member()
    await one.reaper.recover(alone=False)
    folder = one.library.prepare_workdir(a_job().id, None)
    one.library.write_job_file(folder, a_job(state=State.PAUSED, workdir=folder.name))
    await one.reaper.start()
    with redis_server.client() as client:
        client.flushall()
        async with asyncio.timeout(10):
            while not client.exists(f"job:{a_job().id}"):  # noqa: ASYNC110 - another program looks, and writes nothing
                await asyncio.sleep(0.05)
    await one.reaper.stop()
    assert (await one.store.get(a_job().id)).state is State.PAUSED
    assert await one.store.volume() == one.id


async def test_who_sees_another_volume_finds_nothing_lost_and_no_orphan(
    member: StartMember, redis_server: RedisServer, downloads: Path, tmp_path: Path
) -> None:
    """What is rebuilt from an empty folder would make orphans of all work folders of the true volume."""
    right, wrong = await member(), await member()
    await right.store.rebuild([])
    folder = right.library.prepare_workdir(a_job().id, None)
    right.library.write_job_file(folder, a_job(state=State.PAUSED, workdir=folder.name))
    with redis_server.client() as client:
        client.flushall()
    mount = unmount(downloads)
    await wrong.store.release_expired()
    await wrong.reaper.cleanup(dry_run=False)
    await wrong.reaper.recover(alone=False)
    assert wrong.store.is_new
    mount()
    assert (await right.store.volume()) is None
    await right.store.release_expired()
    await right.reaper.cleanup(dry_run=False)
    assert [job.id for job in (await right.store.find(JobQuery())).jobs] == [a_job().id]
    assert folder.exists()
    # One that looks at another folder sweeps nothing there either.
    stray = tmp_path / "stray"
    wrong.library = Library(stray, prefix=SHARED_PREFIX)
    wrong.library.open()
    orphan = wrong.library.prepare_workdir(a_job(2).id, None)
    wrong.reaper = Reaper(
        Settings(downloads_dir=stray), wrong.store, MemoryEventBus(), wrong.library, JobLogs(stray / "logs")
    )
    await wrong.reaper.cleanup(dry_run=False)
    assert orphan.exists()


async def test_a_volume_that_was_replaced_on_purpose_is_accepted_and_looked_through(
    member: StartMember, redis_server: RedisServer, tmp_path: Path
) -> None:
    old = await member()
    await old.store.rebuild([a_job()])
    await old.store.close()
    with redis_server.client() as client:
        client.delete("jobs:volume")
    new = await member(folder=tmp_path / "new")
    assert new.id not in {None, old.id}
    # Work folders that were copied over are found before anything counts as an orphan.
    assert new.store.is_new
    assert [job.id for job in (await new.store.find(JobQuery())).jobs] == [a_job().id]


async def test_servers_and_workers_refuse_another_volume(
    member: StartMember, redis_server: RedisServer, tmp_path: Path
) -> None:
    await member()
    settings = Settings(
        downloads_dir=tmp_path / "elsewhere",
        data_dir=tmp_path / "data",
        redis_url=redis_server.tcp_url,  # type: ignore[arg-type]
    )
    with pytest.raises(ConfigurationError, match="not the volume"):
        await until_cluster_opens(settings)
    server = bootstrap(settings, Choice(celery=True))
    with pytest.raises(ConfigurationError, match="not the volume"):
        await server.start()
    process = bootstrap_runner(settings)
    with pytest.raises(ConfigurationError, match="not the volume"):
        await process.connect()
    station = bootstrap_station(settings)
    with pytest.raises(ConfigurationError, match="not the volume"):
        await station.start()
    await server.store.close()
    for backends in (process.backends, station.backends):
        await backends.store.close()


async def test_a_worker_that_loses_the_volume_says_so_and_runs_no_job(
    member: StartMember, redis_server: RedisServer, downloads: Path, tmp_path: Path
) -> None:
    await member()
    settings = Settings(
        downloads_dir=downloads,
        data_dir=tmp_path / "data",
        redis_url=redis_server.tcp_url,  # type: ignore[arg-type]
    )
    process, station = bootstrap_runner(settings), bootstrap_station(settings)
    await process.connect()
    await station.backends.store.open()
    station.backends.library.open()
    await open_volume(station.backends.store, station.backends.library)
    assert await station.problems() == ()
    unmount(downloads)
    assert "not the volume" in "".join(await station.problems())
    with pytest.raises(ConfigurationError, match="not the volume"):
        await process.connect()
    await process.backends.bus.close()
    for backends in (process.backends, station.backends):
        await backends.store.close()
