"""News within one process."""

from collections.abc import AsyncIterator
from uuid import uuid4

from media_downloader.bus.late import Deletions
from media_downloader.bus.ring import KEPT_EVENTS, Ring
from media_downloader.jobs.model import Event, utc_now
from media_downloader.ports import Envelope, Reset

__all__ = ["KEPT_EVENTS", "MemoryEventBus"]


class MemoryEventBus:
    """A ring that is written to directly. Cursors are of this run of the program alone."""

    def __init__(self, kept_events: int = KEPT_EVENTS) -> None:
        self._stream = uuid4().hex[:12]
        self._published = 0
        self._ring = Ring(kept_events)
        self._deletions = Deletions()

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """End every subscription."""
        self._ring.close()

    async def publish(self, event: Event) -> None:
        """Put the event in the ring and wake whoever waits."""
        if self._deletions.outdate(event, utc_now()):
            return
        self._published += 1
        self._ring.add(f"{self._stream}-{self._published}", event)

    def subscribe(self, after: str | None = None) -> AsyncIterator[Envelope | Reset]:
        """Yield what comes after the cursor; the place is taken when this is called, not when it is first read."""
        return self._ring.subscribe(after)
