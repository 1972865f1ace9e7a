"""The thread that writes outlives what goes wrong with a write."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from media_downloader.errors import StoreUnavailable
from media_downloader.stores.sqlite_writer import Writer


async def test_a_database_that_cannot_be_opened_is_told_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "jobs.db"
    writer = Writer(lambda: sqlite3.connect(path, isolation_level=None), lambda _: None)
    writer.start()
    async with asyncio.timeout(10):
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await writer.write(lambda connection: connection.execute("SELECT 1").fetchone())
        path.parent.mkdir()
        assert await writer.write(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    writer.close()


async def test_a_caller_that_goes_away_takes_nobody_along(tmp_path: Path) -> None:
    writer = Writer(lambda: sqlite3.connect(tmp_path / "jobs.db", isolation_level=None), lambda _: None)
    writer.start()
    async with asyncio.timeout(10):
        await writer.write(lambda connection: connection.execute("CREATE TABLE t (v)"))
        gone = asyncio.create_task(writer.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)")))
        await asyncio.sleep(0)
        gone.cancel()
        assert await writer.write(lambda connection: connection.execute("SELECT v FROM t").fetchall()) == [(1,)]
    writer.close()
