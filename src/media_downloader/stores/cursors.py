"""Cursors of lists: the sort and the keys of the last job that was given out, opaque to clients."""

import base64
import binascii
import json
from collections.abc import Sequence

from media_downloader.errors import InvalidCursor


def encode_cursor(sort: str, keys: Sequence[int]) -> str:
    """Return the cursor that goes on after these keys."""
    return base64.urlsafe_b64encode(json.dumps([sort, *keys]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, sort: str, count: int) -> list[int]:
    """Return the keys. Raises ``InvalidCursor`` for what was not given out for this sort."""
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidCursor("This is no cursor of this list.") from None
    if not isinstance(found, list) or len(found) != count + 1 or found[0] != sort:
        raise InvalidCursor("This cursor belongs to another list.")
    if not all(type(key) is int and abs(key) < 2**63 for key in found[1:]):
        raise InvalidCursor("This is no cursor of this list.")
    return found[1:]
