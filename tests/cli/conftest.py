"""Fixtures of the tests of the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Get
from tests.origin.server import Origin
from tests.program import Program


@pytest.fixture
def place(tmp_path: Path, origin: Origin) -> Program:
    """An installation without a server, whose downloads may reach the origin."""
    found = Program(tmp_path / "place", allowed_endpoints=origin.endpoint)
    found.folder.mkdir()
    return found


@pytest.fixture(autouse=True)
def no_get_is_left() -> Iterator[None]:
    """End what a test that failed in its middle has left running."""
    yield
    while Get.started:
        command = Get.started.pop()
        if command.process.poll() is None:
            command.kill()
