"""Redis goes away while jobs run: its data are lost, or it stops answering. What was fetched is never lost with it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.conftest import LEASE_SECONDS, MEGABYTE, SLOW, StartCluster, started
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program, wait_until

pytestmark = pytest.mark.chaos

#: No request may hang longer than this.
ANSWER_SECONDS = 5.0
#: Several leases: every runner must have let go long before the end.
OUTAGE_SECONDS = 15.0
PATHS = ("/jobs", "/health", "/health/ready", "/stats", "/metrics", "/queue/pause", "/jobs/{id}", "/jobs/{id}/pause")


def ask(server: Program, path: str, job_id: str) -> tuple[int, float]:
    """Return the status of an answer, and the seconds that it took."""
    method = "POST" if path.endswith("/pause") else "GET"
    began = time.monotonic()
    answer = server.client.request(method, path.format(id=job_id), json={} if method == "POST" else None)
    return answer.status_code, time.monotonic() - began


def test_redis_loses_its_data_and_what_is_on_the_disk_becomes_jobs_again(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster()
    finished = many.server.wait_done(many.server.add(origin.url("small.mp4"))["id"])
    paused = many.server.add(origin.url("big.mp4", f"{SLOW},paused"), options={"output_template": "paused"})["id"]
    many.server.wait_bytes(paused, 4 * MEGABYTE)
    many.server.act(paused, "pause")
    kept = many.server.wait_state(paused, "paused")["progress"]["downloaded_bytes"]
    job_id = started(many.server, origin)
    running = many.workers[0].downloads()
    many.redis.kill()
    many.redis.lose_data()
    many.redis.start()
    wait_until(lambda: not running & many.workers[0].downloads(), "the process of the lost job to end", 10)
    wait_until(lambda: many.server.client.get(f"/jobs/{job_id}").status_code == 200, "the lost job to be found", 20)
    assert many.server.client.get(f"/jobs/{finished['id']}").status_code == 404, "only its file tells of it"
    found = many.server.get(paused)
    assert found["state"] == "paused"
    assert found["progress"]["downloaded_bytes"] >= kept > 0
    many.server.act(paused, "resume")
    for one, name in ((job_id, "big.mp4"), (paused, "paused.mp4")):
        done = many.server.wait_done(one, 90)
        assert [artifact["name"] for artifact in done["artifacts"]] == [name]
        assert sha256(many.server.file_of(done)) == sha256(media.big)
    assert sha256(many.server.file_of(finished)) == sha256(media.small)
    assert many.server.published() == ["big.mp4", "paused.mp4", "small.mp4"]
    many.assert_no_ghosts(job_id, paused)
    resumed = [seen.range for seen in origin.requests("big.mp4") if seen.range]
    assert any(int(one[6:].split("-")[0]) > 3 * MEGABYTE for one in resumed if one), resumed


def test_redis_does_not_answer_for_longer_than_leases_last(cluster: StartCluster, origin: Origin, media: Media) -> None:
    """Every request is answered in time, a worker can be stopped, and what ran goes on: however long that takes."""
    many = cluster(workers=2)
    # One ends while nobody can be told so, the other is in the middle.
    short = many.server.add(origin.url("big.mp4", "rate=12000000,slowtimes=2,short"), options={"output_template": "a"})
    job_id = started(many.server, origin, "rate=4000000,slowtimes=3")
    many.redis.freeze()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(len(PATHS)) as pool:
            for _ in range(2):
                answers = dict(zip(PATHS, pool.map(lambda path: ask(many.server, path, job_id), PATHS), strict=True))
                assert max(seconds for _, seconds in answers.values()) < ANSWER_SECONDS, answers
                assert {path for path, (status, _) in answers.items() if status != 503} <= {"/health"}, answers
        assert "does not answer" in str(many.server.answer(many.server.client.get("/health"))["problems"])
        assert OUTAGE_SECONDS > 3 * LEASE_SECONDS
        assert many.workers[0].terminate() < 10
        time.sleep(max(0.0, began + OUTAGE_SECONDS - time.monotonic()))
    finally:
        many.redis.thaw()
    for one, name in ((job_id, "big.mp4"), (short["id"], "a.mp4")):
        done = many.server.wait_done(one, 60)
        assert [artifact["name"] for artifact in done["artifacts"]] == [name]
        assert sha256(many.server.file_of(done)) == sha256(media.big)
    assert many.server.published() == ["a.mp4", "big.mp4"]
    many.assert_no_ghosts(job_id, short["id"])
    many.wait_workers(1)
