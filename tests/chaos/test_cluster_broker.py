"""The broker at its worst: it delivers again what runs, and it stops delivering to a worker that lives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kombu import Connection

from media_downloader.engines.celery_app import KEY_PREFIX, QUEUE, make_app
from tests.chaos.conftest import StartCluster, right, started
from tests.cluster import Cluster
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, wait_until
from tests.relay import Relay

pytestmark = pytest.mark.chaos

#: Three calls unheard, five seconds apart, each with patience of its own.
NOTICED_SECONDS = 60


@contextmanager
def impatient_consumer(url: str, seen: list[int]) -> Iterator[None]:
    """Put back into the queue, as any consumer of it may, what has been unacknowledged for more than a second."""
    ending = threading.Event()
    options = {"global_keyprefix": KEY_PREFIX, "visibility_timeout": 1, "unacked_restore_interval": 0}
    with Connection(url, transport_options=options) as connection:
        quality = connection.default_channel.qos

        def sweep() -> None:
            while not ending.wait(0.2):
                quality.restore_visible(num=100)
                seen.append(1)

        thread = threading.Thread(target=sweep)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


def test_a_visibility_timeout_shorter_than_the_download(cluster: StartCluster, origin: Origin, media: Media) -> None:
    """A message is acknowledged before its job runs, so there is nothing that could be delivered again."""
    many = cluster(workers=2)
    seen: list[int] = []
    with impatient_consumer(many.redis.tcp_url, seen):
        job_id = started(many.server, origin, "rate=8000000,slowtimes=2", 1_000_000)
        with many.redis.client() as client:
            assert client.hlen(f"{KEY_PREFIX}unacked") == 0
        right(many, job_id, media)
    assert len(seen) > 15
    assert many.server.get(job_id)["attempt"] == 1
    received = sum(worker.log().count(f"[{job_id}] received") for worker in many.workers)
    assert received == 1


def problems(many: Cluster) -> str:
    health: Job = many.server.answer(many.server.client.get("/health"))
    return " ".join(problem for problem in health["problems"] if "hear" in problem)


def test_a_worker_that_lives_but_is_deaf_says_so(cluster: StartCluster, origin: Origin, media: Media) -> None:
    """It still tells Redis that it lives; only the broker's line, here another one, brings it nothing."""
    many = cluster(workers=0, slots=1)
    app = make_app(many.redis.tcp_url)
    with Relay(many.redis.port) as line:
        worker = many.add_worker(CELERY_BROKER_URL=line.redis_url)
        many.wait_workers(1)
        app.control.cancel_consumer(QUEUE)
        wait_until(lambda: problems(many), "the worker that consumes nothing to be noticed", NOTICED_SECONDS)
        job_id = many.server.add(origin.url("big.mp4"))["id"]
        app.control.add_consumer(QUEUE)
        right(many, job_id, media)
        wait_until(lambda: not problems(many), "the worker to hear again", NOTICED_SECONDS)
        line.silence()
        wait_until(lambda: problems(many), "the deaf worker to be noticed", NOTICED_SECONDS)
        assert f"Worker {worker.id}" in problems(many)
        assert many.alive_workers(), "it is deaf, not dead"
    app.close()
