"""Reads an exception and its causes: what failed, with which status, and how long the server asked us to wait."""

import email.utils
import re
import time
from collections.abc import Iterator

from media_downloader.downloader.failures import HINTS, Trouble, clean_message, kind_of
from media_downloader.downloader.protocol import Failed
from media_downloader.jobs.model import FailureKind

#: A server that asks for more is not believed to the second.
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0


_SECONDS_OF = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0}
#: "This live event will begin in 3 hours.", "Premieres in an hour"
_BEGINS_IN = re.compile(
    r"\b(?:begins?|starts?|premieres?|live) in (?P<count>\d{1,4}|an?) (?P<unit>second|minute|hour|day|week)s?\b",
    re.IGNORECASE,
)


class TooLarge(Exception):
    """More bytes came in, or would, than the job may have."""


class Incomplete(Exception):
    """What came in is not the file that was announced."""


class ContentChanged(Exception):
    """What is behind the link is another file or stream than the one that was begun."""


class NotOneMedia(Exception):
    """There is a list behind a link that was to lead to one piece of media."""

    hint = "Add the link as a job of its own: as a playlist, each of its entries becomes a job."


class BadOptions(Exception):
    """The options cannot be used with this link."""


class Refused(Exception):
    """A part of a stream was refused, by its server or by our guard, so that asking again at once changes nothing."""


class UnsupportedProtocol(Exception):
    """The media comes over a protocol that the guards do not cover."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and everything that led to it; yt-dlp wraps its causes in attributes of its own."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        info = getattr(current, "exc_info", None)
        if isinstance(info, tuple) and len(info) > 1 and isinstance(info[1], BaseException):
            todo.append(info[1])
        for name in ("cause", "orig_cause", "reason"):
            inner = getattr(current, name, None)
            if isinstance(inner, BaseException):
                todo.append(inner)
        todo.extend((current.__cause__, current.__context__))


def status_of(error: BaseException) -> int | None:
    """Return the status of the HTTP answer at the root of an error."""
    for link in chain(error):
        status = getattr(link, "status", None)
        if type(link).__name__ == "HTTPError" and isinstance(status, int):
            return status
    return None


def describe(error: BaseException) -> Failed:
    """Return the failure that a job ends its attempt with."""
    links = list(chain(error))
    names = frozenset(base.__name__ for link in links for base in type(link).__mro__)
    numbers = [link.errno for link in links if isinstance(link, OSError) and link.errno is not None]
    text = str(error) or next((str(link) for link in links if str(link)), type(error).__name__)
    whole = " | ".join(dict.fromkeys([text, *(str(link) for link in links if type(link).__name__ == "BlockedAddress")]))
    trouble = Trouble(whole, names, status_of(error), numbers[-1] if numbers else None)
    kind = kind_of(trouble)
    wait = _until_release(links, text) if kind is FailureKind.LIVE_NOT_STARTED else None
    told = failed(kind, text, retry_after_seconds=_retry_after(links) if wait is None else wait)
    hint = next((link.hint for link in links if isinstance(link, NotOneMedia)), None)
    return told if hint is None else told.model_copy(update={"hint": hint})


def failed(kind: FailureKind, message: str, *, retry_after_seconds: float | None = None) -> Failed:
    """Return a failure with its usual hint."""
    return Failed(
        kind=kind, message=clean_message(message), hint=HINTS.get(kind), retry_after_seconds=retry_after_seconds
    )


def _retry_after(links: list[BaseException]) -> float | None:
    """Return what Retry-After asked for: seconds or a date (RFC 9110 section 10.2.3)."""
    for link in links:
        headers = getattr(getattr(link, "response", None), "headers", None)
        value = headers.get("Retry-After") if headers is not None else None
        if value is None:
            continue
        seconds = float(value) if value.strip().isdigit() else _until(value)
        if seconds is not None:
            return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
    return None


def _until_release(links: list[BaseException], text: str) -> float | None:
    """Return how long it takes until the stream begins, as far as the site said."""
    for link in links:
        moment = getattr(link, "release_timestamp", None)
        if isinstance(moment, int | float):
            return min(max(0.0, moment - time.time()), MAX_RETRY_AFTER_SECONDS)
    match = _BEGINS_IN.search(text)
    if match is None:
        return None
    count = float(match["count"]) if match["count"].isdigit() else 1.0
    return min(count * _SECONDS_OF[match["unit"].lower()], MAX_RETRY_AFTER_SECONDS)


def _until(value: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return moment.timestamp() - time.time()
