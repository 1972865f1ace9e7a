"""Fixtures of the tests that see the whole program."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.origin.media import Media, make
from tests.origin.server import Origin
from tests.program import Program


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """Media that ffmpeg made, once for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    # Workers have folders of their own below one that belongs to the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "media"
    folder.mkdir(exist_ok=True)
    made = folder / "made"
    with made.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.read_text():
            make(folder)
            lock.write("yes")
    return Media(folder)


@pytest.fixture
def origin(media: Media) -> Iterator[Origin]:
    """An origin of this test's own."""
    with Origin(media) as site:
        yield site


@pytest.fixture
def program(tmp_path: Path, origin: Origin) -> Iterator[Callable[..., Program]]:
    """Start the real server, allowed to reach the origin; it must leave nothing behind."""
    started: list[Program] = []

    def start(**settings: object) -> Program:
        chosen = {"allowed_endpoints": origin.endpoint, **settings}
        started.append(Program(tmp_path / f"installation-{len(started)}", **chosen))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.close()
