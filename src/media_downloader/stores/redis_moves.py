"""Places in the queue: jobs move right before another one, or before all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from media_downloader.jobs.model import Job
from media_downloader.jobs.state import State
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import redis_queries as queries
from media_downloader.stores import rules
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_rows import Stored
from media_downloader.stores.redis_work import Work
from media_downloader.stores.redis_writer import Conflict, RedisWriter
from media_downloader.stores.rules import GAP

#: Room that each job gets when the gaps before a place are used up.
SMALL_GAP = 1 << 16
#: So many jobs before a place are read at first to find room.
NEIGHBOURS = 64

#: A priority and a position.
Place = tuple[int, int]
#: An index's member, and the job that it is of.
Neighbour = tuple[str, Stored]


class Gap(NamedTuple):
    """Where there is room: places are ``low + step``, ``low + 2 * step``, ..."""

    low: int
    step: int


async def move(writer: RedisWriter, job_ids: Sequence[str], before: str | None, facts: Mapping[str, Any]) -> list[Job]:
    """Give the jobs places right before another one, or before all, and the facts."""

    async def once() -> list[Job]:
        work = await writer.load([*job_ids, *([before] if before is not None else [])], "alone")
        jobs = [work.job(job_id) for job_id in job_ids]
        target = None if before is None else work.job(before)
        for job in jobs if target is None else [*jobs, target]:
            rules.must_wait(job)
        if not jobs or before in job_ids:
            places = [(job.priority, job.position) for job in jobs]
        elif target is None:
            places = await _places_before_all(writer.link, work, len(jobs))
        else:
            work.rely_on(target.id)
            places = await _places_before(writer.link, work, target, job_ids)
        moved = []
        for job, (priority, position) in zip(jobs, places, strict=True):
            place = {"priority": priority, "position": position, "updated_at": work.now}
            moved.append(work.save(job.model_copy(update={**facts, **place})))
        if moved:
            await writer.commit(work)
        return moved

    return await writer.repeat(once)


async def _places_before_all(link: RedisLink, work: Work, count: int) -> list[Place]:
    """Return places before the first of the queue, which must still be that when they are taken."""
    ask = ("ZRANGE", keys.index(keys.PLACE, State.QUEUED), "0", "0")
    (first,) = await queries.many(link, ask)
    if not first:
        # What was read as queued has left the queue meanwhile.
        raise Conflict
    work.require("first", first[0], *ask)
    rank, position, _ = keys.numbers_of(keys.PLACE, first[0])
    return [(-rank, position - GAP * (count - number)) for number in range(count)]


async def _places_before(link: RedisLink, work: Work, target: Job, job_ids: Sequence[str]) -> list[Place]:
    """Return places between the target and what stands before it, making room when there is none."""
    member = keys.place_member(target, work.sequence(target.id))
    found = await _neighbours(link, target, member, 1)
    low = _position(found[0]) if found else target.position - (len(job_ids) + 1) * GAP
    gap = Gap(low, (target.position - low) // (len(job_ids) + 1))
    if gap.step > 0:
        _nobody_between(work, target, member, found, 0)
    else:
        gap = await _make_room(link, work, target, job_ids)
    return [(target.priority, gap.low + gap.step * number) for number in range(1, len(job_ids) + 1)]


async def _make_room(link: RedisLink, work: Work, target: Job, job_ids: Sequence[str]) -> Gap:
    """Spread the jobs before the target anew, only so many that each gets a little room; return what is left free.

    Each move to the very same place halves the gap there, so beyond a few dozen jobs there always is room.
    """
    member = keys.place_member(target, work.sequence(target.id))
    places, count = len(job_ids), NEIGHBOURS
    while True:
        found = await _neighbours(link, target, member, count)
        others: list[Stored] = []
        for number, neighbour in enumerate(found):
            if neighbour[1].id in job_ids:
                continue
            low = _position(neighbour)
            step = (target.position - low) // (len(others) + places + 1)
            if step >= SMALL_GAP:
                _nobody_between(work, target, member, found, number)
                return _spread(work, others, Gap(low, step))
            others.append(neighbour[1])
        if len(found) < count:
            _nobody_between(work, target, member, found, len(found))
            low = target.position - (len(others) + places + 1) * GAP
            return _spread(work, others, Gap(low, GAP))
        count *= 4


def _spread(work: Work, jobs: list[Stored], gap: Gap) -> Gap:
    """``jobs`` come nearest first. They keep their order, and the places behind the last of them are free."""
    work.adopt(jobs)
    for number, record in enumerate(reversed(jobs), start=1):
        work.save(work.job(record.id).model_copy(update={"position": gap.low + number * gap.step}))
    return Gap(gap.low + len(jobs) * gap.step, gap.step)


def _nobody_between(work: Work, target: Job, member: str, found: Sequence[Neighbour], number: int) -> None:
    """Let the change depend on that: between neighbour ``number`` and the target are the nearer ones, and no other.

    The target, and each neighbour that moves, must be as it was read anyway.
    """
    low = f"({found[number][0]}" if number < len(found) else f"[{keys.rank_prefix(-target.priority)}"
    counted = Counter(record.fields.get("state") for _, record in found[:number])
    for state in State:
        work.require("is", str(counted[state]), "ZLEXCOUNT", keys.index(keys.PLACE, state), low, f"({member}")


async def _neighbours(link: RedisLink, target: Job, member: str, count: int) -> list[Neighbour]:
    """Return the jobs of the target's priority that stand before it, whatever their state, nearest first."""
    ask: dict[str, Any] = {
        "keys": [keys.index(keys.PLACE, state) for state in State],
        "reverse": True,
        "near": f"({member}",
        "far": f"[{keys.rank_prefix(-target.priority)}",
    }
    return await queries.scan(link, ask, count)


def _position(neighbour: Neighbour) -> int:
    return keys.numbers_of(keys.PLACE, neighbour[0])[1]
