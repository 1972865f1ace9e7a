"""What each write of the JobStore reads, judges and writes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from media_downloader.errors import InvalidTransition, JobError, LeaseLost
from media_downloader.jobs.model import Cooldown, Job, Progress, QueueState
from media_downloader.jobs.state import RUNNING, Signal
from media_downloader.ports import Change, Claim
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import redis_queries as queries
from media_downloader.stores import rules
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_rows import fact, progress_text
from media_downloader.stores.redis_work import Work
from media_downloader.stores.redis_writer import Conflict, RedisWriter, off_loop
from media_downloader.stores.rules import GAP

#: Things that are forgotten in one step.
FORGOTTEN_AT_ONCE = 1000
#: Children of a playlist that are removed in one step: Redis does nothing else meanwhile.
REMOVED_AT_ONCE = 300

#: The newest progress of a job that is not stored yet, and the attempt that it is of.
Newest = tuple[int, Progress]


async def change(writer: RedisWriter, job_id: str, wanted: Change, newest: Newest | None) -> Job:
    """Check the change against the job as it is now, and write it. ``newest`` is progress not yet stored."""

    async def once() -> Job:
        work = await writer.load([job_id])
        job = work.job(job_id)
        if wanted.attempt is not None:
            writer.check_claim(job, wanted.attempt)
        after = rules.changed(job, wanted, work.now, newest)
        (after,) = await _at_their_ends(writer, [(job, after)])
        await writer.commit(work.saving(after))
        return after

    changed = await writer.repeat(once)
    if changed.state not in RUNNING:
        writer.forget_claim(job_id)
    return changed


async def _at_their_ends(writer: RedisWriter, changed: Sequence[tuple[Job, Job]]) -> list[Job]:
    """Return jobs as they shall be, those that got another priority behind the last of it, in order."""
    counted = Counter(after.priority for before, after in changed if after.priority != before.priority)
    if not counted:
        return [after for _, after in changed]
    _, ends = await writer.take_numbers(0, counted)
    places = {priority: ends[priority] - GAP * count for priority, count in counted.items()}
    placed = []
    for before, after in changed:
        if after.priority == before.priority:
            placed.append(after)
        else:
            places[after.priority] += GAP
            placed.append(after.model_copy(update={"position": places[after.priority]}))
    return placed


async def change_many(
    writer: RedisWriter, wishes: Mapping[str, Change | Signal], newest: Mapping[str, Newest]
) -> list[Job]:
    """Apply what applies, in one commit."""

    async def once() -> list[Job]:
        work = await writer.load(wishes)
        changed = await off_loop(lambda: list(_judged(writer, work, wishes, newest)), len(wishes))
        afters = await _at_their_ends(writer, changed)
        for after in afters:
            work.save(after)
        if afters:
            await writer.commit(work)
        return afters

    jobs = await writer.repeat(once)
    for job in jobs:
        if job.state not in RUNNING:
            writer.forget_claim(job.id)
    return jobs


def _judged(
    writer: RedisWriter, work: Work, wishes: Mapping[str, Change | Signal], newest: Mapping[str, Newest]
) -> Iterator[tuple[Job, Job]]:
    for job_id, wish in wishes.items():
        job = work.find(job_id)
        if job is None:
            continue
        try:
            if isinstance(wish, Signal):
                after = rules.signaled(job, wish, work.now)
            else:
                if wish.attempt is not None:
                    writer.check_claim(job, wish.attempt)
                after = rules.changed(job, wish, work.now, newest.get(job_id))
        except (InvalidTransition, LeaseLost):
            continue
        if after is not job:
            yield job, after


async def claim(writer: RedisWriter, job_id: str, wanted: Claim) -> Job:
    """Judge everything that a claim depends on, and take the job."""

    async def once() -> Job:
        work = await writer.load([job_id])
        job = work.job(job_id)
        after = rules.claimed(job, wanted, await _queue_now(writer.link, work, job, wanted))
        await writer.commit(work.saving(after))
        return after

    claimed = await writer.repeat(once)
    writer.remember_claim(claimed)
    return claimed


async def _queue_now(link: RedisLink, work: Work, job: Job, wanted: Claim) -> rules.QueueNow:
    """Return what the claim is judged by, and let the change depend on that."""
    of_site = ("ZLEXCOUNT", keys.RUNNING, f"[{job.site}\0", f"({job.site}\1")
    queue, cooldown, running_of_site, running = await queries.many(
        link, ("GET", keys.QUEUE), ("HGET", keys.COOLDOWNS, job.site), of_site, ("ZCARD", keys.LEASED)
    )
    work.require("is", queue or "", "GET", keys.QUEUE)
    work.require("is", cooldown or "", "HGET", keys.COOLDOWNS, job.site)
    if wanted.max_per_site is not None:
        work.require("below", str(wanted.max_per_site), *of_site)
    if wanted.max_running is not None:
        work.require("below", str(wanted.max_running), "ZCARD", keys.LEASED)
    return rules.QueueNow(
        now=work.now,
        due=work.is_due(job),
        paused=queue is not None and fact(QueueState, queue).paused,
        cooling=cooldown is not None and fact(Cooldown, cooldown).until > work.now,
        running_of_site=int(running_of_site),
        running=int(running),
    )


async def renew(writer: RedisWriter, job_id: str, attempt: int, lease_seconds: float) -> Signal | None:
    """Extend a lease that still holds, by the server's clock when it writes."""

    async def once() -> Signal | None:
        work = await writer.load([job_id], "alone")
        job = work.job(job_id)
        writer.check_claim(job, attempt)
        ended = job.lease_until is not None and job.lease_until < work.now
        after = rules.renewed(job, attempt, work.now + timedelta(seconds=lease_seconds), ended=ended)
        if job.lease_until is not None:
            work.require("before", str(keys.micros(job.lease_until)))
        await writer.commit(work.saving(after))
        return job.signal

    return await writer.repeat(once)


async def send_signal(writer: RedisWriter, job_id: str, signal: Signal) -> Job:
    """Note a wish."""

    async def once() -> Job:
        work = await writer.load([job_id], "alone")
        job = work.job(job_id)
        after = rules.signaled(job, signal, work.now)
        if after is not job:
            await writer.commit(work.saving(after))
        return after

    return await writer.repeat(once)


async def save_progress(link: RedisLink, newest: Mapping[str, Newest]) -> list[str]:
    """Write progress alone, where the attempt still holds the job; return the ids where it does not."""
    arguments = [
        part
        for job_id, (attempt, progress) in newest.items()
        for part in (job_id, str(attempt), progress_text(progress))
    ]
    stale: list[str] = await link.run("progress", *arguments)
    return stale


async def release_expired(writer: RedisWriter) -> list[Job]:
    """Take jobs from runners whose lease is out."""
    # Read as a write reads: whether everything is lost is learned with the clock.
    now = keys.micros((await writer.load([], "alone")).now)
    (ids,) = await queries.many(writer.link, ("ZRANGEBYSCORE", keys.LEASED, "-inf", f"({now}"))
    return await _release(writer, ids, None)


async def release_owner(writer: RedisWriter, owner_prefix: str) -> list[Job]:
    """Take jobs from owners that are gone."""
    (ids,) = await queries.many(writer.link, ("ZRANGE", keys.LEASED, "0", "-1"))
    return await _release(writer, ids, owner_prefix)


async def _release(writer: RedisWriter, ids: Sequence[str], owner_prefix: str | None) -> list[Job]:
    """Release each job that is, when it is its turn, still held by the owner, or beyond its lease."""
    jobs = []
    for job_id in ids:

        async def once(job_id: str = job_id) -> Job | None:
            work = await writer.load([job_id])
            job = work.job(job_id)
            if job.lease_until is None or job.owner is None:
                return None
            lost = job.lease_until < work.now if owner_prefix is None else job.owner.startswith(owner_prefix)
            if not lost:
                return None
            after = rules.released(job, work.now, abandoned=owner_prefix is None)
            await writer.commit(work.saving(after))
            return after

        try:
            released = await writer.repeat(once)
        except JobError:
            # Removed meanwhile, or another version's: not ours to release.
            continue
        if released is not None:
            jobs.append(released)
    return jobs


async def remove(writer: RedisWriter, job_id: str, *, expired: bool) -> Job:
    """Delete the job and its children, leaving tombstones when it expired; many children in steps, the job last."""
    while await writer.repeat(lambda: _remove_some(writer, job_id, expired=expired)):
        pass

    async def once() -> Job:
        work = await writer.load([job_id], "family")
        job = work.job(job_id)
        family = [job, *work.children(job_id)]
        rules.must_be_removable(family, job.state, expired=expired)
        _bury(work, family, expired=expired)
        await writer.commit(work)
        return job

    return await writer.repeat(once)


async def _remove_some(writer: RedisWriter, job_id: str, *, expired: bool) -> bool:
    """Delete as many children as one step may, if there are more; say whether there were."""
    ask = ("ZRANGE", keys.children_key(job_id), "0", str(REMOVED_AT_ONCE))
    (members,) = await queries.many(writer.link, ask)
    if len(members) <= REMOVED_AT_ONCE:
        return False
    work = await writer.load([job_id, *(member.rpartition(":")[2] for member in members[:-1])], "alone")
    parent = work.job(job_id)
    rules.must_have_removable_children(parent, expired=expired)
    children = work.children(job_id)
    if not children:
        # The rest is not theirs who the index says; the last step refuses or ends it.
        return False
    rules.must_be_removable(children, parent.state, expired=expired)
    _bury(work, children, expired=expired)
    await writer.commit(work)
    return True


def _bury(work: Work, jobs: Sequence[Job], *, expired: bool) -> None:
    for job in jobs:
        work.delete(job)
        if expired:
            work.also("HSET", keys.TOMBSTONES, job.id, rules.buried(job, work.now).model_dump_json())
            work.also("ZADD", keys.TOMBSTONE_TIMES, str(keys.micros(work.now)), job.id)


async def set_queue_state(writer: RedisWriter, state: QueueState, expected: QueueState | None) -> bool:
    """Set it, unless it is not as expected."""

    async def once() -> bool:
        work = await writer.load([], "alone")
        if expected is not None:
            (text,) = await queries.many(writer.link, ("GET", keys.QUEUE))
            if (QueueState() if text is None else fact(QueueState, text)) != expected:
                return False
            work.require("is", text or "", "GET", keys.QUEUE)
        work.also("SET", keys.QUEUE, state.model_dump_json())
        await writer.commit(work)
        return True

    return await writer.repeat(once)


async def set_cooldown(writer: RedisWriter, cooldown: Cooldown) -> None:
    """Keep the later end of the two."""

    async def once() -> None:
        known = await queries.hash_value(writer.link, keys.COOLDOWNS, cooldown.site)
        if known is not None and fact(Cooldown, known).until >= cooldown.until:
            return
        work = await writer.load([], "alone")
        work.require("is", known or "", "HGET", keys.COOLDOWNS, cooldown.site)
        work.also("HSET", keys.COOLDOWNS, cooldown.site, cooldown.model_dump_json())
        await writer.commit(work)

    await writer.repeat(once)


async def drop_tombstones(writer: RedisWriter, before: datetime) -> int:
    """Forget what is older than the moment."""
    dropped = 0
    for table, times in ((keys.TOMBSTONES, keys.TOMBSTONE_TIMES), (keys.IDEMPOTENCY, keys.IDEMPOTENCY_TIMES)):
        while old := await queries.noted_before(writer.link, times, before, FORGOTTEN_AT_ONCE):
            work = await writer.load([], "alone")
            work.also("HDEL", table, *old)
            work.also("ZREM", times, *old)
            try:
                await writer.commit(work)
            except Conflict:
                break
            dropped += len(old)
    if ended := await queries.ended_cooldowns(writer.link, before):
        await queries.many(writer.link, ("HDEL", keys.COOLDOWNS, *ended))
    return dropped
