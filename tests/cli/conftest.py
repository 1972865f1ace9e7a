"""Fixtures of the tests of the command line."""

from pathlib import Path

import pytest

from tests.origin.server import Origin
from tests.program import Program


@pytest.fixture
def place(tmp_path: Path, origin: Origin) -> Program:
    """An installation without a server, whose downloads may reach the origin."""
    found = Program(tmp_path / "place", allowed_endpoints=origin.endpoint)
    found.folder.mkdir()
    return found
