"""What a long queue costs in Redis: adding, listing, finding and claiming at 10,000 and at 100,000 jobs, and memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count

from media_downloader.errors import ClaimRefused
from media_downloader.jobs.model import Job, Media, utc_now
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import State
from media_downloader.ports import Change, Claim, JobQuery, NewJobs
from media_downloader.stores.redis import RedisJobStore
from tests.redis_server import RedisServer

Figures = Callable[[str], None]

BATCH = 10_000
SITES = 100
ROUNDS = 101


def a_job(number: int) -> Job:
    now = utc_now()
    return Job(
        id=f"{number:032x}",
        url=f"https://video.example.org/watch?v={number:011d}&list=PL{number % 500:020d}",
        site=f"site{number % SITES}.example.org",
        options=JobOptions(folder="some folder"),
        media=Media(title=f"A title as long as they usually are, number {number}"),
        created_at=now,
        updated_at=now,
    )


async def medians(*calls: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the median of each; they take turns, so that a busy machine slows all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, own in zip(calls, times, strict=True):
            began = time.perf_counter()
            await call()
            own.append(time.perf_counter() - began)
    return [sorted(own)[ROUNDS // 2] for own in times]


async def fill(store: RedisJobStore, first: int, count: int) -> float:
    """Add jobs in requests of 10,000; return the seconds that it takes to add them, without making them up."""
    seconds = 0.0
    for start in range(first, first + count, BATCH):
        jobs = [a_job(number) for number in range(start, start + BATCH)]
        began = time.perf_counter()
        await store.add(NewJobs(jobs))
        seconds += time.perf_counter() - began
    return seconds


async def claim_and_finish(store: RedisJobStore) -> None:
    due = await store.next_due(())
    assert due is not None
    job = await store.claim(due.id, Claim("bench:1", 30, max_per_site=2))
    await store.change(job.id, Change(State.DONE, attempt=job.attempt))


def calls(store: RedisJobStore, first: Job) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what is measured."""
    fresh = count(10**6)
    full = {f"site{number}.example.org" for number in range(SITES - 1)}
    in_order = JobQuery(states=[State.QUEUED], sort="position")
    return {
        "add one": lambda: store.add(NewJobs([a_job(next(fresh))])),
        "get": lambda: store.get(first.id),
        "list the newest 50": lambda: store.find(JobQuery()),
        "list 50 in the queue's order": lambda: store.find(in_order),
        "counts": store.counts,
        "next due": lambda: store.next_due(()),
        "next due when all sites but one are full": lambda: store.next_due(full),
        "next due, claim and finish": lambda: claim_and_finish(store),
        "move to the front": lambda: store.move([first.id], None),
    }


def test_ten_times_the_jobs_cost_hardly_more(figures: Figures) -> None:
    async def run(small: RedisServer, large: RedisServer) -> None:
        stores = [RedisJobStore(server.url) for server in (small, large)]
        for store in stores:
            await store.open()
        with large.client() as client:
            empty = client.info("memory")["used_memory"]
            first = await fill(stores[0], 0, 10_000)
            whole = await fill(stores[1], 0, 100_000)
            used = client.info("memory")["used_memory"] - empty
        figures(f"added 10,000 in {first:.2f} s, 100,000 in {whole:.2f} s (in requests of 10,000)")
        figures(f"memory: {used / 100_000:.0f} bytes for each waiting job")
        # A job that stays in the queue: of the last site, and with a priority of its own.
        kept = [(await one.add(NewJobs([a_job(10**7).model_copy(update={"priority": -1})]))).jobs[0] for one in stores]
        sides = [calls(one, job) for one, job in zip(stores, kept, strict=True)]
        ratios = {}
        for name in sides[0]:
            before, after = await medians(*(side[name] for side in sides))
            ratios[name] = after / before
            figures(f"{name}: {before * 1e3:.2f} ms at 10,000, {after * 1e3:.2f} ms at 100,000, x{ratios[name]:.2f}")
        began = time.perf_counter()
        assert (await stores[1].find(JobQuery(text="no such title"))).jobs == []
        figures(f"a search through 100,000 jobs that finds nothing: {time.perf_counter() - began:.2f} s")
        for store in stores:
            await store.close()
        # Trees are a few levels deeper, and a hundred look-ups in one that fills no cache any more are slower.
        assert max(ratios.values()) < 4
        assert used / 100_000 < 4000

    with RedisServer() as small, RedisServer() as large:
        asyncio.run(run(small, large))


def test_nobody_waits_long_while_ten_thousand_are_added(figures: Figures) -> None:
    async def run(server: RedisServer) -> None:
        store, other = RedisJobStore(server.url), RedisJobStore(server.url)
        await store.open()
        await other.open()
        adding = asyncio.create_task(fill(store, 0, BATCH))
        waits = []
        while not adding.done():
            began = time.perf_counter()
            await other.counts()
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.002)
        waits.sort()
        total = await adding
        middle, worst = waits[len(waits) // 2] * 1e3, waits[-1] * 1e3
        figures(f"{total:.2f} s in all; others waited {middle:.1f} ms (median), {worst:.0f} ms (worst)")
        assert waits[-1] < total / 2
        await store.close()
        await other.close()

    with RedisServer() as server:
        asyncio.run(run(server))


def test_a_hundred_claims_of_one_job(figures: Figures) -> None:
    async def run(server: RedisServer) -> None:
        store = RedisJobStore(server.url)
        await store.open()
        await store.add(NewJobs([a_job(1)]))
        began = time.perf_counter()
        claims = (store.claim(a_job(1).id, Claim(f"bench:{number}", 30)) for number in range(100))
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        figures(f"one won after {(time.perf_counter() - began) * 1e3:.0f} ms for all of them")
        assert sum(isinstance(outcome, ClaimRefused) for outcome in outcomes) == 99
        await store.close()

    with RedisServer() as server:
        asyncio.run(run(server))
