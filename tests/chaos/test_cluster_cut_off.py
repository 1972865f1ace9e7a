"""A worker that is cut off, or asleep, for longer than its lease: what it says late counts for nothing."""

import os
import signal

import pytest

from tests.chaos.conftest import MEGABYTE, StartCluster, right, started
from tests.cluster import Cluster, WorkerProcess
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import wait_until
from tests.relay import Relay

pytestmark = pytest.mark.chaos

#: Long enough for a busy machine to end a process within it.
LEASE_SECONDS = 6
#: Too slow to end before another worker has taken over, for the first worker's two requests alone.
SLOW = "rate=1500000,slowtimes=2"


def ended(worker: WorkerProcess, pids: set[int], seconds: float) -> None:
    """The download processes are gone within so many seconds."""
    wait_until(lambda: not pids & worker.downloads(), "the download process to end", seconds)


def refused(worker: WorkerProcess) -> None:
    """The worker was told that it has lost the job, and never that it was done."""
    wait_until(lambda: "taken over by another attempt" in worker.log(), "the late writes to be refused", 15)
    assert '"state": "done"' not in worker.log()


def test_a_worker_whose_line_to_redis_is_dead_ends_its_download(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster(workers=0, slots=1, lease_seconds=LEASE_SECONDS)
    with Relay(many.redis.port) as line:
        victim = many.add_worker(REDIS_URL=line.redis_url)
        many.wait_workers(1)
        job_id = started(many.server, origin, SLOW, MEGABYTE)
        downloading = victim.downloads()
        assert downloading
        line.silence()
        many.add_worker()
        # Before anybody else may claim the job.
        ended(victim, downloading, LEASE_SECONDS)
        wait_until(lambda: many.server.get(job_id)["attempt"] == 2, "the other worker to take the job over", 30)
        # Everything that the first one has said since, and still meant to say, arrives now.
        line.heal()
        right(many, job_id, media)
        assert '"state": "done"' not in victim.log()
        many.wait_workers(2)
        _both_work(many, origin)


def _both_work(many: Cluster, origin: Origin) -> None:
    """The one that was cut off is a worker like any other again."""
    links = [origin.url("small.mp4", f"rate=200000,{name}") for name in ("a", "b")]
    ids = [many.server.add(link)["id"] for link in links]
    for job_id in ids:
        many.server.wait_done(job_id)
    assert all(any(f"Starting job {job_id}" in worker.log() for job_id in ids) for worker in many.workers)


def test_a_worker_that_slept_while_its_process_went_on_is_refused(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    """Nobody ends the process meanwhile: it writes on while the next attempt does, and must not spoil that one."""
    many = cluster(workers=2, slots=1)
    job_id = started(many.server, origin, SLOW, MEGABYTE)
    victim = next(worker for worker in many.workers if f"Starting job {job_id}" in worker.log())
    downloading = victim.downloads()
    (pool,) = victim.pool_pids()
    os.kill(pool, signal.SIGSTOP)
    wait_until(lambda: many.server.get(job_id)["attempt"] == 2, "the other worker to take the job over", 40)
    assert downloading <= victim.downloads(), "the process of the first attempt goes on"
    many.server.wait_bytes(job_id, 1)
    os.kill(pool, signal.SIGCONT)
    refused(victim)
    ended(victim, downloading, 15)
    right(many, job_id, media)
    assert many.server.get(job_id)["attempt"] == 2
