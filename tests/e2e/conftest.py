"""Fixtures of the tests that run real downloads."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from media_downloader.downloader.process import Zygote
from tests.e2e.attempts import Attempts
from tests.origin.server import Origin


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """A zygote with the real downloader, without a server."""
    made = Zygote(tmp_path_factory.mktemp("zygote") / "private")
    made.start()
    yield made
    asyncio.run(made.stop())


@pytest.fixture
def attempts(zygote: Zygote, tmp_path: Path, origin: Origin) -> Attempts:
    """A job of this test's own."""
    return Attempts(zygote, tmp_path / "job", origin)
