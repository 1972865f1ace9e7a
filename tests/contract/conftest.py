"""What each contract is run against. A second store, bus or engine joins by one parameter here."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from media_downloader.bus.memory import MemoryEventBus
from media_downloader.engines.local import LocalEngine
from media_downloader.ports import Engine, EventBus, JobStore
from media_downloader.stores.sqlite import SqliteJobStore

OpenStore = Callable[[], Awaitable[JobStore]]
SLOTS = 3
#: Events that a bus keeps for those who come back, in these tests.
KEPT = 50


@pytest.fixture(params=["sqlite"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Open the same store again and again, as restarts do."""
    opened: list[JobStore] = []

    async def open_it() -> JobStore:
        for store in opened:
            await store.close()
        assert request.param == "sqlite"
        opened.append(SqliteJobStore(tmp_path / "jobs.db"))
        await opened[-1].open()
        return opened[-1]

    yield open_it
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> JobStore:
    """An empty store."""
    return await open_store()


@pytest.fixture(params=["memory"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[EventBus]:
    """A bus that keeps ``KEPT`` events."""
    assert request.param == "memory"
    made = MemoryEventBus(kept_events=KEPT)
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=["local"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """An engine with ``SLOTS`` slots, not started."""
    assert request.param == "local"
    made = LocalEngine(SLOTS)
    yield made
    await made.stop()
