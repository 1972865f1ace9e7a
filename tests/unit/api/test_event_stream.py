"""Events on their way from the bus to many readers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from media_downloader.api.events import RESET, EventStream
from media_downloader.bootstrap import Container, bootstrap
from media_downloader.jobs.model import Job, JobEvent, utc_now
from media_downloader.settings import Settings


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    """Opened, and nothing runs."""
    made = bootstrap(Settings(downloads_dir=tmp_path / "downloads", data_dir=tmp_path / "data"))
    made.settings.data_dir.mkdir()
    await made.store.open()
    await made.bus.open()
    yield made
    await made.bus.close()
    await made.store.close()


async def heard_by(container: Container, readers: int) -> list[bytes]:
    """Return what each of several readers gets of one event that comes while all of them wait."""
    stream = EventStream(container.bus, container.service)
    following = [stream.follow(None) for _ in range(readers)]
    for one in following:
        assert (await anext(one)).startswith(b"retry:")
    waiting = [asyncio.ensure_future(anext(one)) for one in following]
    await asyncio.sleep(0)
    now = utc_now()
    job = Job(id=uuid4().hex, url="https://example.org/a", site="example.org", created_at=now, updated_at=now)
    await container.bus.publish(JobEvent(job=job))
    heard = list(await asyncio.gather(*waiting))
    for one in following:
        await one.aclose()
    return heard


async def test_an_event_is_encoded_once_for_all_who_wait_for_it(container: Container) -> None:
    first, *others = await heard_by(container, 20)
    assert first.startswith(b"id: ")
    assert all(one is first for one in others)


async def test_who_cannot_be_told_everything_is_told_to_look_for_itself(container: Container) -> None:
    """The stream goes on: a browser would only come back and ask the same store again."""
    await container.store.close()
    assert await heard_by(container, 2) == [RESET, RESET]
