"""The store's two clocks: one that people set, for what they read, and one that nobody sets, for leases."""

import time
from datetime import UTC, datetime, timedelta

from media_downloader.jobs.model import utc_now

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wall() -> datetime:
    """Return the wall clock; it may step either way at any moment."""
    return utc_now()


def steady() -> int:
    """Return microseconds of a clock that never steps and stands still while the machine sleeps.

    Its values mean nothing to another process: opening the store ends the leases of those before (their runners
    were in a process that is gone).
    """
    return time.monotonic_ns() // 1000


def micros(moment: datetime | None) -> int | None:
    """Return microseconds since 1970, exactly."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def now_micros() -> int:
    """Return the wall clock in microseconds."""
    return (wall() - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Return the moment that ``micros`` counted."""
    return _EPOCH + timedelta(microseconds=value)
