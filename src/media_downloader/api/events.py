"""GET /events: what happens, as it happens, to any number of readers."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from media_downloader.api.error_answers import documented
from media_downloader.api.schemas import JobBody, QueueBody
from media_downloader.errors import BackendError
from media_downloader.jobs.model import DeletedEvent, JobEvent, ProgressEvent, QueueEvent
from media_downloader.ports import Envelope, EventBus, Reset
from media_downloader.service import JobService

router = APIRouter(tags=["events"])

#: A comment is sent when nothing happens for so long, so that proxies keep the line and dead ones are noticed.
KEEP_ALIVE_SECONDS = 15.0
#: What browsers wait before they come back.
RETRY_MILLISECONDS = 1000
#: Encoded events that are kept for other readers.
ENCODED = 4096

RESET = b"event: reset\ndata: {}\n\n"


class EventStream:
    """Turns the bus's events into bytes, each once, however many read it."""

    def __init__(self, bus: EventBus, service: JobService) -> None:
        self._bus = bus
        self._service = service
        self._encoded: OrderedDict[str, asyncio.Future[bytes]] = OrderedDict()
        self._closing = asyncio.Event()
        self.readers = 0

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closing.set()

    async def follow(self, after: str | None) -> AsyncIterator[bytes]:
        """Yield the stream for one reader, from its cursor on.

        A reader that does not read is not waited for: this generator is not advanced meanwhile, falls behind the
        bus's ring, and gets a ``reset`` when it reads again.
        """
        events = self._bus.subscribe(after)
        closing = asyncio.ensure_future(self._closing.wait())
        pending: asyncio.Task[Envelope | Reset | None] | None = None
        self.readers += 1
        try:
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            while not self._closing.is_set():
                if pending is None:
                    pending = asyncio.ensure_future(_next(events))
                waited: set[asyncio.Future[Any]] = {pending, closing}
                await asyncio.wait(waited, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if closing.done():
                    return
                if not pending.done():
                    yield b": keep-alive\n\n"
                    continue
                news, pending = pending.result(), None
                if news is None:
                    return
                yield RESET if isinstance(news, Reset) else await self._encode(news)
        finally:
            self.readers -= 1
            for future in (pending, closing):
                if future is not None:
                    future.cancel()
            await asyncio.gather(*(f for f in (pending, closing) if f is not None), return_exceptions=True)

    async def _encode(self, envelope: Envelope) -> bytes:
        """Return the event's bytes; all who ask at the same time wait for the same ones."""
        encoding = self._encoded.get(envelope.cursor)
        if encoding is None:
            encoding = self._encoded[envelope.cursor] = asyncio.ensure_future(self._encode_anew(envelope))
            while len(self._encoded) > ENCODED:
                self._encoded.popitem(last=False)
        # A reader that goes away must not take them from the others.
        return await asyncio.shield(encoding)

    async def _encode_anew(self, envelope: Envelope) -> bytes:
        try:
            name, data = await self._body(envelope)
        except BackendError:
            # What is told of a job beside the event is not to be had now: who reads is to look for itself.
            return RESET
        return f"id: {envelope.cursor}\nevent: {name}\ndata: {data}\n\n".encode()

    async def _body(self, envelope: Envelope) -> tuple[str, str]:
        match envelope.event:
            case JobEvent(job=job):
                return "job", JobBody.of(await self._service.recent_view(job)).model_dump_json()
            case ProgressEvent():
                return "progress", envelope.event.model_dump_json()
            case DeletedEvent():
                return "deleted", envelope.event.model_dump_json()
            case QueueEvent(queue=queue):
                return "queue", QueueBody.of(queue).model_dump_json()


async def _next(events: AsyncIterator[Envelope | Reset]) -> Envelope | Reset | None:
    return await anext(events, None)


@router.get(
    "/events",
    operation_id="followEvents",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `job`, `progress`, `deleted`, `queue`, `reset` (events were missed).",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **documented(),
    },
)
async def follow_events(
    request: Request,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    cursor: Annotated[str | None, Query(max_length=100, description="As Last-Event-ID.")] = None,
) -> StreamingResponse:
    """Follow what happens. Reconnecting with `Last-Event-ID` gives what was missed, or `reset`: fetch the list anew."""
    stream: EventStream = request.app.state.events
    return StreamingResponse(
        stream.follow(last_event_id or cursor),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
