"""News between processes: a capped stream in Redis, read once by each process, whoever listens there."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from pydantic import BaseModel, ValidationError

from media_downloader.bus.late import Deletions
from media_downloader.bus.ring import KEPT_EVENTS, Ring
from media_downloader.jobs.model import DeletedEvent, Event, JobEvent, ProgressEvent, QueueEvent
from media_downloader.ports import Envelope, Reset
from media_downloader.redis_client import Redis, RedisError, connect, explain

T = TypeVar("T")

log = structlog.get_logger(__name__)

STREAM = "jobs:events"
#: The field of a stream's entry says what kind of event it is; its value is the event as JSON.
KINDS: Mapping[str, type[JobEvent | ProgressEvent | DeletedEvent | QueueEvent]] = {
    "job": JobEvent,
    "progress": ProgressEvent,
    "deleted": DeletedEvent,
    "queue": QueueEvent,
}
#: An entry that says that events before it were lost on their way.
GAP = "gap"
#: The field that says who sent an entry, and as which of its events: what is sent again is not told again.
SENDER = "sender"
#: Id before the first entry of any stream.
EMPTY = "0-0"

#: How long the reader waits for news in one call, and for any answer: a line that is dead is noticed after the latter.
BLOCK_SECONDS, ANSWER_SECONDS = 1.0, 3.0
#: Most entries of one read, and of one write.
READ_AT_ONCE, WRITE_AT_ONCE = 500, 200
#: Events that wait for a Redis that is away; older ones are dropped, and readers are told so.
WAITING_EVENTS = 2000
#: How long the last events may take when the program ends.
LAST_WORDS_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 2.0


class RedisEventBus:
    """The cursor is the stream's id, so a reader may come back to another process.

    Publishing puts an event in line and returns: nobody waits for Redis because of news. One that does not listen only
    publishes: for processes whose event loop stands still most of the time, and that would fall behind.
    """

    def __init__(self, url: str, kept_events: int = KEPT_EVENTS, *, listens: bool = True) -> None:
        self._url = url
        self._kept = kept_events
        self._listens = listens
        self._ring = Ring(kept_events)
        self._client: Redis | None = None
        self._tasks: list[asyncio.Task[None]] = []
        #: Id of the last entry that was read; None before the first look.
        self._last: str | None = None
        #: Events in line: kind, text, and number.
        self._waiting: deque[tuple[str, str, int]] = deque()
        self._name = uuid4().hex[:12]
        self._numbers = count(1)
        #: The newest event of each sender that was told.
        self._told: dict[str, int] = {}
        self._deletions = Deletions()
        #: Set while nothing is in line or on its way.
        self._sent = asyncio.Event()
        self._sent.set()
        self._news = asyncio.Event()
        self._closing = False

    async def open(self) -> None:
        """Connect and read what the stream holds; a Redis that is away is waited for behind.

        What was closed may be opened again, in another event loop too.
        """
        if self._closing:
            self._begin()
        client = self._client = connect(self._url, connections=4)
        self._tasks = [asyncio.create_task(self._send(client))]
        if not self._listens:
            return
        try:
            await self._refill(client)
        except RedisError as error:
            log.warning("No news from other processes until Redis is back", detail=explain(error))
        self._tasks.append(asyncio.create_task(self._read_forever(client)))

    def _begin(self) -> None:
        """Make anew what ends with a close, or belongs to the event loop in which it was first waited for."""
        self._closing = False
        self._ring = Ring(self._kept)
        self._last = None
        self._news, self._sent = asyncio.Event(), asyncio.Event()
        if not self._waiting:
            self._sent.set()

    async def close(self) -> None:
        """End every subscription at once, and send what is still in line, if that takes no time."""
        self._ring.close()
        self._closing = True
        self._news.set()
        tasks, self._tasks = self._tasks, []
        client, self._client = self._client, None
        if client is None:
            return
        if tasks:
            await asyncio.wait(tasks[:1], timeout=LAST_WORDS_SECONDS)
            # The reader's call ends with its connection: a call of redis-py that is canceled may leave a socket open.
            await client.aclose(close_connection_pool=True)
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose(close_connection_pool=True)

    async def publish(self, event: Event) -> None:
        """Put the event in line."""
        self._waiting.append((_kind_of(event), event.model_dump_json(), next(self._numbers)))
        self._sent.clear()
        self._news.set()
        if len(self._waiting) > WAITING_EVENTS:
            for _ in range(WAITING_EVENTS // 2):
                self._waiting.popleft()
            self._waiting.appendleft((GAP, "1", 0))
            log.warning("Dropped news that could not be sent", events=WAITING_EVENTS // 2)

    async def flush(self, seconds: float) -> bool:
        """Wait until everything in line has been sent, for so long at most, and say whether it has been.

        For who lets its event loop stand still afterwards: nothing is sent then.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._sent.wait()
        except TimeoutError:
            return False
        return True

    def subscribe(self, after: str | None = None) -> AsyncIterator[Envelope | Reset]:
        """Yield what comes after the cursor."""
        assert self._listens, "this bus was told not to listen"
        return self._ring.subscribe(after)

    # --- out ----------------------------------------------------------------------------------------------------

    async def _send(self, client: Redis) -> None:
        """Send what is in line, in order; what fails is sent again with growing pauses."""
        failures = 0
        while self._waiting or not self._closing:
            if not self._waiting:
                self._news.clear()
                await self._news.wait()
                continue
            batch = [self._waiting.popleft() for _ in range(min(WRITE_AT_ONCE, len(self._waiting)))]
            try:
                await self._write(client, batch)
                failures = 0
                if not self._waiting:
                    self._sent.set()
            except RedisError as error:
                self._waiting.extendleft(reversed(batch))
                if self._closing:
                    return
                if failures == 0:
                    log.warning("News cannot be sent", detail=explain(error))
                await asyncio.sleep(_pause(failures))
                failures += 1

    async def _write(self, client: Redis, batch: list[tuple[str, str, int]]) -> None:
        async with client.pipeline(transaction=True) as pipeline:
            for kind, text, number in batch:
                fields: dict[Any, Any] = {kind: text, SENDER: f"{self._name}:{number}"}
                pipeline.xadd(STREAM, fields, maxlen=self._kept, approximate=True)
            await _answer(pipeline.execute())

    # --- in -----------------------------------------------------------------------------------------------------

    async def _read_forever(self, client: Redis) -> None:
        failures = 0
        while not self._closing:
            try:
                await self._resume(client)
                failures = 0
                while not self._closing:
                    await self._read(client)
            except RedisError as error:
                if failures == 0 and not self._closing:
                    log.warning("News cannot be read", detail=explain(error))
                await asyncio.sleep(_pause(failures))
                failures += 1

    async def _resume(self, client: Redis) -> None:
        """Go on behind the last entry, if it is still there: else something is missing between it and now."""
        if self._last == EMPTY:
            whole = await _answer(client.xlen(STREAM)) < self._kept
        else:
            whole = self._last is not None and bool(await _answer(client.xrange(STREAM, self._last, self._last)))
        if not whole:
            await self._refill(client)

    async def _refill(self, client: Redis) -> None:
        """Begin with what the stream holds; whoever follows has lost the thread."""
        newest_first: Any = await _answer(client.xrevrange(STREAM, count=self._kept))
        self._ring.lose()
        self._told.clear()
        self._deletions.clear()
        self._last = EMPTY
        self._take(reversed(newest_first))

    async def _read(self, client: Redis) -> None:
        most = min(READ_AT_ONCE, self._kept)
        before = self._last or EMPTY
        answer: Any = await _answer(client.xread({STREAM: before}, count=most, block=int(BLOCK_SECONDS * 1000)))
        entries: list[tuple[str, dict[str, str]]] = [entry for _, found in answer or () for entry in found]
        # A full batch means that we lag behind: the stream may have been cut beyond the place where we were.
        if len(entries) == most and before != EMPTY and not await _answer(client.xrange(STREAM, before, before)):
            await self._refill(client)
        else:
            self._take(entries)

    def _take(self, entries: Iterable[tuple[str, dict[str, str]]]) -> None:
        for cursor, fields in entries:
            self._last = cursor
            if self._is_told(fields.pop(SENDER, "")):
                continue
            for kind, text in fields.items():
                if kind == GAP:
                    self._ring.lose()
                elif (event := _event_of(kind, text)) is not None and not self._is_late(event, cursor):
                    self._ring.add(cursor, event)

    def _is_late(self, event: Event, cursor: str) -> bool:
        """Say whether the event is news of a job that has been deleted; every reader sees them in the same order.

        A cursor begins with the server's clock, in whole milliseconds, of the moment at which the entry was written.
        """
        milliseconds = int(cursor.partition("-")[0]) + 1
        return self._deletions.outdate(event, datetime.fromtimestamp(milliseconds / 1000, UTC))

    def _is_told(self, sender: str) -> bool:
        """Say whether this is an event again whose sender did not learn that it had been written."""
        name, _, number = sender.partition(":")
        if not number.isdecimal() or len(number) > 18 or int(number) == 0:
            return False
        if int(number) <= self._told.get(name, 0):
            return True
        self._told[name] = int(number)
        return False


async def _answer(asked: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asked
    except TimeoutError:
        raise RedisError("it does not answer") from None


def _kind_of(event: Event) -> str:
    return next(kind for kind, model in KINDS.items() if isinstance(event, model))


def _event_of(kind: str, text: str) -> Event | None:
    """Return the event, or None for one that only a newer version can read."""
    model: type[BaseModel] | None = KINDS.get(kind)
    try:
        event = None if model is None else model.model_validate_json(text)
    except ValidationError:
        return None
    assert event is None or isinstance(event, JobEvent | ProgressEvent | DeletedEvent | QueueEvent)
    return event


def _pause(failures: int) -> float:
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS))
