"""Many machines: whatever dies, every job is done once, right, and nothing is left."""

import os
import signal
from pathlib import Path

import pytest

from tests.chaos.conftest import MEGABYTE, SLOW, StartCluster, right, started
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import wait_until

pytestmark = pytest.mark.chaos


def test_a_killed_pool_process_is_replaced_and_its_job_goes_on(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster()
    job_id = started(many.server, origin)
    many.workers[0].below()
    for pid in many.workers[0].pool_pids():
        os.kill(pid, signal.SIGKILL)
    right(many, job_id, media)
    ranges = [seen.range for seen in origin.requests("big.mp4") if seen.range]
    assert any(start and int(start[6:].rstrip("-")) > 7 * MEGABYTE for start in ranges), ranges


def test_a_killed_worker_is_noticed_and_its_job_continues_elsewhere(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster(workers=2, slots=1)
    job_id = started(many.server, origin)
    workers = many.server.answer(many.server.client.get("/health"))["workers"]
    busy = next(one for one in workers if one["running"] == 1)
    victim = next(one for one in many.workers if one.id == busy["id"])
    victim.kill()
    many.wait_workers(1)
    assert many.server.answer(many.server.client.get("/health"))["status"] == "degraded"
    right(many, job_id, media)


def test_a_worker_that_is_killed_alone_leaves_no_process_and_its_job_is_done_elsewhere(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster(slots=3)
    [victim] = many.workers
    job_id = started(many.server, origin)
    victim.kill(with_pool=False)
    victim.wait_gone(8)
    many.add_worker()
    right(many, job_id, media)
    assert many.server.get(job_id)["attempt"] == 2


def test_all_workers_die_and_what_was_queued_is_done_by_new_ones(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster(workers=2)
    job_id = started(many.server, origin)
    for worker in many.workers:
        worker.kill()
    many.add_worker()
    right(many, job_id, media)


def test_an_api_process_dies_and_nobody_but_its_clients_notices(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster()
    job_id = started(many.server, origin)
    other = many.add_server()
    many.server.kill()
    right(many, job_id, media, server=other)
    assert other.get(job_id)["attempt"] == 1
    many.server.start()


def test_a_stopped_worker_gives_its_jobs_back_with_their_bytes(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster(workers=2, slots=1)
    job_id = started(many.server, origin)
    for worker in many.workers:
        worker.ask_to_end()
    assert max(worker.terminate() for worker in many.workers) < 10
    waiting = many.server.get(job_id)
    assert waiting["state"] == "queued"
    assert waiting["progress"]["downloaded_bytes"] > 0
    many.add_worker()
    right(many, job_id, media)


def test_redis_is_killed_and_comes_back_with_its_data(cluster: StartCluster, origin: Origin, media: Media) -> None:
    many = cluster()
    job_id = started(many.server, origin)
    waiting = many.server.add(origin.url("small.mp4"), paused=True)["id"]
    many.redis.kill()
    refused = many.server.client.get(f"/jobs/{job_id}")
    assert refused.status_code == 503
    assert refused.json()["error"] == "store_unavailable"
    many.redis.start()
    right(many, job_id, media)
    assert many.server.get(waiting)["state"] == "paused"


def test_what_is_started_while_redis_is_away_works_when_it_is_back(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster(slots=1)
    [first] = many.workers
    many.redis.kill()
    [killed] = first.pool_pids()
    os.kill(killed, signal.SIGKILL)
    second = many.add_worker()
    wait_until(lambda: "Waiting for Redis" in second.log(), "the new worker to wait", 30)
    many.redis.start()
    wait_until(lambda: [pid for pid in first.pool_pids() if pid != killed] != [], "a new process in the pool", 30)
    many.wait_workers(2)
    both = [many.server.add(origin.url(f"small.mp4?{number}"))["id"] for number in range(2)]
    second.terminate()
    for job_id in both:
        many.server.wait_done(job_id, 60)
    assert "cannot run jobs" not in first.log()


def test_the_same_doorbell_rung_five_times_runs_the_job_once(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    from media_downloader.engines.celery_app import QUEUE, TASK, make_app

    many = cluster()
    many.server.client.post("/queue/pause", json={})
    job_id = many.server.add(origin.url("big.mp4", SLOW))["id"]
    app = make_app(many.redis.tcp_url)
    many.server.client.post("/queue/resume", json={})
    for _ in range(5):
        app.send_task(TASK, args=[job_id], queue=QUEUE, ignore_result=True)
    for argument in ("f" * 32, "not an id", 17, None):
        app.send_task(TASK, args=[argument], queue=QUEUE, ignore_result=True)
    app.send_task("somebody.elses.task", args=[1, 2], queue=QUEUE, ignore_result=True)
    right(many, job_id, media)
    assert many.server.get(job_id)["attempt"] == 1
    app.close()
    wait_until(lambda: "none of ours" in many.workers[0].log(), "the strange message to be dropped", 10)
    wait_until(lambda: "nobody knows" in many.workers[0].log(), "the unknown job to be dropped", 10)
    many.wait_workers(1)


def test_a_worker_without_the_volume_refuses_to_work(cluster: StartCluster, tmp_path: Path) -> None:
    many = cluster()
    blind = tmp_path / "no-volume"
    blind.write_text("a file where a folder should be")
    worker = many.add_worker(YTDLP_OUTPUT_PATH=str(blind))
    assert worker.process is not None
    assert worker.process.wait(30) != 0
    assert "cannot be written" in worker.log()
    many.wait_workers(1)
