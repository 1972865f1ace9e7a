"""The origin: an HTTP server whose behaviour is written into each link.

``http://127.0.0.1:PORT/rate=200000,cut=50000/big.mp4`` serves ``big.mp4`` slowly and cuts the line once. Everything
below such a first component inherits it, so the segments of a stream misbehave like their playlist.
"""

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.origin.media import Media

#: No request is held open longer than this, whatever it asks for.
LONGEST_SECONDS = 90.0
TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".html": "text/html; charset=utf-8",
    ".xml": "application/rss+xml",
    ".vtt": "text/vtt",
}


@dataclass(frozen=True)
class Seen:
    """A request as it came in, and what was sent of the body."""

    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent_bytes: int

    @property
    def range(self) -> str | None:
        """Return the Range header."""
        return self.headers.get("range")


@dataclass
class Behaviour:
    """What a link's first component asks for."""

    #: Bytes per second of each connection.
    rate: int | None = None
    #: Slow down only so many answers of a path; the ones after them come at full speed.
    slowtimes: int = 1_000_000
    #: Cut the line after so many bytes of the body, for the first ``times`` answers of a path.
    cut: int | None = None
    #: Send no more after so many bytes, and hold the line.
    stall: int | None = None
    times: int = 1
    #: Answer with this status: from request ``first`` of a path on, ``times`` times.
    status: int | None = None
    first: int = 1
    retryafter: str | None = None
    #: Redirect so often before answering.
    redirect: int = 0
    #: Announce so many bytes more than there are.
    long: int = 0
    noranges: bool = False
    #: No ETag / neither ETag nor Last-Modified / a weak ETag.
    noetag: bool = False
    novalidators: bool = False
    weak: bool = False
    nolength: bool = False
    #: Ignore If-Range, as servers do that do not know it.
    noifrange: bool = False
    #: Only paths that contain this behave so; all others are well.
    only: str = ""

    @classmethod
    def parse(cls, text: str) -> "Behaviour":
        """Read ``rate=1000,noranges``; anything unknown is only a label that makes a link unique."""
        found = cls()
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name in cls.__annotations__:
                known = getattr(found, name)
                setattr(
                    found, name, True if known is False else (value if name in {"retryafter", "only"} else int(value))
                )
        return found


@dataclass
class Origin:
    """Serves a folder of media and pages of its own."""

    media: Media
    #: Pages and replaced files by path: they win over files of the folder. What can be called is asked each time.
    pages: dict[str, bytes | Callable[[], bytes | None]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    #: Where it listens; port 0 takes a free one.
    listen: tuple[str, int] = ("127.0.0.1", 0)
    #: The address that links name.
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        origin = self

        class Handler(_Handler):
            """Bound to this origin."""

            site = origin

        kind = _ServerOverIPv6 if ":" in self.listen[0] else _Server
        self._server = kind(self.listen, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        """What an allow-list must name."""
        return f"{self.address}:{self.port}"

    def url(self, path: str, behaviour: str = "plain") -> str:
        """Return a link."""
        return f"http://{self.endpoint}/{behaviour}/{path}"

    def page(self, path: str, text: str) -> None:
        """Put a page, or anything else that is text, under a path."""
        self.pages[path] = text.encode()

    def replace(self, path: str, source: Path) -> None:
        """Serve another file under a path from now on, with validators of its own."""
        self.pages[path] = source.read_bytes()

    def replace_folder(self, path: str, source: Path) -> None:
        """Serve another stream's files under the same names."""
        for file in source.iterdir():
            self.replace(f"{path}/{file.name}", file)

    def requests(self, part: str) -> list[Seen]:
        """Return the requests whose path contains ``part``."""
        with self._lock:
            return [entry for entry in self.seen if part in entry.path]

    def sent_bytes(self, part: str) -> int:
        """Return what was sent of bodies whose path contains ``part``."""
        return sum(entry.sent_bytes for entry in self.requests(part))

    # --- for the handlers ---------------------------------------------------------------------------------------

    def note(self, entry: Seen) -> None:
        """Remember an answer that is over."""
        with self._lock:
            self.seen.append(entry)

    def count(self, key: str) -> int:
        """Return how often this was asked for, this time included."""
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1
            return self._counts[key]

    def body(self, name: str) -> bytes | None:
        """Return what is served under a name."""
        if name in self.pages:
            page = self.pages[name]
            return page() if callable(page) else page
        path = (self.media.folder / name).resolve()
        if path.is_relative_to(self.media.folder.resolve()) and path.is_file():
            return path.read_bytes()
        return None

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the origin's end; say whether it goes on."""
        return not self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what is tested here."""


class _ServerOverIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Origin

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        _, _, rest = path.partition("/")
        wanted, _, name = rest.partition("/")
        behaviour = Behaviour.parse(wanted)
        if behaviour.only and behaviour.only not in name:
            behaviour = Behaviour()
        # A HEAD or a player's probe must not use up what is meant for the download.
        number = self.site.count(path) if with_body else 0
        if self._refused(behaviour, number) or self._redirected(behaviour, wanted, name):
            return
        body = self.site.body(name)
        if body is None:
            self._plain(404)
            return
        self._send(behaviour, body, number, with_body=with_body)

    def _refused(self, behaviour: Behaviour, number: int) -> bool:
        if behaviour.status is None or not behaviour.first <= number < behaviour.first + behaviour.times:
            return False
        self._plain(behaviour.status, {"Retry-After": behaviour.retryafter} if behaviour.retryafter else {})
        return True

    def _redirected(self, behaviour: Behaviour, wanted: str, name: str) -> bool:
        if behaviour.redirect <= 0:
            return False
        less = re.sub(r"redirect=\d+", f"redirect={behaviour.redirect - 1}", wanted)
        self._plain(302, {"Location": f"/{less}/{name}"})
        return True

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self._note(status, 0)

    def _send(self, behaviour: Behaviour, body: bytes, number: int, *, with_body: bool) -> None:
        etag = f'"{hashlib.sha1(body).hexdigest()[:16]}"'
        start, end = self._range(behaviour, len(body), etag)
        if start >= len(body) > 0:
            self._plain(416, {"Content-Range": f"bytes */{len(body)}"})
            return
        partial = (start, end) != (0, len(body)) or (
            start == 0 and end == len(body) and self._asks_whole_range(behaviour)
        )
        self.send_response(206 if partial else 200)
        self._headers(behaviour, etag, end - start)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        self.end_headers()
        sent = self._pour(behaviour, body[start:end], number) if with_body else 0
        self._note(206 if partial else 200, sent)

    def _headers(self, behaviour: Behaviour, etag: str, length: int) -> None:
        self.send_header(
            "Content-Type", TYPES.get(Path(self.path.partition("?")[0]).suffix, "application/octet-stream")
        )
        if not behaviour.noranges:
            self.send_header("Accept-Ranges", "bytes")
        if not (behaviour.noetag or behaviour.novalidators):
            self.send_header("ETag", f"W/{etag}" if behaviour.weak else etag)
        if not behaviour.novalidators:
            # A date that differs with the content, long past.
            self.send_header("Last-Modified", formatdate(1_600_000_000 + int(etag[1:6], 16), usegmt=True))
        if behaviour.nolength:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length + behaviour.long))

    def _asks_whole_range(self, behaviour: Behaviour) -> bool:
        return not behaviour.noranges and self.headers.get("Range", "").startswith("bytes=0-")

    def _range(self, behaviour: Behaviour, size: int, etag: str) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None or behaviour.noranges:
            return 0, size
        condition = self.headers.get("If-Range")
        if condition is not None and not behaviour.noifrange and condition.startswith('"') and condition != etag:
            return 0, size
        if condition is not None and not behaviour.noifrange and not condition.startswith('"'):
            date = formatdate(1_600_000_000 + int(etag[1:6], 16), usegmt=True)
            if condition != date:
                return 0, size
        return int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)

    def _pour(self, behaviour: Behaviour, data: bytes, number: int) -> int:
        misbehaves = number <= behaviour.times
        stop = len(data)
        if misbehaves and behaviour.cut is not None:
            stop = min(stop, behaviour.cut)
        if misbehaves and behaviour.stall is not None:
            stop = min(stop, behaviour.stall)
        sent = 0
        for piece in self._pieces(behaviour.rate if number <= behaviour.slowtimes else None, data[:stop]):
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return sent
            sent += len(piece)
        if behaviour.long:
            self.close_connection = True
        if stop < len(data):
            if behaviour.stall is not None and misbehaves:
                self._hold()
            self._tear()
        return sent

    def _pieces(self, rate: int | None, data: bytes) -> Iterator[memoryview]:
        view = memoryview(data)
        if rate is None:
            for start in range(0, len(view), 1 << 20):
                yield view[start : start + (1 << 20)]
            return
        size = max(1, rate // 50)
        began = time.monotonic()
        for start in range(0, len(view), size):
            yield view[start : start + size]
            late = began + (start + size) / rate - time.monotonic()
            if (late > 0 and not self.site.wait(late)) or time.monotonic() - began > LONGEST_SECONDS:
                self._tear()
                return

    def _hold(self) -> None:
        """Keep the line open and silent until the client goes away."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(0.2)
            began = time.monotonic()
            while time.monotonic() - began < LONGEST_SECONDS and self.site.wait(0):
                try:
                    if not self.connection.recv(1):
                        return
                except TimeoutError:
                    continue

    def _tear(self) -> None:
        """Reset the connection, as a cut line or a crashed server would."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)

    def _note(self, status: int, sent: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.note(Seen(self.command, self.path, headers, status, sent))
