"""How fast the API answers, and that nothing it does keeps others waiting."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from bench.conftest import median_seconds, seconds_of
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program

Start = Callable[..., Program]
Figures = Callable[[str], None]


def test_a_kept_connection_is_no_slower_than_a_new_one(program: Start, figures: Figures) -> None:
    """With Nagle's algorithm on, an answer on a kept connection waits 40 ms for a delayed acknowledgement."""
    server = program()
    kept = median_seconds(lambda: server.client.get("/health/live"), 100)

    def anew() -> None:
        with httpx2.Client(base_url=server.url, trust_env=False) as client:
            client.get("/health/live", headers={"Connection": "close"})

    new = median_seconds(anew, 30)
    figures(f"kept {kept * 1e3:.2f} ms, new {new * 1e3:.2f} ms, ratio {kept / new:.2f}")
    assert kept < new


def test_a_queue_of_ten_thousand_costs_no_more_than_one_of_a_hundred(program: Start, figures: Figures) -> None:
    server = program()
    server.client.post("/queue/pause", json={})

    def fill(first: int, count: int) -> None:
        urls = [f"http://93.184.216.34/{number}.mp4" for number in range(first, first + count)]
        server.answer(server.client.post("/jobs", json={"urls": urls}), 201)

    def measure() -> dict[str, float]:
        fresh = iter(range(10**6))
        return {
            "add": median_seconds(lambda: server.add(f"http://93.184.216.34/n{next(fresh)}.mp4"), 40),
            "list": median_seconds(lambda: server.client.get("/jobs", params={"limit": 50}), 40),
            "health": median_seconds(lambda: server.client.get("/health"), 40),
        }

    fill(0, 100)
    small = measure()
    adding = seconds_of(lambda: fill(100, 10_000))
    large = measure()
    for name, before in small.items():
        ratio = large[name] / before
        figures(f"{name}: {before * 1e3:.2f} ms with 100 jobs, {large[name] * 1e3:.2f} ms with 10,000, x{ratio:.2f}")
        assert ratio < 2
    figures(f"adding 10,000 links in one request: {adding:.2f} s")


def test_nobody_waits_while_ten_thousand_links_are_added(program: Start, figures: Figures) -> None:
    server = program()
    server.client.post("/queue/pause", json={})
    waits: list[float] = []
    done = threading.Event()

    def watch() -> None:
        with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            while not done.is_set():
                waits.append(seconds_of(lambda: client.get("/health/live")))
                time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    urls = [f"http://93.184.216.34/{number}.mp4" for number in range(10_000)]
    total = seconds_of(lambda: server.answer(server.client.post("/jobs", json={"urls": urls}), 201))
    done.set()
    watching.join()
    waits.sort()
    worst, median = waits[-1], waits[len(waits) // 2]
    figures(f"{total:.2f} s in all; others waited {median * 1e3:.1f} ms (median), {worst * 1e3:.1f} ms (worst)")
    assert worst < total / 4
    assert median < total / 50


def test_serving_a_file_keeps_up_with_a_bare_socket(
    program: Start, origin: Origin, media: Media, figures: Figures
) -> None:
    """The bare socket is the test's own origin, which writes the same bytes from memory in pieces of 1 MiB."""
    server = program()
    job = server.wait_done(server.add(origin.url("big.mp4"))["id"])
    size = media.big.stat().st_size

    def read(url: str, client: httpx2.Client) -> None:
        with client.stream("GET", url) as response:
            assert sum(len(piece) for piece in response.iter_raw(1 << 20)) == size

    with httpx2.Client(trust_env=False) as client:
        ours = median_seconds(lambda: read(f"{server.url}/jobs/{job['id']}/file", client), 7)
        bare = median_seconds(lambda: read(origin.url("big.mp4"), client), 7)
    figures(f"{size / ours / 1e6:.0f} MB/s, bare socket {size / bare / 1e6:.0f} MB/s, ratio {bare / ours:.2f}")
    assert bare / ours > 0.33


def test_start_and_stop_of_the_server(program: Start, tmp_path: Path, figures: Figures) -> None:
    server = Program(tmp_path / "own")
    first = seconds_of(server.start)
    stop = server.terminate()
    again = seconds_of(server.start)
    server.close()
    figures(f"first start {first:.2f} s, later {again:.2f} s, stop {stop:.2f} s")
    assert again < first * 2
