"""What is in Redis: readable by people, indexes that say what the jobs say, and a newer version's jobs untouched."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from media_downloader.errors import JobError, JobUnreadable
from media_downloader.jobs.model import Artifact, Job, Media, utc_now
from media_downloader.jobs.state import RUNNING, Signal, State
from media_downloader.ports import Change, Claim, JobQuery, JobStore, NewJobs
from media_downloader.stores import redis_keys as keys
from media_downloader.stores.redis import RedisJobStore
from media_downloader.stores.redis_rows import BESIDE, FORMAT, TEXT_FIELDS, Stored
from media_downloader.stores.sqlite import SqliteJobStore
from tests.redis_server import RedisServer
from tests.unit.stores.jobs import CLAIM, a_job


async def test_a_person_can_read_a_job(store: RedisJobStore, redis_server: RedisServer) -> None:
    await store.add(NewJobs([a_job(1, media=Media(title="Grüße"), priority=3)]))
    await store.claim(a_job(1).id, CLAIM)
    with redis_server.client() as person:
        assert person.smembers("jobs:all") == {a_job(1).id}
        told = person.hgetall(f"job:{a_job(1).id}")
    assert told["state"] == "extracting"
    assert (told["url"], told["title"], told["attempt"], told["owner"]) == (a_job(1).url, "Grüße", "1", "test:1")
    assert datetime.fromisoformat(told["lease_until"]) > datetime.now(UTC)


def test_every_field_of_a_job_has_its_way_of_being_written() -> None:
    assert Job.model_fields.keys() >= TEXT_FIELDS
    assert not Job.model_fields.keys() & BESIDE


def test_who_changes_what_a_job_is_made_of_raises_its_format() -> None:
    """Or an older version that runs beside takes a newer job for one of its own, and its new fields for a note."""
    fields = """
        id url site options state signal attempt owner lease_until priority position not_before ready_at crashes retries
        abandoned extract_anew progress media artifacts failure workdir notices parent_id entry_index is_playlist
        children created_at started_at finished_at updated_at
    """
    assert {1: set(fields.split())}[FORMAT] == Job.model_fields.keys()


async def test_a_note_that_a_person_leaves_in_a_job_is_in_nobody_s_way(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    await store.add(NewJobs([a_job(1)]))
    with redis_server.client() as person:
        person.hset(f"job:{a_job(1).id}", "note", "hi")
        assert (await store.claim(a_job(1).id, CLAIM)).state is State.EXTRACTING
        await store.change(a_job(1).id, Change(State.PAUSED))
        assert person.hget(f"job:{a_job(1).id}", "note") == "hi"
        await store.remove(a_job(1).id)
        assert not person.exists(f"job:{a_job(1).id}")


@pytest.mark.parametrize(
    "damage",
    [("format", "2"), ("format", "later"), ("state", "dreaming"), ("media", "{"), ("progress", '{"of_tomorrow": 1}')],
)
async def test_a_job_of_another_version_is_left_alone_and_in_nobody_s_way(
    store: RedisJobStore, redis_server: RedisServer, damage: tuple[str, str]
) -> None:
    newer, ours = a_job(1), a_job(2)
    await store.add(NewJobs([newer, ours]))
    with redis_server.client() as other:
        other.hset(f"job:{newer.id}", *damage)
        before = other.hgetall(f"job:{newer.id}")
        for ask in (
            store.get(newer.id),
            store.claim(newer.id, CLAIM),
            store.change(newer.id, Change(State.PAUSED)),
            store.remove(newer.id),
            store.move([newer.id], ours.id),
            store.move([ours.id], newer.id),
        ):
            with pytest.raises(JobUnreadable):
                await ask
        again = await store.add(NewJobs([newer, ours], "key", "digest"))
        assert [job.id for job in again.jobs] == [ours.id]
        pause, resume = Change(facts={"notices": ("a",)}), Change(facts={"notices": ("b",)})
        assert [job.id for job in await store.change_many({newer.id: pause, ours.id: resume})] == [ours.id]
        assert [job.id for job in (await store.find(JobQuery())).jobs] == [ours.id]
        assert (await store.next_due(()) or newer).id == ours.id
        await store.change(ours.id, Change(State.CANCELED))
        assert await store.next_due(()) is None
        assert [job.id for job in await store.finished_before(utc_now() + timedelta(hours=1), 10)] == [ours.id]
        assert other.hgetall(f"job:{newer.id}") == before


async def test_a_newer_version_s_running_job_is_not_taken_from_it(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    await store.add(NewJobs([a_job(1), a_job(2)]))
    for number in (1, 2):
        await store.claim(a_job(number).id, Claim(f"test:{number}", 30))
    with redis_server.client() as other:
        other.hset(f"job:{a_job(1).id}", "format", "2")
    assert [job.id for job in await store.release_owner("test:")] == [a_job(2).id]


def expected_entries(client: redis.Redis) -> set[tuple[str, str]]:
    """Return every index entry that follows from the jobs' hashes, whatever the time."""
    found: set[tuple[str, str]] = set()
    for job_id in client.smembers("jobs:all"):
        record = Stored(job_id, client.hgetall(f"job:{job_id}"))
        found |= keys.entries(record.job(), record.sequence, due=record.due).keys()
    return found


def actual_entries(client: redis.Redis) -> set[tuple[str, str]]:
    remembered = {keys.TOMBSTONE_TIMES, keys.IDEMPOTENCY_TIMES}
    indexes = [key for key in client.scan_iter() if client.type(key) == "zset" and key not in remembered]
    return {(key, member) for key in indexes for member in client.zrange(key, 0, -1)}


class Pair:
    """The same steps in both stores; what comes of them must be the same."""

    def __init__(self, lots: random.Random, *stores: JobStore) -> None:
        self.lots = lots
        self.stores = stores

    async def do(self, method: str, *arguments: object, **named: object) -> None:
        outcomes = [await self._outcome(store, method, *arguments, **named) for store in self.stores]
        assert outcomes[0] == outcomes[1], (method, arguments)

    async def _outcome(self, store: JobStore, method: str, *arguments: object, **named: object) -> object:
        try:
            return told(await getattr(store, method)(*arguments, **named))
        except JobError as error:
            return (type(error), error.detail, dict(error.facts))

    async def step(self) -> None:
        job_id, other, third = (a_job(number).id for number in self.lots.sample(range(12), 3))
        attempt = self.lots.choice([None, 0, 1, 2, 3])
        parent = self.lots.choice([None, None, a_job(0).id, a_job(11).id])
        new = a_job(int(job_id, 16), parent_id=parent, priority=self.lots.choice([0, 0, 1]), workdir=f"md_{job_id}")
        to = self.lots.choice(list(State))
        facts = self.lots.choice(
            [
                *({}, {"workdir": None}, {"priority": self.lots.randrange(3)}, {"artifacts": (ARTIFACT,)}),
                *({"is_playlist": True}, {"ready_at": LATER}, {"ready_at": None}),
            ]
        )
        signal = self.lots.choice(list(Signal))
        await self.lots.choice(
            [
                lambda: self.do("add", NewJobs([new])),
                lambda: self.do("claim", job_id, Claim(f"test:{other}", 60, max_per_site=3)),
                lambda: self.do("change", job_id, Change(to, facts, attempt=attempt)),
                lambda: self.do("change", job_id, Change(self.lots.choice(sorted(RUNNING)), facts)),
                lambda: self.do("send_signal", job_id, signal),
                lambda: self.do("renew", job_id, attempt or 1, 60),
                lambda: self.do("change_many", {job_id: Change(to, facts, attempt=attempt), other: signal}),
                # Not before all: where that is beside jobs that do not wait is each store's own.
                lambda: self.do("move", [job_id], other),
                lambda: self.do("move", [job_id, third], self.lots.choice([third, other]), {"notices": (to,)}),
                lambda: self.do("remove", job_id, expired=self.lots.choice([True, False])),
                lambda: self.do("release_owner", f"test:{other}"),
            ]
        )()

    async def look(self) -> None:
        for sort in ("created_at", "position", "-created_at"):
            await self.do("find", JobQuery(sort=sort, limit=7))
        await self.do("find", JobQuery(parent_id=a_job(0).id, states=[State.QUEUED, State.DONE]))
        for method in ("counts", "running_by_site", "workdirs"):
            await self.do(method)
        await self.do("next_due", ())
        await self.do("next_due", (), {a_job(2).id, a_job(3).id})
        await self.do("next_ready_at")
        outcomes = [await store.finished_before(LATER, 50) for store in self.stores]
        assert {job.id for job in outcomes[0]} == {job.id for job in outcomes[1]}


LATER = utc_now() + timedelta(hours=1)
ARTIFACT = Artifact(name="a.mp4", size_bytes=1, type="video/mp4")
#: What differs between two stores that were asked the same: clocks, and the numbers that give an order.
OWN = {"position", "created_at", "updated_at", "started_at", "finished_at", "lease_until"}


def told(answer: object) -> object:
    """Return an answer without what is each store's own."""
    if isinstance(answer, Job):
        return answer.model_dump(exclude=OWN) | {"ends": (answer.finished_at is None, answer.lease_until is None)}
    jobs = getattr(answer, "jobs", answer)
    return [told(job) for job in jobs] if isinstance(jobs, list) else jobs


@pytest.mark.parametrize("seed", range(6))
async def test_both_stores_answer_alike_and_the_indexes_follow_the_jobs(
    store: RedisJobStore, redis_server: RedisServer, tmp_path: Path, seed: int
) -> None:
    other = SqliteJobStore(tmp_path / "jobs.db")
    await other.open()
    pair = Pair(random.Random(seed), store, other)
    await pair.do("add", NewJobs([a_job(0, is_playlist=True)]))
    await pair.do("add", NewJobs([a_job(number, parent_id=a_job(0).id) for number in (1, 2)]))
    for number in range(150):
        await pair.step()
        if number % 10 == 0:
            await pair.look()
            with redis_server.client() as client:
                assert actual_entries(client) == expected_entries(client)
    await other.close()
