"""Which workers there are, what they run and which doorbells have been rung: facts that expire, kept in Redis."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from media_downloader.errors import EngineUnavailable
from media_downloader.ports import WorkerInfo
from media_downloader.redis_client import Redis, RedisError, explain

T = TypeVar("T")

#: When each worker was last heard of.
WORKERS = "media_downloader:workers"
#: What each worker says of itself, as JSON.
TOLD = "media_downloader:workers:told"
#: Which job each busy process runs: ``worker/pid``.
BUSY = "media_downloader:workers:busy"
#: Jobs whose doorbell was rung and not answered yet: work on its way to a free slot.
RUNG = "media_downloader:rung"
#: Which member of the cluster hands out jobs now.
TURN = "media_downloader:scheduler"
#: How often a worker says that it lives.
HEARTBEAT_SECONDS = 3.0
#: Silence after which a worker counts as dead.
DEAD_SECONDS = 10.0
#: How long a dead worker is still shown, unless another one has been started in its place.
SHOWN_SECONDS = 600.0
#: A doorbell that nobody answered for so long is rung again: its message was lost, or waits behind others.
RING_AGAIN_SECONDS = 10.0
#: Silence after which another member hands out jobs.
TURN_SECONDS = 3.0
#: How long Redis may take to answer, and the same while it is known to be away: enough to notice that it is back.
ANSWER_SECONDS, AWAY_SECONDS = 1.5, 0.5

_TAKE_TURN = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""
_RING = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at - ARGV[2])
return redis.call('ZADD', KEYS[1], 'NX', string.format('%.6f', at), ARGV[1])
"""
_END_TURN = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


@dataclass(frozen=True)
class Announcement:
    """What a worker says of itself."""

    id: str
    host: str
    slots: int
    versions: dict[str, str]
    free_bytes: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Look:
    """Everything of one moment: a doorbell that is answered between two looks would count as rung and as running."""

    now: float
    heard: Mapping[str, float]
    told: Mapping[str, str]
    busy: Sequence[str]
    rung: Mapping[str, float]

    def workers(self) -> Sequence[WorkerInfo]:
        """Return every worker that was heard of lately, the dead ones included."""
        return [self._worker(name, at) for name, at in self.heard.items() if name in self.told]

    def free_slots(self) -> int:
        """Return how many processes of live workers have nothing to do and nothing on its way to them."""
        able = [one for one in self.workers() if one.alive and not one.problems]
        waiting = sum(at > self.now - RING_AGAIN_SECONDS for at in self.rung.values())
        return max(0, sum(one.slots - one.running for one in able) - waiting)

    def gone(self, ours: Announcement, since: float) -> list[str]:
        """Return the workers that need not be shown any more: long dead, or dead and replaced by this one."""
        dead = {name: at for name, at in self.heard.items() if self.now - at > DEAD_SECONDS and name != ours.id}
        replaced = {one.id for one in self.workers() if one.host == ours.host}
        return [name for name, at in dead.items() if self.now - at > SHOWN_SECONDS or (name in replaced and at < since)]

    def _worker(self, name: str, heard_at: float) -> WorkerInfo:
        told = json.loads(self.told[name])
        return WorkerInfo(
            id=name,
            host=told["host"],
            slots=told["slots"],
            running=sum(field.startswith(f"{name}/") for field in self.busy),
            alive=self.now - heard_at <= DEAD_SECONDS,
            heard_at=datetime.fromtimestamp(heard_at, UTC),
            versions=told["versions"],
            free_bytes=told["free_bytes"],
            problems=tuple(told["problems"]),
        )


class WorkerRegistry:
    """What is asked is answered in time or not at all: ``EngineUnavailable`` then. All times are the server's."""

    def __init__(self, connect: Callable[[], Redis]) -> None:
        self._connect = connect
        self._redis = connect()
        self._away = False
        #: When this process has first announced its worker.
        self._since: float | None = None

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose(close_connection_pool=True)

    # --- for workers --------------------------------------------------------------------------------------------

    async def announce(self, told: Announcement, live_pids: Sequence[int]) -> None:
        """Say that this worker lives. Slots of processes that are gone become free, and the long dead are forgotten."""

        async def ask(redis: Redis) -> None:
            look = await _look(redis)
            self._since = look.now if self._since is None else self._since
            gone = look.gone(told, self._since)
            ours = {f"{told.id}/{pid}" for pid in live_pids}
            stale = [
                field
                for field in look.busy
                if (name := field.rpartition("/")[0]) in gone or (name == told.id and field not in ours)
            ]
            async with redis.pipeline(transaction=True) as pipe:
                pipe.zadd(WORKERS, {told.id: look.now})
                pipe.hset(TOLD, told.id, json.dumps(asdict(told)))
                _forget(pipe, gone, stale)
                await pipe.execute()

        await self._ask(ask)

    async def leave(self, worker_id: str) -> None:
        """Say that this worker ends in order."""

        async def ask(redis: Redis) -> None:
            busy = [field for field in (await _look(redis)).busy if field.startswith(f"{worker_id}/")]
            async with redis.pipeline(transaction=True) as pipe:
                _forget(pipe, [worker_id], busy)
                await pipe.execute()

        await self._ask(ask)

    async def took(self, worker_id: str, pid: int, job_id: str) -> None:
        """Note that a process of the worker answers a doorbell."""

        async def ask(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.hset(BUSY, f"{worker_id}/{pid}", job_id)
                pipe.zrem(RUNG, job_id)
                await pipe.execute()

        await self._ask(ask)

    async def let_go(self, worker_id: str, pid: int) -> None:
        """Note that the process is free again."""
        await self._ask(lambda redis: redis.hdel(BUSY, f"{worker_id}/{pid}"))

    # --- for those who hand out jobs ----------------------------------------------------------------------------

    async def take_turn(self, member_id: str) -> bool:
        """Say whether this member hands out jobs now: one does, until it ends its turn or is not heard of."""
        milliseconds = int(TURN_SECONDS * 1000)
        return bool(await self._ask(lambda redis: redis.eval(_TAKE_TURN, 1, TURN, member_id, milliseconds)))

    async def end_turn(self, member_id: str) -> None:
        """Let another member hand out jobs, if it was this one's turn."""
        await self._ask(lambda redis: redis.eval(_END_TURN, 1, TURN, member_id))

    async def may_ring(self, job_id: str) -> bool:
        """Say whether the doorbell should be rung for this job now: once, however many ask, until it was answered."""
        return bool(await self._ask(lambda redis: redis.eval(_RING, 1, RUNG, job_id, RING_AGAIN_SECONDS)))

    async def forget_ring(self, job_id: str) -> None:
        """Take a mark back whose message could not be sent."""
        await self._ask(lambda redis: redis.zrem(RUNG, job_id))

    async def free_slots(self) -> int:
        """Return how many processes of live workers have nothing to do and nothing on its way to them."""
        return (await self._ask(_look)).free_slots()

    async def workers(self) -> Sequence[WorkerInfo]:
        """Return every worker that was heard of lately, the dead ones included."""
        return (await self._ask(_look)).workers()

    async def _ask(self, ask: Callable[[Redis], Awaitable[T]]) -> T:
        redis = self._redis
        try:
            async with asyncio.timeout(AWAY_SECONDS if self._away else ANSWER_SECONDS):
                answer = await ask(redis)
        except TimeoutError:
            # What its connections are about is not known any more: an answer may come to somebody else's question.
            self._away = True
            if redis is self._redis:
                self._redis = self._connect()
                await redis.aclose(close_connection_pool=True)
            raise _unavailable(None) from None
        except RedisError as error:
            raise _unavailable(error) from None
        self._away = False
        return answer


def _seconds(answer: tuple[int, int]) -> float:
    return float(answer[0]) + float(answer[1]) / 1e6


async def _look(redis: Redis) -> Look:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.zrange(WORKERS, 0, -1, withscores=True)
        pipe.hgetall(TOLD)
        pipe.hkeys(BUSY)
        pipe.zrange(RUNG, 0, -1, withscores=True)
        now, heard, told, busy, rung = await pipe.execute()
    return Look(_seconds(now), dict(heard), told, busy, dict(rung))


def _forget(pipe: Any, worker_ids: Sequence[str], busy: Sequence[str]) -> None:
    if worker_ids:
        pipe.zrem(WORKERS, *worker_ids)
        pipe.hdel(TOLD, *worker_ids)
    if busy:
        pipe.hdel(BUSY, *busy)


def _unavailable(error: RedisError | None) -> EngineUnavailable:
    return EngineUnavailable(f"The workers cannot be asked: {explain(error)}")
