"""Many writers at once, in many processes; one of them may be a person with redis-cli."""

import asyncio
import subprocess
import sys

import pytest

from media_downloader.jobs.state import Signal, State
from media_downloader.ports import Change, NewJobs
from media_downloader.stores.redis import RedisJobStore
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import CLAIM, a_job

CLAIMS = """
import asyncio, sys
from media_downloader.errors import ClaimRefused
from media_downloader.ports import Claim
from media_downloader.stores.redis import RedisJobStore

async def main(url, name):
    store = RedisJobStore(url)
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    claims = (store.claim("1".zfill(32), Claim(f"{name}:{n}", 30)) for n in range(50))
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    refused = sum(isinstance(outcome, ClaimRefused) for outcome in outcomes)
    won = [outcome.owner for outcome in outcomes if not isinstance(outcome, BaseException)]
    print(refused, *won, flush=True)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_of_a_hundred_claims_from_two_processes_one_wins(store: RedisJobStore, redis_url: str) -> None:
    await store.add(NewJobs([a_job(1)]))
    claimants = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLAIMS, redis_url, name), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    for claimant in claimants:
        assert claimant.stdout is not None
        while await claimant.stdout.readline() != b"ready\n":
            assert claimant.returncode is None
    outputs = await asyncio.gather(*(claimant.communicate(b"go\n") for claimant in claimants))
    told = [output.decode().splitlines()[-1].split() for output, _ in outputs]
    assert sum(int(refused) for refused, *_ in told) == 99
    (winner,) = [owner for _, *won in told for owner in won]
    assert (await store.get(a_job(1).id)).owner == winner


async def test_many_children_that_end_at_once_are_all_counted(store: RedisJobStore, redis_url: str) -> None:
    parent = a_job(1, is_playlist=True)
    children = [a_job(n, parent_id=parent.id, entry_index=n) for n in range(2, 42)]
    await store.add(NewJobs([parent, *children]))
    other = RedisJobStore(redis_url)
    await other.open()
    moves = [(store, other)[n % 2].change(child.id, Change(State.CANCELED)) for n, child in enumerate(children)]
    await asyncio.gather(*moves)
    ended = await store.get(parent.id)
    assert (ended.state, ended.children) == (State.CANCELED, {State.CANCELED: 40})
    await other.close()


@pytest.mark.parametrize("signal, state", [(Signal.PAUSE, State.PAUSED), (Signal.CANCEL, State.CANCELED)])
async def test_a_flag_that_somebody_sets_is_a_wish(
    store: RedisJobStore, redis_server: RedisServer, signal: Signal, state: State
) -> None:
    await store.add(NewJobs([a_job()]))
    job = await store.claim(a_job().id, CLAIM)
    with redis_server.client() as other:
        other.set(f"job:{job.id}:{signal}", "1")
        assert (await store.get(job.id)).signal is signal
        assert await store.renew(job.id, job.attempt, 30) is signal
        ended = await store.change(job.id, Change(State.QUEUED, attempt=job.attempt))
        assert (ended.state, ended.signal) == (state, None)
        assert not other.exists(f"job:{job.id}:{signal}")


async def test_a_flag_that_is_set_while_the_job_waits_is_there_for_its_runner(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    await store.add(NewJobs([a_job()]))
    with redis_server.client() as other:
        other.set(f"job:{a_job().id}:pause", "1")
        claimed = await store.claim(a_job().id, CLAIM)
        assert claimed.signal is Signal.PAUSE
        assert await store.renew(claimed.id, claimed.attempt, 30) is Signal.PAUSE
        other.delete(f"job:{a_job().id}:pause")
        assert await store.renew(claimed.id, claimed.attempt, 30) is None


async def test_our_own_wishes_can_be_seen_by_others(store: RedisJobStore, redis_server: RedisServer) -> None:
    await store.add(NewJobs([a_job()]))
    job = await store.claim(a_job().id, CLAIM)
    await store.send_signal(job.id, Signal.PAUSE)
    with redis_server.client() as other:
        assert other.exists(f"job:{job.id}:pause")
        assert other.hget(f"job:{job.id}", "signal") == "pause"
        await store.change(job.id, Change(State.PAUSED, attempt=job.attempt))
        assert not other.exists(f"job:{job.id}:pause")
        assert other.hget(f"job:{job.id}", "signal") is None


def test_a_store_can_be_used_in_one_event_loop_after_another(redis_url: str) -> None:
    store = RedisJobStore(redis_url)

    async def contend() -> None:
        await store.open()
        await store.add(NewJobs([a_job()]))
        moves = [store.change(a_job().id, Change(facts={"notices": (str(number),)})) for number in range(20)]
        await asyncio.gather(*moves)
        await store.close()

    for _ in range(2):
        asyncio.run(contend())
