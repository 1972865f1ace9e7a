"""Reads a Range header as RFC 9110 section 14 wants it: what is not understood is ignored, never half obeyed."""

import re
from collections.abc import Sequence

from media_downloader.errors import RangeNotSatisfiable

#: More ranges in one request are answered with the whole file; no player needs them (CVE-2025-62727).
MAX_RANGES = 8

_HEADER = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"([0-9]{0,30})-([0-9]{0,30})")


def parse_ranges(header: str, size: int) -> Sequence[tuple[int, int]]:
    """Return (start, stop) of each range, in order and without overlaps; none when the header is to be ignored.

    Ranges beyond the end drop out as long as one is left. Raises ``RangeNotSatisfiable`` when none is.
    """
    match = _HEADER.fullmatch(header)
    specs = [spec for spec in (part.strip(" \t") for part in match[1].split(",")) if spec] if match else []
    if not specs or len(specs) > MAX_RANGES:
        return []
    found = []
    for spec in specs:
        span = _span(spec, size)
        if span is None:
            return []
        if span[0] < span[1]:
            found.append(span)
    if not found:
        raise RangeNotSatisfiable(f"The file has {size} bytes.", size_bytes=size)
    return _merged(found)


def _span(spec: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that one range covers (none of them when it lies beyond the end), or None when it is none."""
    match = _RANGE.fullmatch(spec)
    if match is None or match[0] == "-":
        return None
    if not match[1]:
        return max(size - int(match[2]), 0), size
    first = int(match[1])
    last = int(match[2]) if match[2] else max(size, first)
    return None if last < first else (min(first, size), min(last + 1, size))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    spans.sort()
    merged = [spans[0]]
    for start, stop in spans[1:]:
        if start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
