"""Runs the app: binds the port, serves, and stops within three seconds whatever is still open."""

import asyncio
import errno
import gc
import socket
import sys

import structlog
import uvicorn
from fastapi import FastAPI

from media_downloader.api.app import create_app
from media_downloader.api.protocol import BoundedProtocol
from media_downloader.bootstrap import bootstrap, choose_mode
from media_downloader.errors import ConfigurationError
from media_downloader.logs import configure_logging
from media_downloader.settings import Settings

log = structlog.get_logger(__name__)

#: What open requests are given when the server stops.
GRACE_SECONDS = 1
BACKLOG = 2048
#: Python's own, but for the last, which is 10.
GC_YOUNG, GC_MIDDLE, GC_FULL = 700, 10, 100
#: What the kernel takes for a client beyond what is on the wire; costs no speed (measured).
UNSENT_BYTES = 256 * 1024


class Server(uvicorn.Server):
    """Ends the event streams first: they would keep the server from stopping."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._app.state.events.close()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Raises ``MediaDownloaderError`` when it cannot start."""
    configure_logging(settings)
    container = bootstrap(settings, asyncio.run(choose_mode(settings)))
    app = create_app(container)
    bound = _bind(settings.host, settings.port)
    host, port = bound.getsockname()[:2]
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
    )
    server = Server(config, app)

    async def run() -> None:
        # Before uvicorn, which would tell a refusal as a traceback and end with a code of its own.
        await container.start()
        _calm_the_collector()
        shown = f"[{host}]" if ":" in host else host
        log.info(f"Media Downloader on http://{shown}:{port}", docs=f"http://{shown}:{port}/docs")
        await server.serve(sockets=[bound])

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        return
    finally:
        bound.close()
    if not server.started:
        sys.exit(1)


def _calm_the_collector() -> None:
    """Leave what was imported out of every collection, and look at all that lives ten times less often.

    A full collection stops every request while it looks at each object: 100 ms in the middle of an add (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_FULL)


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything else starts, so that a second server ends with a clear word."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it (tcp(7)). The event loop would only set it for a socket that was made with a protocol, and
    # without it each answer's body waits 40 ms for the client's delayed acknowledgement of its head (measured).
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Inherited by every connection: a client that does not read would have the kernel keep 4 MB for it otherwise.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        what = (
            "MEDIA_DOWNLOADER_PORT, or stop what uses this one"
            if error.errno == errno.EADDRINUSE
            else "MEDIA_DOWNLOADER_HOST or _PORT"
        )
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another {what}.") from None
    return bound
