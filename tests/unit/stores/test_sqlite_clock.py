"""A wall clock that is set, or a machine that slept, neither ends a lease nor stops the queue."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from media_downloader.errors import LeaseLost
from media_downloader.jobs import model
from media_downloader.jobs.model import Job, utc_now
from media_downloader.jobs.state import State
from media_downloader.ports import Claim, NewJobs
from media_downloader.stores.sqlite import SqliteJobStore

CLAIM = Claim(owner="test:1", lease_seconds=30)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Set the wall clock, as an operator or a time server does."""

    def step(by: timedelta) -> None:
        class Stepped(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Stepped":
                moment = datetime.now(tz) + by
                return cls.combine(moment.date(), moment.timetz())

        monkeypatch.setattr(model, "datetime", Stepped)

    return step


async def opened(path: Path, **facts: object) -> tuple[SqliteJobStore, Job]:
    store = SqliteJobStore(path / "jobs.db")
    await store.open()
    now = utc_now()
    base = {"id": "1" * 32, "url": "https://example.org", "site": "example.org", "created_at": now, "updated_at": now}
    (job,) = (await store.add(NewJobs([Job.model_validate(base | facts)]))).jobs
    return store, job


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_lease_outlives_a_step_of_the_clock(
    tmp_path: Path, set_clock: Callable[[timedelta], None], hours: int
) -> None:
    store, job = await opened(tmp_path)
    job = await store.claim(job.id, CLAIM)
    set_clock(timedelta(hours=hours))
    assert await store.release_expired() == []
    assert await store.renew(job.id, job.attempt, 30) is None
    assert (await store.get(job.id)).state is State.EXTRACTING
    await store.close()


async def test_a_lease_ends_though_the_clock_was_set_back(
    tmp_path: Path, set_clock: Callable[[timedelta], None]
) -> None:
    store, job = await opened(tmp_path)
    await store.claim(job.id, Claim("test:1", 0.0))
    set_clock(timedelta(hours=-1))
    assert [released.state for released in await store.release_expired()] == [State.QUEUED]
    await store.close()


async def test_what_is_due_for_the_scheduler_is_due_for_the_claim(
    tmp_path: Path, set_clock: Callable[[timedelta], None]
) -> None:
    set_clock(timedelta(0))
    store, _ = await opened(tmp_path, ready_at=utc_now() + timedelta(minutes=1))
    assert await store.next_due(()) is None
    set_clock(timedelta(minutes=2))
    assert await store.next_due(()) is not None
    set_clock(timedelta(hours=-1))
    due = await store.next_due(())
    assert due is not None
    assert (await store.claim(due.id, CLAIM)).state is State.EXTRACTING
    await store.close()


async def test_the_leases_of_an_earlier_process_are_out(tmp_path: Path) -> None:
    store, job = await opened(tmp_path)
    job = await store.claim(job.id, CLAIM)
    await store.close()
    await store.open()
    with pytest.raises(LeaseLost):
        await store.renew(job.id, job.attempt, 30)
    assert await store.running_by_site() == {}
    assert [released.id for released in await store.release_expired()] == [job.id]
    await store.close()
