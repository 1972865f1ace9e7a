"""Reads and rewrites the heads of HTTP/1 messages that pass through the filtering proxy."""

import re
from dataclasses import dataclass

from media_downloader.netguard.hosts import Authority, parse_authority

# ffmpeg sends the paths of a playlist as they stand there, raw UTF-8 and spaces included.
_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,20}) ([^\x00-\x1f\x7f]+) HTTP/1\.[01]\Z")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\Z")
_ABSOLUTE_TARGET = re.compile(rb"([a-z][a-z0-9+.-]*)://([^/?#]*)([^#]*)", re.IGNORECASE)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)\Z")

# RFC 9110 7.6.1, and what earlier specifications and practice call so. Transfer-Encoding stays: bodies pass unread.
_ONE_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te upgrade".split()
)


class Refusal(Exception):
    """Ends a request with an answer of the proxy itself."""

    def __init__(self, status: int, reason: str, headers: bytes = b"") -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self._reason = reason
        self._headers = headers

    def response(self) -> bytes:
        """The complete answer; its reason is repeated in the body."""
        body = self._reason.encode() + b"\n"
        return (
            f"HTTP/1.1 {self.status} {self._reason}\r\nContent-Type: text/plain\r\n".encode()
            + f"Content-Length: {len(body)}\r\n".encode()
            + self._headers
            + b"Connection: close\r\n\r\n"
            + body
        )


@dataclass(frozen=True)
class Request:
    """A request to the proxy: where it goes, who asks, and the head to send on (empty for CONNECT)."""

    is_connect: bool
    target: Authority
    credentials: bytes
    head: bytes


def parse_request(head: bytes) -> Request:
    """Read a complete head. Raises Refusal for what is no proxy request, InvalidUrl for a bad target."""
    line, headers = _split(head)
    match = _REQUEST_LINE.match(line)
    if match is None:
        raise Refusal(400, "not an HTTP request")
    method, target = match.groups()
    credentials = next((value for name, value in headers if name.lower() == b"proxy-authorization"), b"")
    if method.upper() == b"CONNECT":
        authority = parse_authority(_text(target), default_port=0)
        if authority.port == 0:
            raise Refusal(400, "CONNECT needs a port")
        return Request(True, authority, credentials, b"")
    absolute = _ABSOLUTE_TARGET.match(target)
    if absolute is None:
        raise Refusal(400, "not a request to a proxy")
    if absolute[1].lower() != b"http":
        raise Refusal(501, "only http, and CONNECT for the rest")
    authority = parse_authority(_text(absolute[2].rpartition(b"@")[2]), default_port=80)
    path = absolute[3] if absolute[3].startswith(b"/") else b"/" + absolute[3]
    host = authority.bracketed_host if authority.port == 80 else str(authority)
    # One request per connection, so that nothing after it can be taken for another one to the same host.
    kept = [(b"Host", host.encode()), *_without_one_hop(headers, also=b"host"), (b"Connection", b"close")]
    return Request(False, authority, credentials, _join(method + b" " + path + b" HTTP/1.1", kept))


def clean_response_head(head: bytes) -> tuple[int, bytes]:
    """The status, and the head without what concerns one hop only.

    Lenient, as servers are sloppy and the clients behind us cope: bare line feeds and folded lines are mended, lines
    that are no headers dropped, and what does not begin like HTTP/1 (``ICY 200 OK``) passes as it is, as status 200.
    """
    line, *rest = [text.removesuffix(b"\r") for text in head.rstrip(b"\r\n").split(b"\n")]
    match = _STATUS_LINE.match(line)
    if match is None:
        return 200, head
    headers: list[tuple[bytes, bytes]] = []
    for text in rest:
        header = _HEADER.match(text)
        if header is not None:
            headers.append((header[1], header[2]))
        elif text[:1] in (b" ", b"\t") and headers:
            name, value = headers.pop()
            headers.append((name, value + b" " + text.strip()))
    status = int(match[1])
    closing = [] if status < 200 else [(b"Connection", b"close")]
    return status, _join(line, [*_without_one_hop(headers), *closing])


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "the target is not UTF-8") from None


def _split(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    line, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers: list[tuple[bytes, bytes]] = []
    for text in rest:
        match = _HEADER.match(text)
        if match is None:  # folded lines and bare line ends are read differently by different programs
            raise Refusal(400, "a header is not valid")
        headers.append((match[1], match[2]))
    return line, headers


def _without_one_hop(headers: list[tuple[bytes, bytes]], also: bytes = b"") -> list[tuple[bytes, bytes]]:
    named = {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    # A sender cannot have these dropped by naming them: the body would be read wrongly.
    dropped = (named - {b"content-length", b"transfer-encoding", b"host"}) | _ONE_HOP | {also}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _join(line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers)]) + b"\r\n\r\n"
