"""Fixtures of the tests of the stores."""

from collections.abc import AsyncIterator

import pytest

from media_downloader.stores.redis import RedisJobStore


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisJobStore]:
    """An empty store in the Redis of the whole run."""
    made = RedisJobStore(redis_url)
    await made.open()
    yield made
    await made.close()
