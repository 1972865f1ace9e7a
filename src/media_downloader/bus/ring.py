"""The newest events of one process, in a ring that every subscriber reads at its own pace."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from media_downloader.jobs.model import Event
from media_downloader.ports import Envelope, Reset

#: Events that are kept for those who come back; some minutes of a busy server.
KEPT_EVENTS = 4096


class Ring:
    """A bounded ring of events. Adding costs the same however many read, and however slowly."""

    def __init__(self, kept_events: int = KEPT_EVENTS) -> None:
        self._kept = kept_events
        self._ring: deque[Envelope] = deque()
        self._added = 0
        #: Numbers of the events in the ring, and of the one before them: a reader that had that one missed none.
        self._numbers: dict[str, int] = {}
        self._edge: str | None = None
        self._closed = False
        self._news = asyncio.Event()

    def add(self, cursor: str, event: Event) -> None:
        """Put the event in the ring and wake whoever waits."""
        self._added += 1
        self._ring.append(Envelope(cursor, event))
        self._numbers[cursor] = self._added
        if len(self._ring) > self._kept:
            self._drop_oldest()
        self._wake()

    def lose(self) -> None:
        """Note that events are missing from here on: whoever follows gets a ``Reset``, and no older cursor is known."""
        self._added += 1
        self._ring.clear()
        self._numbers.clear()
        self._edge = None
        self._wake()

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        self._news.set()

    def subscribe(self, after: str | None = None) -> AsyncIterator[Envelope | Reset]:
        """Yield what comes after the cursor; the place is taken when this is called, not when it is first read."""
        position = self._added if after is None else self._numbers.get(after)
        return self._follow(self._added if position is None else position, lost=position is None)

    async def _follow(self, position: int, *, lost: bool) -> AsyncIterator[Envelope | Reset]:
        """``position`` is the number of the last event that the reader has had."""
        if lost:
            yield Reset()
        while not self._closed:
            if position >= self._added:
                await self._news.wait()
                continue
            oldest = self._added - len(self._ring) + 1
            if position + 1 < oldest:
                position = self._added
                yield Reset()
                continue
            envelope = self._ring[position + 1 - oldest]
            position += 1
            yield envelope

    def _drop_oldest(self) -> None:
        if self._edge is not None:
            self._numbers.pop(self._edge, None)
        self._edge = self._ring.popleft().cursor

    def _wake(self) -> None:
        # Waiters hold the old event and wake; later ones wait on the new.
        self._news.set()
        self._news = asyncio.Event()
