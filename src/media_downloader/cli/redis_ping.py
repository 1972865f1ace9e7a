"""Asks a Redis whether it is there, in its own few words: no client is imported for that."""

import contextlib
import socket
import ssl
from urllib.parse import unquote, urlsplit

PING_SECONDS = 2.0
DEFAULT_PORT = 6379


def place_of(url: str) -> str:
    """Return where a URL leads, without what is secret in it."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or DEFAULT_PORT}"


def problem_with(url: str) -> str | None:
    """Return why a Redis cannot be used, None when it answers."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.path):
            return "the URL must look like redis://host:6379/0"
        with contextlib.closing(_connect(url)) as line:
            if parts.password:
                words = [unquote(part) for part in (parts.username, parts.password) if part]
                answer = _ask(line, "AUTH", *words)
                if answer.startswith("-"):
                    return f"it refuses the password ({answer[1:]})"
            answer = _ask(line, "PING")
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error) or "it does not answer"
    if answer == "+PONG":
        return None
    return f"it answers {answer[1:]}" if answer.startswith("-") else "what answers there is no Redis"


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(PING_SECONDS)
        line.connect(parts.path)
        return line
    host = parts.hostname or "localhost"
    line = socket.create_connection((host, parts.port or DEFAULT_PORT), PING_SECONDS)
    return ssl.create_default_context().wrap_socket(line, server_hostname=host) if parts.scheme == "rediss" else line


def _ask(line: socket.socket, *words: str) -> str:
    """Send a command and return the one line of its answer, sign included."""
    parts = [word.encode() for word in words]
    line.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    answer = b""
    while not answer.endswith(b"\r\n") and len(answer) < 1024:
        more = line.recv(1024)
        if not more:
            break
        answer += more
    return answer.decode("utf-8", "replace").strip()
