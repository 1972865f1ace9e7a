"""News within one process: a ring that every subscriber reads at its own pace."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import uuid4

from media_downloader.jobs.model import DeletedEvent, Event, JobEvent, ProgressEvent, utc_now
from media_downloader.ports import Envelope, Reset

#: Events that are kept for those who come back; some minutes of a busy server.
KEPT_EVENTS = 4096
#: Deletions that are remembered: news of a job comes late by moments, not by thousands of jobs.
KEPT_DELETIONS = 10_000


class MemoryEventBus:
    """A bounded ring of events. Publishing costs the same however many read, and however slowly."""

    def __init__(self, kept_events: int = KEPT_EVENTS) -> None:
        self._stream = uuid4().hex[:12]
        self._ring: deque[Envelope] = deque(maxlen=kept_events)
        self._published = 0
        #: When the jobs of late were deleted.
        self._deleted: OrderedDict[str, datetime] = OrderedDict()
        self._closed = False
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """End every subscription."""
        self._closed = True
        self._news.set()

    def _is_late(self, event: Event) -> bool:
        """Say whether the event is news of a job that has been deleted."""
        match event:
            case DeletedEvent(id=job_id):
                self._deleted[job_id] = utc_now()
                while len(self._deleted) > KEPT_DELETIONS:
                    self._deleted.popitem(last=False)
            case ProgressEvent(id=job_id):
                return job_id in self._deleted
            case JobEvent(job=job) if job.id in self._deleted:
                if job.created_at <= self._deleted[job.id]:
                    return True
                # An entry of a playlist that was listed again.
                del self._deleted[job.id]
        return False

    async def publish(self, event: Event) -> None:
        """Put the event in the ring and wake whoever waits."""
        if self._is_late(event):
            return
        self._published += 1
        self._ring.append(Envelope(f"{self._stream}-{self._published}", event))
        # Waiters hold the old event and wake; later ones wait on the new.
        self._news.set()
        self._news = asyncio.Event()

    def subscribe(self, after: str | None = None) -> AsyncIterator[Envelope | Reset]:
        """Yield what comes after the cursor; the place is taken when this is called, not when it is first read."""
        position = self._position(after)
        return self._follow(self._published if position is None else position, lost=position is None)

    async def _follow(self, position: int, *, lost: bool) -> AsyncIterator[Envelope | Reset]:
        """``position`` is the number of the last event that the reader has had."""
        if lost:
            yield Reset()
        while not self._closed:
            if position >= self._published:
                await self._news.wait()
                continue
            oldest = self._published - len(self._ring) + 1
            if position + 1 < oldest:
                position = self._published
                yield Reset()
                continue
            envelope = self._ring[position + 1 - oldest]
            position += 1
            yield envelope

    def _position(self, cursor: str | None) -> int | None:
        """Return the number of the cursor's event, or None when what follows it cannot be had any more."""
        if cursor is None:
            return self._published
        stream, _, number = cursor.partition("-")
        if stream != self._stream or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        position = int(number)
        oldest = self._published - len(self._ring) + 1
        return position if oldest - 1 <= position <= self._published else None
