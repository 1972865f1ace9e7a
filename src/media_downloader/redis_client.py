"""One Redis address to one client, and Redis' errors to words; the store and the bus stand on it."""

import os
import re
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from media_downloader.errors import ConfigurationError

__all__ = ["READ_ONLY", "Redis", "RedisError", "connect", "explain", "is_refusal"]

#: Reaching a server in the same network takes milliseconds; more is a host that is not there.
CONNECT_SECONDS = 1.0

_ASKS_FOR_PASSWORD = "Redis asks for a password: write it into REDIS_URL (redis://user:password@host:6379/0)."  # noqa: S105
_WRONG_PASSWORD = "Redis refuses the user or the password that REDIS_URL names."  # noqa: S105
_TLS = "REDIS_URL and the server do not agree about TLS: rediss:// is with it, redis:// without."
_CERTIFICATE = "The certificate of Redis is not trusted here: add ?ssl_ca_certs=/path/of/ca.pem to REDIS_URL."
READ_ONLY = "Redis is a read-only replica: REDIS_URL must name the primary."
_SILENT = "Redis cannot be reached: no answer. A wrong host, a firewall, or TLS (rediss://) on one side alone."
_CLOSED = "Redis closed the connection. If it speaks TLS, REDIS_URL must begin with rediss://."


def connect(url: str, *, connections: int) -> Redis:
    """Return a client with a pool of at most so many connections; nothing is sent yet.

    Retries and time limits are the caller's: only it knows what may be sent twice, and how long it has. Raises
    ``ConfigurationError``.
    """
    try:
        pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=None, protocol=2)
    except ValueError:
        # Without its cause: redis-py may repeat the address there, and that holds the password.
        raise ConfigurationError(
            "REDIS_URL is no address of a Redis: redis://host:6379/0, rediss:// with TLS, or unix:///path."
        ) from None
    # After the address was read: what it says in its query must not change how replies are read.
    ours: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": True,
        "encoding": "utf-8",
        "encoding_errors": "backslashreplace",
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_SECONDS,
        # With one, redis-py calls asyncio.wait_for, and that of Python 3.11 swallows the cancellation of a task.
        "socket_timeout": None,
        "client_name": "media-downloader",
    }
    pool.connection_kwargs.update(ours)
    return Redis.from_pool(pool)


def is_refusal(error: RedisError) -> bool:
    """Say whether the server answered and will not answer otherwise until somebody changes a setting."""
    return isinstance(error, AuthenticationError | ResponseError | InvalidResponse) or "SSL" in str(error)


def explain(error: RedisError | None) -> str:
    """Say in words what keeps Redis from serving us; never with the address or the password in it."""
    if error is None:
        return _SILENT
    said = str(error)
    if isinstance(error, AuthenticationError):
        return _ASKS_FOR_PASSWORD if "required" in said or "NOAUTH" in said else _WRONG_PASSWORD
    known: dict[str, bool] = {
        _CERTIFICATE: "CERTIFICATE_VERIFY_FAILED" in said,
        _TLS: isinstance(error, InvalidResponse) or "SSL" in said,
        _CLOSED: "closed by server" in said,
        _SILENT: "Timeout connecting" in said,
        READ_ONLY: "READONLY" in said or isinstance(error, ReadOnlyError),
        "Redis is full: it has reached its maxmemory.": "OOM" in said or isinstance(error, OutOfMemoryError),
        "Redis is loading its data.": isinstance(error, BusyLoadingError),
        "Redis cannot write to its disk and refuses changes (MISCONF).": "MISCONF" in said,
        f"The user of REDIS_URL may not do what is needed: {said}": isinstance(error, NoPermissionError),
        f"Redis refuses: {said}": isinstance(error, ResponseError),
    }
    told = next((text for text, applies in known.items() if applies), None)
    return told or f"Redis cannot be reached: {_reason(said)}."


def _reason(said: str) -> str:
    """Leave the address out of what redis-py says: the answer to a stranger's request repeats this."""
    match = re.match(r"Error (-?\d+) connecting to ", said)
    if match is None:
        return said.rstrip(".") or "it does not answer"
    number = int(match[1])
    return os.strerror(number) if number > 0 else "its name is not known"
