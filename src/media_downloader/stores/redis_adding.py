"""How jobs are added to the JobStore in Redis, and how an add is remembered under its key."""

import json
from collections import Counter
from collections.abc import Sequence

from media_downloader.jobs.model import Job
from media_downloader.ports import Added, NewJobs
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import redis_queries as queries
from media_downloader.stores import rules
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_rows import readable
from media_downloader.stores.redis_work import Work
from media_downloader.stores.redis_writer import RedisWriter, off_loop
from media_downloader.stores.rules import GAP

#: A sequence number and a position for each new job.
Numbers = Sequence[tuple[int, int]]


async def add(writer: RedisWriter, new: NewJobs) -> Added:
    """Insert every job that is not there yet, and note the key."""
    key, digest = new.idempotency_key, new.request_digest or ""
    numbers: Numbers = []

    async def once() -> Added:
        nonlocal numbers
        if key is not None and (known := await replay(writer.link, key, digest)) is not None:
            return known
        work = await _loaded(writer, new.jobs)
        numbers = numbers or await _number(writer, new.jobs)
        stored = await off_loop(lambda: _insert_new(work, new.jobs, numbers), len(new.jobs))
        if key is not None:
            work.require("is", "", "HGET", keys.IDEMPOTENCY, key)
            note = {"digest": digest, "job_ids": [job.id for job in stored], "note": new.note}
            work.also("HSET", keys.IDEMPOTENCY, key, json.dumps(note))
            work.also("ZADD", keys.IDEMPOTENCY_TIMES, str(keys.micros(work.now)), key)
        if work.size() > 0:
            await writer.commit(work)
        return Added(stored)

    return await writer.repeat(once)


async def replay(link: RedisLink, key: str, digest: str) -> Added | None:
    """Return what was added under a key. Raises ``IdempotencyConflict``."""
    text = await queries.hash_value(link, keys.IDEMPOTENCY, key)
    if text is None:
        return None
    known = json.loads(text)
    rules.must_be_same(known["digest"], digest)
    ids = known["job_ids"]
    return Added(readable((await link.load(ids)).records), replayed=True, ids=ids, note=known.get("note"))


async def rebuild(writer: RedisWriter, jobs: Sequence[Job]) -> None:
    """Insert every job that is not there yet, and note that nothing more is to be found."""
    numbers: Numbers = []

    async def once() -> None:
        nonlocal numbers
        work = await _loaded(writer, jobs)
        numbers = numbers or await _number(writer, jobs)
        await off_loop(lambda: _insert_new(work, jobs, numbers), len(jobs))
        work.also("DEL", keys.REBUILD)
        await writer.commit(work)

    await writer.repeat(once)
    writer.learn(is_new=False)


async def _loaded(writer: RedisWriter, jobs: Sequence[Job]) -> Work:
    ids = dict.fromkeys(one for job in jobs for one in (job.id, job.parent_id) if one is not None)
    return await writer.load(ids, "alone")


async def _number(writer: RedisWriter, jobs: Sequence[Job]) -> Numbers:
    counted = Counter(job.priority for job in jobs)
    last, ends = await writer.take_numbers(len(jobs), counted)
    places = {priority: ends[priority] - GAP * count for priority, count in counted.items()}
    numbers = []
    for sequence, job in enumerate(jobs, start=last - len(jobs) + 1):
        places[job.priority] += GAP
        numbers.append((sequence, places[job.priority]))
    return numbers


def _insert_new(work: Work, jobs: Sequence[Job], numbers: Numbers) -> list[Job]:
    """Return the jobs as they are now; one that is there and cannot be read is left as it is, and left out."""
    for job, (sequence, position) in zip(jobs, numbers, strict=True):
        if not work.has(job.id):
            wished = rules.as_wished(job, work.stored(job.parent_id), work.now)
            work.insert(wished.model_copy(update={"position": position}), sequence)
    return [stored for job in jobs if (stored := work.find(job.id)) is not None]
