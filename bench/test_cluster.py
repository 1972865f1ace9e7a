"""What many machines are worth: jobs per second with more workers, and hundreds of browsers on two servers."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from bench.conftest import median_seconds, seconds_of
from tests.cluster import Cluster
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program, wait_until

pytestmark = pytest.mark.timeout(600)

Figures = Callable[[str], None]

JOBS = 48
#: What a download takes on its way, so that workers and not the two cores of a small machine are the limit.
TRANSFER_SECONDS = 2.0
BROWSERS = 500
CHANGES = 40


@pytest.fixture
def cluster(tmp_path: Path, origin: Origin) -> Iterator[Cluster]:
    """Two servers; workers come with the test."""
    settings = {"allowed_endpoints": origin.endpoint, "max_per_site": 100, "log_level": "warning"}
    with Cluster(tmp_path, workers=0, slots=2, **settings) as made:
        made.add_server()
        yield made


def jobs_per_second(server: Program, links: list[str]) -> float:
    """Add all of them, and return how many were done in a second until the last one was."""
    server.answer(server.client.post("/queue/pause", json={}))
    before = done(server)
    server.answer(server.client.post("/jobs", json={"urls": links}), 201)
    began = time.perf_counter()
    server.answer(server.client.post("/queue/resume", json={}))
    wait_until(lambda: done(server) == before + len(links), "all jobs", 300)
    return len(links) / (time.perf_counter() - began)


def done(server: Program) -> int:
    count: int = server.answer(server.client.get("/stats"))["counts"]["done"]
    return count


def test_more_workers_do_more_jobs(cluster: Cluster, origin: Origin, media: Media, figures: Figures) -> None:
    rate = int(media.small.stat().st_size / TRANSFER_SECONDS)
    found = {}
    for workers in (1, 2, 4):
        while len(cluster.workers) < workers:
            cluster.add_worker()
        cluster.wait_workers(workers)
        # What a process loads at its start is loaded afterwards.
        jobs_per_second(cluster.server, [origin.url("small.mp4", f"w{workers}n{n}") for n in range(workers * 2)])
        slow = [origin.url("small.mp4", f"rate={rate},s{workers}n{n}") for n in range(JOBS)]
        quick = [origin.url("small.mp4", f"q{workers}n{n}") for n in range(JOBS)]
        found[workers] = jobs_per_second(cluster.server, slow)
        figures(
            f"{workers} workers of 2 slots: {found[workers]:.1f} jobs/s of {TRANSFER_SECONDS:g} s each, "
            f"{jobs_per_second(cluster.server, quick):.1f} jobs/s of no length"
        )
    assert found[2] > found[1] * 1.4
    assert found[4] > found[1] * 1.8


@dataclass
class Browser:
    """One event stream, read by hand: five hundred clients of a library would be what is measured."""

    url: str
    heard: dict[str, float] = field(default_factory=dict)

    async def read(self, ready: asyncio.Semaphore) -> None:
        """Note when each job is first heard of."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        try:
            await reader.readuntil(b"\r\n\r\n")
            ready.release()
            async for line in reader:
                if line == b"event: job\n":
                    job = json.loads((await reader.readline()).removeprefix(b"data: "))
                    self.heard.setdefault(job["id"], time.perf_counter())
        finally:
            writer.close()


async def watch(servers: list[Program]) -> tuple[list[float], float]:
    """Return how long after each change each browser knew, and how long another request took meanwhile."""
    browsers = [Browser(servers[number % 2].url) for number in range(BROWSERS)]
    ready = asyncio.Semaphore(0)
    reading = [asyncio.create_task(browser.read(ready)) for browser in browsers]
    for _ in browsers:
        await ready.acquire()
    changed: dict[str, float] = {}
    asked = []
    async with httpx2.AsyncClient(base_url=servers[0].url, trust_env=False, timeout=30) as client:
        for number in range(CHANGES):
            sent = time.perf_counter()
            body = {"url": f"http://93.184.216.34/{number}.mp4", "paused": True}
            answer = await client.post("/jobs", json=body)
            assert answer.status_code == 201, answer.text
            job_id = answer.json()["id"]
            changed[job_id] = sent
            asked.append(time.perf_counter() - sent)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(30):
            while any(len(browser.heard) < CHANGES for browser in browsers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    late = [browser.heard[job_id] - sent for browser in browsers for job_id, sent in changed.items()]
    return sorted(late), sorted(asked)[len(asked) // 2]


def test_five_hundred_browsers_on_two_servers(cluster: Cluster, figures: Figures) -> None:
    alone = median_seconds(lambda: cluster.server.add("http://93.184.216.34/alone.mp4", paused=True), 20)
    late, asked = asyncio.run(watch(cluster.servers))
    median, most, worst = late[len(late) // 2], late[-len(late) // 100], late[-1]
    figures(
        f"{BROWSERS} browsers heard all of {CHANGES} changes: {median * 1e3:.0f} ms (median), "
        f"{most * 1e3:.0f} ms (99 %), {worst * 1e3:.0f} ms (last); an add took {asked * 1e3:.1f} ms, "
        f"{alone * 1e3:.1f} ms without browsers"
    )
    stopped = seconds_of(cluster.servers[1].terminate)
    figures(f"a server with {BROWSERS // 2} browsers ended in {stopped:.2f} s")
    assert worst < 5
    assert stopped < 10
