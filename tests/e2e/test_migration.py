"""A download that was paused half-way on one machine goes on exactly there on many machines, and back."""

from pathlib import Path

import pytest

from tests.cli.command import run, told
from tests.cluster import Cluster
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program

pytestmark = pytest.mark.e2e

SLOW = "rate=6000000,slowtimes=2"
MEGABYTE = 1_000_000


def paused_half_way(server: Program, origin: Origin) -> tuple[str, int]:
    """Return a job that was paused, and how many bytes it has."""
    job_id: str = server.add(origin.url("big.mp4", SLOW))["id"]
    server.wait_bytes(job_id, 8 * MEGABYTE)
    server.act(job_id, "pause")
    job = server.wait_state(job_id, "paused")
    return job_id, int(job["progress"]["downloaded_bytes"])


def continues(server: Program, origin: Origin, media: Media, job_id: str, kept: int) -> None:
    """Resume the job; it must fetch what it lacks and no more."""
    assert server.get(job_id)["progress"]["downloaded_bytes"] == kept
    asked = len(origin.requests("big.mp4"))
    server.act(job_id, "resume")
    done = server.wait_done(job_id, 90)
    assert sha256(server.file_of(done)) == sha256(media.big)
    starts = [int(seen.range[6:].rstrip("-")) for seen in origin.requests("big.mp4")[asked:] if seen.range]
    assert max(starts) > kept - MEGABYTE, starts
    assert list(server.downloads.glob("md*_*")) == []


def cluster_of(tmp_path: Path, origin: Origin, downloads: Path) -> Cluster:
    return Cluster(tmp_path / "cluster", downloads=downloads, allowed_endpoints=origin.endpoint)


def test_a_paused_download_goes_from_one_machine_to_many(tmp_path: Path, origin: Origin, media: Media) -> None:
    with Program(tmp_path / "one", allowed_endpoints=origin.endpoint) as server:
        job_id, kept = paused_half_way(server, origin)
    many = cluster_of(tmp_path, origin, server.downloads)
    told(run(server, "migrate-jobs", "--to", "redis", environment={"REDIS_URL": many.redis.tcp_url}))
    with many:
        continues(many.server, origin, media, job_id, kept)
    server.open_client()
    with server:
        assert server.client.get(f"/jobs/{job_id}").status_code == 404


def test_a_paused_download_goes_from_many_machines_to_one(tmp_path: Path, origin: Origin, media: Media) -> None:
    many = cluster_of(tmp_path, origin, tmp_path / "shared")
    server = Program(tmp_path / "one", allowed_endpoints=origin.endpoint, downloads=tmp_path / "shared")
    server.folder.mkdir()
    try:
        many.server.start()
        many.add_worker()
        many.wait_workers(1)
        job_id, kept = paused_half_way(many.server, origin)
        many.workers[0].close()
        many.server.terminate()
        told(run(server, "migrate-jobs", "--to", "sqlite", environment={"REDIS_URL": many.redis.tcp_url}))
    finally:
        many.close()
    with server:
        continues(server, origin, media, job_id, kept)
