"""Imported by every Python whose PYTHONPATH leads here, before anything else: its wall clock goes wrong.

Both ways to read it are shifted by ``SHIFTED_SECONDS``, ``time`` and ``datetime``; monotonic clocks are not, as on a
machine whose date was set wrongly. Files' times stay right: they are those of the volume's server.
"""

import datetime
import os
import time

SHIFT = float(os.environ.get("SHIFTED_SECONDS", "0"))
_real, _time, _time_ns = datetime.datetime, time.time, time.time_ns


class _Kind(type):
    """Every real moment is one of the shifted class: only the ways to ask for now differ."""

    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, _real)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, _real)


class _Shifted(_real, metaclass=_Kind):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _real:  # type: ignore[override]
        return _real.now(tz) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def utcnow(cls) -> _real:  # type: ignore[override]
        return _real.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=SHIFT)


if SHIFT:
    time.time = lambda: _time() + SHIFT
    time.time_ns = lambda: _time_ns() + int(SHIFT * 1e9)
    datetime.datetime = _Shifted  # type: ignore[misc]
