"""Copies bytes between two connections, in both directions, until they end or nothing has moved for too long."""

import asyncio
from collections.abc import Awaitable, Callable

CHUNK_BYTES = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HeadForwarder = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Tunnel:
    """A client and an upstream connection that are joined for one request."""

    def __init__(self, client: Streams, upstream: Streams, idle_timeout_seconds: float) -> None:
        self._client = client
        self._upstream = upstream
        self._idle_timeout_seconds = idle_timeout_seconds
        self._idle = asyncio.timeout(idle_timeout_seconds)

    async def run(self, *, half_close: bool, before_response: HeadForwarder | None = None) -> None:
        """Copy until the upstream has sent all. Raises TimeoutError when neither direction moved for the idle timeout.

        The client's end is passed on (``half_close``), or taken for its departure. ``before_response`` handles
        what comes first from upstream; what it raises ends the tunnel and is raised here.
        """
        up = asyncio.ensure_future(self._copy(self._client[0], self._upstream[1]))
        down = asyncio.ensure_future(self._respond(before_response))
        try:
            async with self._idle:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                if up.done() and not down.done():
                    up.result()
                    if half_close and self._upstream[1].can_write_eof():
                        self._upstream[1].write_eof()
                        await down
                if down.done():
                    down.result()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _respond(self, before_response: HeadForwarder | None) -> None:
        if before_response is not None:
            await before_response(self._upstream[0], self._client[1])
        await self._copy(self._upstream[0], self._client[1])

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            self._postpone()
            sink.write(chunk)
            await sink.drain()
            self._postpone()

    def _postpone(self) -> None:
        if not self._idle.expired():
            self._idle.reschedule(asyncio.get_running_loop().time() + self._idle_timeout_seconds)
