"""What each read of the JobStore asks Redis."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from media_downloader.errors import InvalidCursor, JobError
from media_downloader.jobs.model import Cooldown, Job, QueueState, Tombstone
from media_downloader.jobs.state import State
from media_downloader.ports import JobPage, JobQuery
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import rules
from media_downloader.stores.cursors import decode_cursor, encode_cursor
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_rows import Stored, fact, readable

#: Index members that one call of the script looks at, at most: a search through everything is many short calls.
BUDGET = 1000

#: For each order: the index, and how many numbers decide.
SORTS: Mapping[str, tuple[str, int]] = {
    "created_at": (keys.CREATED, 1),
    "finished_at": (keys.FINISHED_AT, 2),
    "position": (keys.PLACE, 3),
}


async def find(link: RedisLink, query: JobQuery) -> JobPage:
    """Return a page by keyset: the cursor holds the numbers of the last job that was given out."""
    reverse, name = query.sort.startswith("-"), query.sort.removeprefix("-")
    if name not in SORTS:
        raise InvalidCursor(f"Cannot sort by {name}.")
    order, count = SORTS[name]
    ask: dict[str, Any] = _filters(query, order) | {"reverse": reverse, "far": "-" if reverse else "+"}
    ask["near"] = "+" if reverse else "-"
    if query.cursor is not None:
        prefix = _prefix(order, decode_cursor(query.cursor, query.sort, count))
        # A member goes on with ":" after its numbers, and ";" is what follows ":".
        ask["near"] = f"({prefix}{':' if reverse else ';'}"
    found = await scan(link, ask, query.limit + 1)
    page = found[: query.limit]
    more = len(found) > query.limit
    cursor = encode_cursor(query.sort, keys.numbers_of(order, page[-1][0])) if more and page else None
    return JobPage(readable([record for _, record in page]), cursor)


async def scan(link: RedisLink, ask: dict[str, Any], limit: int) -> list[tuple[str, Stored]]:
    """Return up to ``limit`` members and records that pass, in as many calls as that takes."""
    found: list[tuple[str, Stored]] = []
    while len(found) < limit:
        text = json.dumps({**ask, "limit": limit - len(found), "budget": BUDGET}, ensure_ascii=False)
        last, rows = await link.run("find", text)
        found.extend((member, Stored.of(record)) for member, record in rows)
        if not last:
            break
        ask = {**ask, "near": f"({last}"}
    return found


def _filters(query: JobQuery, order: str) -> dict[str, Any]:
    """Return the indexes to read and what a job must be beside; a filter that is not asked for is left out."""
    ask: dict[str, Any] = {"keys": [keys.index(order, state) for state in query.states or State]}
    if query.parent_id is not None and order == keys.CREATED:
        ask["keys"] = [keys.children_key(query.parent_id)]
        if query.states:
            ask["states"] = {str(state): True for state in query.states}
    elif query.parent_id is not None:
        ask["parent"] = query.parent_id
    if query.site is not None:
        ask["site"] = query.site
    if words := rules.words_of(query.text):
        ask["words"] = words
    return ask


def _prefix(order: str, numbers: list[int]) -> str:
    if order == keys.CREATED:
        return keys.created_prefix(numbers[0])
    if order == keys.FINISHED_AT:
        return keys.finished_prefix(numbers[0], numbers[1])
    return keys.place_prefix(numbers[0], numbers[1], numbers[2])


async def counts(link: RedisLink) -> dict[State, int]:
    """Count by state: how long each index is."""
    lengths = await many(link, *(("ZCARD", keys.index(keys.CREATED, state)) for state in State))
    return dict(zip(State, map(int, lengths), strict=True))


async def known(link: RedisLink, job_ids: Sequence[str]) -> set[str]:
    """Return which of these are ids of jobs."""
    replies = await many(link, *(("EXISTS", keys.job_key(job_id)) for job_id in job_ids))
    return {job_id for job_id, exists in zip(job_ids, replies, strict=True) if exists}


async def next_due(link: RedisLink, full_sites: Collection[str], skipped: Collection[str]) -> Job | None:
    """Return the first due job of a site that has room, that is not to be skipped, and that can be read."""
    closed = {*full_sites, *(cooldown.site for cooldown in await cooldowns(link))}
    skip = dict.fromkeys(skipped, True)
    while True:
        ask = {"closed": dict.fromkeys(closed, True), "skip": skip, "skipped": len(skip)}
        record = await link.run("next_due", json.dumps(ask, ensure_ascii=False))
        if not record:
            return None
        stored = Stored.of(record)
        try:
            return stored.job()
        except JobError:
            skip[stored.id] = True


async def next_ready_at(link: RedisLink) -> datetime | None:
    """Return when the next job, or the next site, becomes ready."""
    (first,) = await many(link, ("ZRANGE", keys.READY, "0", "0", "WITHSCORES"))
    moments = [keys.moment(int(score)) for score in first[1::2]]
    return min([*moments, *(cooldown.until for cooldown in await cooldowns(link))], default=None)


async def running_by_site(link: RedisLink) -> dict[str, int]:
    """Count leased jobs by site."""
    (members,) = await many(link, ("ZRANGE", keys.RUNNING, "0", "-1"))
    return dict(Counter(member.partition("\0")[0] for member in members))


async def finished_before(link: RedisLink, moment: datetime, limit: int) -> list[Job]:
    """Return finished jobs without a parent or a child that ended no earlier, oldest end first, that can be read."""
    ask: dict[str, Any] = {
        "keys": [keys.index(keys.FINISHED_AT, state) for state in State],
        "reverse": False,
        "near": "-",
        "far": f"({keys.finished_prefix(max(0, keys.micros(moment)), 0)}",
        "parent": "",
        "ended": keys.iso(moment),
    }
    jobs: list[Job] = []
    while len(jobs) < limit:
        found = await scan(link, ask, limit)
        jobs.extend(readable([record for _, record in found]))
        if len(found) < limit:
            break
        ask = {**ask, "near": f"({found[-1][0]}"}
    return jobs[:limit]


async def tombstone(link: RedisLink, job_id: str) -> Tombstone | None:
    """Return what is left of an expired job."""
    text = await hash_value(link, keys.TOMBSTONES, job_id)
    return None if text is None else fact(Tombstone, text)


async def queue_state(link: RedisLink) -> QueueState:
    """Return whether the queue is paused."""
    (text,) = await many(link, ("GET", keys.QUEUE))
    return QueueState() if text is None else fact(QueueState, text)


async def cooldowns(link: RedisLink) -> list[Cooldown]:
    """Return the sites that cool down now."""
    texts, (seconds, micros) = await many(link, ("HVALS", keys.COOLDOWNS), ("TIME",))
    now = keys.moment(int(seconds) * 1_000_000 + int(micros))
    known = [fact(Cooldown, text) for text in texts]
    return sorted((one for one in known if one.until > now), key=lambda one: one.site)


async def workdirs(link: RedisLink) -> tuple[dict[str, str], bool]:
    """Return job id by work folder, and whether the store was new when all of them had been read."""
    (flat,) = await many(link, ("HGETALL", keys.WORKDIRS))
    return dict(flat), (await link.load([])).is_new


async def hash_value(link: RedisLink, table: str, name: str) -> str | None:
    """Return one value of a hash."""
    (text,) = await many(link, ("HGET", table, name))
    return None if text is None else str(text)


async def noted_before(link: RedisLink, times: str, moment: datetime, limit: int) -> list[str]:
    """Return what was noted before a moment, of things sorted by when they were noted."""
    (names,) = await many(link, ("ZRANGEBYSCORE", times, "-inf", f"({keys.micros(moment)}", "LIMIT", "0", str(limit)))
    return [str(name) for name in names]


async def ended_cooldowns(link: RedisLink, moment: datetime) -> list[str]:
    """Return the sites whose cool-down ended before a moment."""
    (texts,) = await many(link, ("HVALS", keys.COOLDOWNS))
    return [one.site for one in (fact(Cooldown, text) for text in texts) if one.until < moment]


async def many(link: RedisLink, *commands: tuple[str, ...]) -> list[Any]:
    """Return the replies to some commands that are sent together."""

    async def send(client: Any) -> list[Any]:
        async with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
            return replies

    return await link.call(send)
