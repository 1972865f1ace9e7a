"""Clusters to be hurt, and what must be true of them afterwards."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program

StartCluster = Callable[..., Cluster]
#: Slow enough to be killed in, for yt-dlp's two first requests only.
SLOW = "rate=6000000,slowtimes=2"
MEGABYTE = 1_000_000
#: Short leases, so that a lost worker's jobs are taken over within a test's patience.
LEASE_SECONDS = 4


@pytest.fixture
def cluster(tmp_path: Path, origin: Origin) -> Iterator[StartCluster]:
    """Start a cluster that may reach the origin; it must leave nothing behind."""
    started: list[Cluster] = []

    def start(**settings: object) -> Cluster:
        chosen = {"allowed_endpoints": origin.endpoint, "lease_seconds": LEASE_SECONDS, **settings}
        started.append(Cluster(tmp_path / f"cluster-{len(started)}", **chosen))  # type: ignore[arg-type]
        started[-1].__enter__()
        return started[-1]

    yield start
    for one in started:
        one.close()


def started(server: Program, origin: Origin, behaviour: str = SLOW, at_least: int = 8 * MEGABYTE) -> str:
    """Return a big job that has so many bytes."""
    job_id: str = server.add(origin.url("big.mp4", behaviour))["id"]
    server.wait_bytes(job_id, at_least)
    return job_id


def right(many: Cluster, job_id: str, media: Media, *, server: Program | None = None, seconds: float = 90) -> None:
    """The big job is done, once and right, and nothing is left of it but its file."""
    server = server or many.server
    done = server.wait_done(job_id, seconds)
    assert sha256(server.file_of(done)) == sha256(media.big)
    assert server.published() == ["big.mp4"]
    many.assert_no_ghosts(job_id)
