"""HTTP on the wire: uvicorn's reading of it, with a bound on heads and our error body for what is no HTTP."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from media_downloader.errors import MalformedRequest

#: Bytes that may come in without completing a head or being part of a body. Real heads have some kilobytes; a read
#: may bring the end of a body of 256 KiB with it.
MAX_HEAD_BYTES = 512 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """A client that sends a head, or trailers, without an end is cut off: uvicorn would keep all of it in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pending_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read what came in."""
        super().data_received(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._pending_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body is in; how long a body may be is the guard's matter."""
        self._pending_bytes = 0
        super().on_body(body)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: whoever asks for a WebSocket is answered without one, and would fill the log."""

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read as HTTP, in the one shape, and hang up."""
        body = json.dumps({"error": MalformedRequest.code, "detail": msg}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(head.encode() + body)
        self.transport.close()
