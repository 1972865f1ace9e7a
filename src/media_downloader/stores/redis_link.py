"""The store's line to Redis: one pool, patience with an end, and no error of Redis' that gets past it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

from media_downloader.errors import StoreUnavailable
from media_downloader.redis_client import Redis, RedisError, connect, explain, is_refusal
from media_downloader.stores.redis_rows import Stored

T = TypeVar("T")

#: Connections of one process. More callers wait for one of them.
CONNECTIONS = 16
#: How long one call may take, with all its attempts. A request makes few calls, and the first that fails ends it.
CALL_SECONDS = 2.0
#: The same while Redis is known to be away: enough to notice that it is back.
AWAY_SECONDS = 0.5
#: A call that carries many jobs may take longer: so many bytes a second more.
BYTES_PER_SECOND = 2_000_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.3


@cache
def script(name: str) -> str:
    """Return the text of a script."""
    folder = files("media_downloader.stores") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("record", name))


class Loaded(NamedTuple):
    """What was read in one step."""

    #: The server's clock, in microseconds.
    clock: int
    #: Whether jobs may be on disk that are not here.
    is_new: bool
    records: list[Stored]


class RedisLink:
    """Sends commands. What breaks on the way is sent again for a while, with growing pauses.

    So whatever is sent must be harmless when it is done twice. A caller that is canceled gives up waiting; its
    command is done or fails by itself.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._away = False

    def open(self) -> None:
        """Let calls through; nothing is sent yet. Raises ``ConfigurationError`` for an address that is none."""
        self._client = connect(self._url, connections=CONNECTIONS)

    async def close(self) -> None:
        """Let the calls under way end, and close every connection; nothing gets through any more."""
        client, self._client = self._client, None
        if self._calls:
            await asyncio.wait(self._calls)
        if client is not None:
            await client.aclose(close_connection_pool=True)

    async def call(self, send: Callable[[Redis], Awaitable[T]], seconds: float = CALL_SECONDS) -> T:
        """Return what ``send`` gets from Redis. Raises ``StoreUnavailable`` when that takes too long or is refused."""
        # In a task of its own: a pool of redis-py loses a connection when a task is canceled at the wrong moment.
        call = asyncio.create_task(self._attempt(send, AWAY_SECONDS if self._away else seconds))
        self._calls.add(call)
        call.add_done_callback(self._ended)
        return await asyncio.shield(call)

    def _ended(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            # Looked at, so that nobody complains when the caller has gone.
            call.exception()

    async def _attempt(self, send: Callable[[Redis], Awaitable[T]], seconds: float) -> T:
        last: RedisError | None = None
        pause = FIRST_PAUSE_SECONDS
        client = self._client
        try:
            async with asyncio.timeout(seconds):
                while (client := self._client) is not None:
                    try:
                        answer = await send(client)
                    except RedisError as error:
                        if is_refusal(error):
                            raise StoreUnavailable(explain(error)) from None
                        last = error
                    else:
                        self._away = False
                        return answer
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except TimeoutError:
            await self._begin_anew(client)
            raise StoreUnavailable(explain(last)) from None
        raise StoreUnavailable("The store is closed.")

    async def _begin_anew(self, client: Redis | None) -> None:
        """Give up a pool in which a call ran out of time: what its connections are about is not known any more."""
        self._away = True
        if client is not None and client is self._client:
            self.open()
            await client.aclose(close_connection_pool=True)

    async def run(self, name: str, *arguments: str) -> Any:
        """Run one of our scripts and return its reply, decoded where it is JSON."""
        seconds = CALL_SECONDS + sum(map(len, arguments)) / BYTES_PER_SECOND

        async def send(client: Redis) -> Any:
            return await client.register_script(script(name))(args=arguments)

        reply = await self.call(send, seconds)
        return json.loads(reply) if isinstance(reply, str) and reply[:1] == "[" else reply

    async def load(self, ids: Sequence[str], kin: str = "alone") -> Loaded:
        """Read the records of jobs and, when asked, of their kin."""
        clock, is_new, records = await self.run("load", kin, *ids)
        return Loaded(int(clock), bool(is_new), [Stored.of(record) for record in records])
