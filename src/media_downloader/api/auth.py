"""Who may ask at all: guards in front of every route, against other sites' pages, rebinding and floods of bytes."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from media_downloader import errors
from media_downloader.api.error_answers import error_response
from media_downloader.settings import Settings

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: Hosts that always name this machine.
LOCAL_HOSTS = frozenset({"localhost"})
#: What a page of another origin may send and see, when it is allowed at all.
CORS_HEADERS = "Content-Type, Idempotency-Key, Last-Event-ID, Range, If-Range"

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Judges each request by its head before any route sees it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = LOCAL_HOSTS | {host.lower().rstrip(".") for host in settings.allowed_hosts}
        self._origins = {origin.lower().rstrip("/") for origin in settings.allowed_origins}
        self._max_body_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "").lower()
        allowed_origin = origin if origin in self._origins else None
        try:
            self._check(scope, headers)
        except errors.RequestError as error:
            await error_response(error)(scope, receive, self._dressed(send, allowed_origin))
            return
        if allowed_origin and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(allowed_origin, send)
            return
        counter = _BodyCounter(receive, self._max_body_bytes)
        await self._app(scope, counter.receive, self._dressed(send, allowed_origin))

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers.getlist("host"))
        self._check_origin(scope, headers)
        if any(ord(char) < 32 or ord(char) == 127 for char in scope["path"]):
            raise errors.MalformedRequest("The path has control characters.")
        if scope["method"] in WRITES:
            self._check_body(headers)

    def _check_host(self, hosts: list[str]) -> None:
        """A page that rebinds its own name to this machine still sends that name (DNS rebinding)."""
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (name in self._hosts or _is_address(name)):
            raise errors.HostNotAllowed(
                "This server is not known under that name. List it in MEDIA_DOWNLOADER_ALLOWED_HOSTS."
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Browsers say where a request comes from; programs that are no browsers say nothing and are let through."""
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            same = urlsplit(origin).netloc.lower() == headers.get("host", "").lower() and origin != "null"
            if not same:
                raise errors.OriginNotAllowed("Pages of other sites may not use this server.")
        elif origin is None and headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
            # Another site's link may be followed to a page; nothing else of theirs is answered.
            navigation = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in {"GET", "HEAD"}
            if not navigation:
                raise errors.OriginNotAllowed("Pages of other sites may not use this server.")

    def _check_body(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise errors.BodyTooLarge(f"A body may have {self._max_body_bytes} bytes.")
        has_body = length != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (has_body or kind):
            raise errors.UnsupportedMediaType("Send JSON, with Content-Type: application/json.")

    @staticmethod
    def _dressed(send: Send, allowed_origin: str | None) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if allowed_origin is not None:
                    headers["Access-Control-Allow-Origin"] = allowed_origin
                    headers["Access-Control-Expose-Headers"] = "Content-Disposition, Content-Range, ETag, Retry-After"
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                    headers.add_vary_header("Origin")
            await send(message)

        return dressed

    @staticmethod
    async def _preflight(origin: str, send: Send) -> None:
        headers = [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-methods", b"GET, HEAD, POST, PATCH, DELETE"),
            (b"access-control-allow-headers", CORS_HEADERS.encode()),
            (b"access-control-max-age", b"600"),
            (b"vary", b"Origin"),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class _BodyCounter:
    """Counts a body that did not say its length, and ends the request when it is too long."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                # Whoever reads a body for FastAPI takes any other error for JSON that cannot be read.
                raise HTTPException(errors.BodyTooLarge.status, "The body is too long.")
        return message


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return None
    if name is None or parts.username is not None or parts.path:
        return None
    return name.lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
