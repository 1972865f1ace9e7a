"""The only way out for programs whose sockets Python does not see: a filtering HTTP proxy on loopback."""

import asyncio
import base64
import contextlib
import secrets
import socket
import threading
from typing import Self

from media_downloader.errors import ConfigurationError, InvalidUrl
from media_downloader.netguard.addresses import IPAddress
from media_downloader.netguard.gatekeeper import BLOCKED_MARKER, BlockedAddress, Gatekeeper, Resolver, in_daemon_thread
from media_downloader.netguard.messages import Refusal, Request, clean_response_head, parse_request
from media_downloader.netguard.policy import Policy
from media_downloader.netguard.tunnel import Tunnel

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10.0
IDLE_TIMEOUT_SECONDS = 60.0
#: While more addresses of a host are left to try, none may take longer than this (a black hole instead of IPv6).
_ATTEMPT_TIMEOUT_SECONDS = 3.0
_MAX_RECORDED = 1000
_USER = "md"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EgressProxy:
    """An HTTP proxy (absolute-form requests and CONNECT) that looks a host up once, refuses it when any of its
    addresses is not permitted, and connects to the very address that was checked. A redirect is a new request to it.

    It listens on 127.0.0.1 only, wants a random password, and lives in a daemon thread, so it ends with its process.
    """

    def __init__(
        self,
        policy: Policy,
        resolver: Resolver | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        idle_timeout_seconds: float = IDLE_TIMEOUT_SECONDS,
    ) -> None:
        self.blocked: list[str] = []
        self._gatekeeper = Gatekeeper(policy, resolver)
        self._max_connections = max_connections
        self._idle_timeout_seconds = idle_timeout_seconds
        self._token = secrets.token_urlsafe(24)
        self._port = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1; 0 before `start`."""
        return self._port

    @property
    def url(self) -> str:
        """What a program on this machine takes as its proxy; holds the password."""
        return f"http://{_USER}:{self._token}@127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """Variables that make ffmpeg, libcurl and most other programs use the proxy for everything."""
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY")
        return dict.fromkeys(names, self.url) | {"no_proxy": "", "NO_PROXY": ""}

    def start(self) -> None:
        """Listen. The port is open when this returns. Raises OSError when no port can be had."""
        if self._thread is not None:
            raise ConfigurationError("the egress proxy was started before")
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="egress-proxy", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Close the port and every connection, and wait until that is done. Does nothing when it does not run."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(RuntimeError):  # its loop has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        # Not the default loop: uvloop's sockets are not Python's, and the socket guard would not see them.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve(listener, ready))
        finally:
            listener.close()
            ready.set()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accept, sock=listener, limit=MAX_HEAD_BYTES)
        ready.set()
        try:
            await self._stopping.wait()
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._attend((reader, writer)))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _attend(self, client: Streams) -> None:
        """One connection is one request: whatever follows belongs to a tunnel or is that request's body."""
        writer = client[1]
        try:
            if len(self._connections) > self._max_connections:
                raise Refusal(503, "too many connections")
            await self._answer(client)
        except Refusal as refusal:
            with contextlib.suppress(OSError, TimeoutError):
                writer.write(refusal.response())
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # either side went away: nobody is left to be told
        finally:
            writer.close()

    async def _answer(self, client: Streams) -> None:
        request = await _read_request(client[0])
        expected = base64.b64encode(f"{_USER}:{self._token}".encode())
        if not secrets.compare_digest(request.credentials, b"Basic " + expected):
            raise Refusal(407, "proxy password required", b'Proxy-Authenticate: Basic realm="media-downloader"\r\n')
        upstream = await self._open(request)
        try:
            tunnel = Tunnel(client, upstream, self._idle_timeout_seconds)
            if request.is_connect:
                client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await tunnel.run(half_close=True)
            else:
                upstream[1].write(request.head)
                await tunnel.run(half_close=False, before_response=_forward_response_head)
        finally:
            upstream[1].close()

    async def _open(self, request: Request) -> Streams:
        host, port = request.target.host, request.target.port
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                addresses = await in_daemon_thread(lambda: self._gatekeeper.resolve(host, port))
                return await _connect_first(addresses, port)
        except BlockedAddress as error:
            if len(self.blocked) < _MAX_RECORDED:
                self.blocked.append(str(request.target))
            raise Refusal(403, BLOCKED_MARKER) from error
        except TimeoutError as error:
            raise Refusal(504, "no answer from the host") from error
        except socket.gaierror as error:
            raise Refusal(502, "the name of the host was not found") from error
        except OSError as error:
            raise Refusal(502, "the host cannot be reached") from error


async def _read_request(reader: asyncio.StreamReader) -> Request:
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refusal(431, "the request head is too long") from None
    try:
        return parse_request(head)
    except InvalidUrl:
        raise Refusal(400, "the target is not valid") from None


async def _forward_response_head(upstream: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    """Interim answers (100, 103) and then the final one, without what concerns one hop only."""
    status = 100
    while 100 <= status < 200:
        status, cleaned = clean_response_head(await _read_head(upstream))
        # An upgrade was not passed on, so nobody can have agreed to one.
        if status == 101:
            raise Refusal(502, "the host does not answer in HTTP")
        client.write(cleaned)
        await client.drain()


async def _read_head(upstream: asyncio.StreamReader) -> bytes:
    """All up to the first empty line, whatever ends the lines; less when the host has ended."""
    head = b""
    while True:
        try:
            line = await upstream.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if not head + error.partial:
                raise Refusal(502, "the host closed the connection without an answer") from None
            return head + error.partial
        except asyncio.LimitOverrunError:
            raise Refusal(502, "the head of the answer is too long") from None
        head += line
        if line in (b"\r\n", b"\n"):
            return head
        if len(head) > MAX_HEAD_BYTES:
            raise Refusal(502, "the head of the answer is too long")


async def _connect_first(addresses: tuple[IPAddress, ...], port: int) -> Streams:
    """The first address that answers, in the resolver's order. Raises the last error."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError, TimeoutError):
            return await asyncio.wait_for(_connect(address, port), _ATTEMPT_TIMEOUT_SECONDS)
    return await _connect(addresses[-1], port)


async def _connect(address: IPAddress, port: int) -> Streams:
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        return await asyncio.open_connection(sock=sock, limit=MAX_HEAD_BYTES)
    except BaseException:
        sock.close()
        raise
