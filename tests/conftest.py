"""Fixtures of the tests that see the whole program."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.nodeid import coerce_node_id

from tests.engines import Workplace, open_workplace
from tests.origin.media import Media, make
from tests.origin.server import Origin
from tests.program import Program
from tests.redis_server import RedisServer
from tests.shared import Lend, SharedInstallations


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


@pytest.fixture(scope="session")
def shared_installations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedInstallations]:
    """What ``lend`` lends."""
    shared = SharedInstallations(tmp_path_factory.mktemp("shared"))
    yield shared
    shared.close()


@pytest.fixture
def lend(request: pytest.FixtureRequest, shared_installations: SharedInstallations) -> Iterator[Lend]:
    """Give a running server with some settings that other tests had before and will have again.

    It may be killed and started again. Its mode is local, or the parameter's (``BOTH_MODES``).
    """
    mode = getattr(request, "param", "local")
    lent: dict[int, Program] = {}

    def give(**settings: object) -> Program:
        found = shared_installations.lend(mode, settings)
        lent[id(found)] = found
        return found

    yield give
    for one in lent.values():
        shared_installations.take_back(one)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real server for the whole run."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A real worker for the whole run; tests that use it belong to the group "cluster"."""
    with open_workplace(tmp_path_factory.mktemp("workplace")) as place:
        yield place


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test's own, which keeps what it was given."""
    with RedisServer(appendonly="yes", appendfsync="always") as own:
        yield own


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Send the tests of a group (``xdist_group``) to one process, which starts what they share once.

    pytest-xdist 3.8 writes the group into ``_nodeid``, which pytest 9.2 reads no more: every process started a cluster.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group is not None and "@" not in item.nodeid.rpartition("]")[2]:
            item._id = coerce_node_id(f"{item.nodeid}@{group.args[0]}")
