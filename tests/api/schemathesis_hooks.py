"""Hooks of schemathesis: what it sends stays on loopback, and says what a schema cannot say."""

import os
from typing import Any

import schemathesis
from schemathesis.generation.modes import GenerationMode

from media_downloader.errors import InvalidUrl
from media_downloader.netguard.urls import parse_url

#: A link to media on loopback, from the test.
LINK = os.environ["SCHEMATHESIS_LINK"]
#: Strings that are judged by more than their shape, and one that passes.
GOOD = {"url": LINK, "format": "best", "folder": "clips/new", "output_template": "%(title)s"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Last stop before the wire: no link leaves here that leads anywhere but to our origin.

    The server looks up the name of every link that it is given, and downloads what it accepts.
    """
    case.body = at_home(case.body)
    if case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE:
        case.body = meaningful(case.body)
        # A cursor is any text to a schema, and only what the server gave out to the server.
        (case.query or {}).pop("cursor", None)


def at_home(value: Any) -> Any:
    """Replace every text that could be fetched, wherever it stands."""
    if isinstance(value, dict):
        return {name: at_home(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [at_home(entry) for entry in value]
    if isinstance(value, str) and is_link(value):
        return LINK
    return value


def is_link(text: str) -> bool:
    """Say whether the server could take the text for a link."""
    try:
        parse_url(text)
    except InvalidUrl:
        return False
    return True


def meaningful(body: Any) -> Any:
    """Fill a body of the right shape with words that mean something, so that it gets past the front door."""
    if not isinstance(body, dict):
        return body
    found = {name: GOOD[name] if name in GOOD and isinstance(value, str) else value for name, value in body.items()}
    if isinstance(found.get("urls"), list):
        found["urls"] = [LINK for _ in found["urls"]]
    if isinstance(found.get("options"), dict):
        found["options"] = meaningful(found["options"])
    return found
