"""The database's file: a newer version's is refused, a corrupt one is set aside, a second server is told."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.errors import JobUnreadable, StoreTooNew, StoreUnavailable
from media_downloader.jobs.model import Job, utc_now
from media_downloader.jobs.state import State
from media_downloader.ports import Change, JobQuery, NewJobs
from media_downloader.stores.sqlite import SqliteJobStore


async def filled(path: Path) -> SqliteJobStore:
    store = SqliteJobStore(path)
    await store.open()
    now = utc_now()
    job = Job(id="1" * 32, url="https://example.org", site="example.org", created_at=now, updated_at=now)
    await store.add(NewJobs([job]))
    return store


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await (await filled(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    store = SqliteJobStore(path)
    with pytest.raises(StoreTooNew):
        await store.open()
    await store.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["header", "middle", "empty-text"])
async def test_a_corrupt_file_is_set_aside_and_said_so(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.db"
    await (await filled(path)).close()
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:100] = b"\xff" * 100
    elif damage == "middle":
        data[4096:] = b"\xff" * (len(data) - 4096)
    else:
        data = bytearray(b"this is no database" * 100)
    path.write_bytes(data)
    store = SqliteJobStore(path)
    await store.open()
    assert store.is_new
    assert store.set_aside is not None
    assert store.set_aside.read_bytes() == bytes(data)
    assert (await store.find(JobQuery())).jobs == []
    await store.close()


async def test_a_second_server_is_told_that_the_file_is_in_use(tmp_path: Path) -> None:
    first = await filled(tmp_path / "jobs.db")
    second = SqliteJobStore(tmp_path / "jobs.db")
    with pytest.raises(StoreUnavailable, match="Another server"):
        await second.open()
    await first.close()
    await second.open()
    assert len((await second.find(JobQuery())).jobs) == 1
    await second.close()


async def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    store = await filled(tmp_path / "jobs.db")
    assert (tmp_path / "jobs.db").stat().st_mode & 0o077 == 0
    await store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "document = json_set(document, '$.of_tomorrow', 1)",
        "document = json_set(document, '$.state', 'dreaming')",
        "document = '{'",
        "progress = '{\"of_tomorrow\": 1}'",
    ],
)
async def test_a_job_of_another_shape_is_left_alone_and_in_nobodys_way(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.db"
    store = await filled(path)
    now = utc_now()
    sound = Job(id="2" * 32, url="https://example.org", site="example.org", created_at=now, updated_at=now)
    await store.add(NewJobs([sound]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE jobs SET {damage} WHERE id = ?", ("1" * 32,))
        before = connection.execute("SELECT * FROM jobs WHERE id = ?", ("1" * 32,)).fetchone()
    for _ in range(2):
        assert [job.id for job in (await store.find(JobQuery())).jobs] == [sound.id]
        due = await store.next_due(())
        assert due is not None
        assert due.id == sound.id
        for ask in (store.get("1" * 32), store.change("1" * 32, Change(State.PAUSED)), store.remove("1" * 32)):
            with pytest.raises(JobUnreadable):
                await ask
        await store.close()
        await store.open()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM jobs WHERE id = ?", ("1" * 32,)).fetchone() == before
    await store.close()


async def test_a_job_of_another_shape_is_told_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = await filled(tmp_path / "jobs.db")
    job_id = uuid4().hex
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
        connection.execute("UPDATE jobs SET id = ?, document = '{}'", (job_id,))
    for _ in range(3):
        assert (await store.find(JobQuery())).jobs == []
    told = capsys.readouterr().out
    assert told.count(job_id) == 1
    await store.close()


async def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path / "nowhere" / "jobs.db")
    with pytest.raises(StoreUnavailable):
        await store.open()


async def test_a_log_without_its_database_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    """SQLite would write its pages into whatever file stands beside it."""
    store = await filled(tmp_path / "jobs.db")
    log = (tmp_path / "jobs.db-wal").read_bytes()
    await store.close()
    (tmp_path / "jobs.db").unlink()
    (tmp_path / "jobs.db-wal").write_bytes(log)
    store = SqliteJobStore(tmp_path / "jobs.db")
    await store.open()
    assert store.is_new
    assert (await store.find(JobQuery())).jobs == []
    assert store.set_aside is not None
    assert store.set_aside.with_name(f"{store.set_aside.name}-wal").read_bytes() == log
    await store.close()
