"""Everything is restarted, one after the other, while many jobs run and users change their minds."""

import contextlib
import random
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import pytest

from tests.chaos.conftest import StartCluster
from tests.cluster import READY_SECONDS, Cluster
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, Program, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

SMALL_JOBS, BIG_JOBS = 20, 2
#: Within this, whatever the machine has to do beside.
PATIENCE_SECONDS = 100


class Users:
    """Pause and resume jobs, any of them, at whichever server answers; a refusal is an answer."""

    def __init__(self, servers: list[Program], job_ids: list[str]) -> None:
        self._servers = servers
        self._ids = job_ids
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        lots = random.Random(7)
        while not self._ending.wait(0.05):
            job_id, action = lots.choice(self._ids), lots.choice(("pause", "resume", "resume"))
            with contextlib.suppress(httpx2.TransportError):
                answer = lots.choice(self._servers).client.post(f"/jobs/{job_id}/{action}", json={})
                self.answers[action, answer.status_code] += 1


def restart_everything(many: Cluster) -> None:
    """Each in turn, as an operator does it: in order, and the next one when this one is back."""
    for number, server in enumerate(many.servers):
        many.workers[number].terminate()
        many.add_worker()
        server.terminate()
        server.start()
        wait_until(lambda: many.workers[-1].id, "the new worker", READY_SECONDS)
    many.redis.kill()
    many.redis.start()


def all_done(many: Cluster) -> bool:
    """Resume what a user has left paused; say whether everything is done."""
    jobs: list[Job] = many.server.answer(many.server.client.get("/jobs?limit=100"))["jobs"]
    for job in jobs:
        if job["state"] == "paused":
            many.server.client.post(f"/jobs/{job['id']}/resume", json={})
    return all(job["state"] == "done" for job in jobs)


def test_everything_is_restarted_under_load(cluster: StartCluster, origin: Origin, media: Media) -> None:
    many = cluster(workers=2, max_per_site=10)
    other = many.add_server()
    jobs: dict[str, Path] = {}
    for number in range(SMALL_JOBS + BIG_JOBS):
        name, source = ("big", media.big) if number % 11 == 0 else ("small", media.small)
        behaviour = f"rate=6000000,slowtimes=4,{number}" if name == "big" else str(number)
        options = {"output_template": f"{name}-{number}"}
        jobs[many.server.add(origin.url(f"{name}.mp4", behaviour), options=options)["id"]] = source
    assert Counter(jobs.values()) == {media.big: BIG_JOBS, media.small: SMALL_JOBS}
    with Users([many.server, other], list(jobs)) as users:
        restart_everything(many)
    wait_until(lambda: all_done(many), "every job to be done", PATIENCE_SECONDS)
    assert {status for _, status in users.answers} <= {200, 409, 503}
    assert users.answers["pause", 200] > 3
    assert users.answers["resume", 200] > 3
    digests = {source: sha256(source) for source in set(jobs.values())}
    names = set()
    for job_id, source in jobs.items():
        job = many.server.get(job_id)
        assert sha256(many.server.file_of(job)) == digests[source]
        names.add(job["artifacts"][0]["name"])
    assert set(many.server.published()) == names
    assert len(names) == len(jobs)
    many.assert_no_ghosts(*jobs)
    many.wait_workers(2)
