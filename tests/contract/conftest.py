"""What each contract is run against. A second store, bus or engine joins by one parameter here."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from media_downloader.bus.memory import MemoryEventBus
from media_downloader.bus.redis import RedisEventBus
from media_downloader.engines.local import LocalEngine
from media_downloader.ports import Engine, EventBus, JobStore
from media_downloader.stores.redis import RedisJobStore
from media_downloader.stores.sqlite import SqliteJobStore
from tests.engines import SLOTS, Workplace
from tests.work import Work

OpenStore = Callable[[], Awaitable[JobStore]]
#: Events that a bus keeps for those who come back, in these tests.
KEPT = 50


@pytest.fixture(params=["sqlite", "redis"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Open the same store again and again, as restarts do."""
    opened: list[JobStore] = []
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None

    async def open_it() -> JobStore:
        for store in opened:
            await store.close()
        opened.append(SqliteJobStore(tmp_path / "jobs.db") if url is None else RedisJobStore(url))
        await opened[-1].open()
        return opened[-1]

    yield open_it
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> JobStore:
    """An empty store."""
    return await open_store()


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[EventBus]:
    """A bus that keeps ``KEPT`` events."""
    made: EventBus
    if request.param == "memory":
        made = MemoryEventBus(kept_events=KEPT)
    else:
        made = RedisEventBus(request.getfixturevalue("redis_url"), kept_events=KEPT)
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=["local", pytest.param("celery", marks=pytest.mark.xdist_group("cluster"))])
def elsewhere(request: pytest.FixtureRequest) -> Workplace | None:
    """Where work is done when it is not in this process."""
    return request.getfixturevalue("workplace") if request.param == "celery" else None


@pytest.fixture
def work(elsewhere: Workplace | None, tmp_path: Path) -> Work:
    """What the engine runs."""
    return Work(elsewhere.folder if elsewhere is not None else tmp_path / "work")


@pytest.fixture
async def engine(elsewhere: Workplace | None, work: Work) -> AsyncIterator[Engine]:
    """An engine with ``SLOTS`` slots, not started."""
    if elsewhere is not None:
        await elsewhere.until_idle()
    made: Engine = LocalEngine(SLOTS) if elsewhere is None else elsewhere.engine()
    yield made
    work.let_go()
    await made.stop()
