"""How fast the API answers, and that nothing it does keeps others waiting."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import httpx2

from bench.conftest import median_seconds, seconds_of
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program

Start = Callable[..., Program]
Figures = Callable[[str], None]
#: Links in one request, as many as may be.
MOST = 2_000


def fill(server: Program, first: int, count: int) -> None:
    """Add so many jobs, in as few requests as may be."""
    for start in range(first, first + count, MOST):
        urls = [f"http://93.184.216.34/{number}.mp4" for number in range(start, min(start + MOST, first + count))]
        server.answer(server.client.post("/jobs", json={"urls": urls}, timeout=60), 201)


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

    def measure() -> dict[str, float]:
        fresh = iter(range(10**6))
        return {
            "add": median_seconds(lambda: server.add(f"http://93.184.216.34/n{next(fresh)}.mp4"), 40),
            "list": median_seconds(lambda: server.client.get("/jobs", params={"limit": 50}), 40),
            "health": median_seconds(lambda: server.client.get("/health"), 40),
        }

    fill(server, 0, 100)
    small = measure()
    adding = seconds_of(lambda: fill(server, 100, 10_000))
    large = measure()
    for name, before in small.items():
        ratio = large[name] / before
        figures(f"{name}: {before * 1e3:.2f} ms with 100 jobs, {large[name] * 1e3:.2f} ms with 10,000, x{ratio:.2f}")
        assert ratio < 2
    figures(f"adding 10,000 links: {adding:.2f} s")


def waits(url: str, method: str, path: str, body: object, stop: float) -> list[float]:
    """Return how long each of many requests took."""
    times = []
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
        while time.monotonic() < stop:
            times.append(seconds_of(lambda: client.request(method, path, json=body).raise_for_status()))
            time.sleep(0.002)
    return times


def test_nobody_waits_while_ten_thousand_links_are_added(program: Start, figures: Figures) -> None:
    """Readers wait for the event loop, writers for the one thread that writes."""
    server = program()
    server.client.post("/queue/pause", json={})
    other = server.add("http://93.184.216.34/other.mp4")["id"]
    # In processes of their own: here they would wait for this one, which reads thousands of jobs.
    with get_context("spawn").Pool(2) as pool:
        stop = time.monotonic() + 8
        asked = [("GET", "/health/live", None), ("PATCH", f"/jobs/{other}", {"not_before": "2099-01-01T00:00:00Z"})]
        watching = [pool.apply_async(waits, (server.url, *ask, stop)) for ask in asked]
        took: list[float] = []
        while time.monotonic() < stop - 1 and len(took) < 5:
            took.append(seconds_of(lambda: fill(server, len(took) * MOST, MOST)))
        found = [watch.get(60) for watch in watching]
    one = sorted(took)[len(took) // 2]
    figures(f"{MOST} links in {one:.2f} s, {len(took) * MOST} in {sum(took):.2f} s")
    for name, times in zip(("reads", "writes"), found, strict=True):
        times.sort()
        median, late, worst = times[len(times) // 2], times[-len(times) // 100], times[-1]
        figures(
            f"meanwhile {name} took {median * 1e3:.1f} ms, 99 % under {late * 1e3:.1f} ms, worst {worst * 1e3:.1f} ms"
        )
        assert median < one / 20
        assert worst < one / 2


def test_a_playlist_of_a_thousand_is_acted_on_as_one(program: Start, origin: Origin, figures: Figures) -> None:
    server = program()
    single = server.add("http://93.184.216.34/single.mp4", paused=True)["id"]
    server.client.post("/queue/pause", json={})
    items = "".join(
        f"<item><title>n{number}</title>"
        f'<enclosure url="{origin.url("small.mp4", f"n{number}")}" type="video/mp4"/></item>'
        for number in range(1000)
    )
    origin.page("feed.xml", f'<?xml version="1.0"?><rss version="2.0"><channel><title>f</title>{items}</channel></rss>')
    parent = server.add(origin.url("feed.xml"))["id"]
    server.client.post("/queue/resume", json={})
    server.wait_for(parent, lambda job: job["state"] == "extracting", "the listing")
    server.client.post("/queue/pause", json={})
    server.wait_for(parent, lambda job: job["is_playlist"], "a thousand entries", 60)

    def act(job_id: str, action: str) -> float:
        return seconds_of(lambda: server.answer(server.client.post(f"/jobs/{job_id}/{action}", timeout=60)))

    alone = sorted(act(single, action) for _ in range(10) for action in ("resume", "pause"))[10]
    for action in ("pause", "resume", "cancel"):
        together = act(parent, action)
        figures(f"{action} of 1,000: {together * 1e3:.0f} ms, of one {alone * 1e3:.1f} ms, x{together / alone:.0f}")
        assert together < alone * 200


def move_all(server: Program, ids: Sequence[str]) -> list[float]:
    """Move each job right before the first, and return how long each move took."""

    def move(job_id: str) -> None:
        server.answer(server.client.patch(f"/jobs/{job_id}", json={"before": ids[0]}))

    return [seconds_of(partial(move, job_id)) for job_id in ids[1:]]


def test_a_move_costs_no_more_in_a_long_queue(program: Start, figures: Figures) -> None:
    """Also where there is no room any more: one in 32 moves to the same place has to make it."""
    server = program()
    server.client.post("/queue/pause", json={})
    slowest = {}
    for count in (100, 10_000):
        fill(server, count, count)
        jobs = server.answer(server.client.get("/jobs", params={"sort": "-created_at", "limit": 100}))["jobs"]
        ids = [job["id"] for job in jobs]
        slowest[count] = sorted(move_all(server, ids))[-4]
    figures(f"slowest of 99 moves to one place: {[f'{seconds * 1e3:.1f} ms' for seconds in slowest.values()]}")
    assert slowest[10_000] < slowest[100] * 4


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
