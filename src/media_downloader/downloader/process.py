"""Download processes, seen from their supervisor: how to have one forked, to hear it and to end it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import structlog
from pydantic import ValidationError

from media_downloader.downloader.protocol import (
    FROM_PROCESS,
    MAX_LINE_BYTES,
    Exited,
    FromProcess,
    Logged,
    Message,
    Spec,
    Started,
    encode,
)
from media_downloader.downloader.zygote import LENGTH
from media_downloader.errors import DownloaderUnavailable
from media_downloader.netguard import redact_line

log = structlog.get_logger(__name__)

CHILD_MODULE = "media_downloader.downloader.child"
#: How long the zygote may take to import yt-dlp on a slow machine.
WARM_SECONDS = 60.0
#: Between two starts of a zygote that dies at once.
RESTART_SECONDS = 1.0
#: Log lines kept for a verdict.
LAST_LINES = 30

#: What a download process may see of the server's environment; nothing in it is secret.
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "LD_LIBRARY_PATH")


class DownloadProcess:
    """One download process. Closing the connection kills it and everything that it started."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._exit_code: int | None = None
        self._ended = asyncio.Event()
        self._killed = False
        self._pumping: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[FromProcess | None] = asyncio.Queue()
        self.pid: int | None = None
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    async def connect(self, spec: Spec) -> None:
        """Send the spec and begin to listen."""
        self._socket.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket, limit=MAX_LINE_BYTES)
        body = spec.model_dump_json().encode()
        self._writer.write(LENGTH.pack(len(body)) + body)
        self._pumping = asyncio.create_task(self._pump())

    async def messages(self) -> AsyncIterator[FromProcess]:
        """Yield what the process says until it is dead; a line that is no message is a warning in its log."""
        while (message := await self._inbox.get()) is not None:
            yield message
        # Whoever asks again is told the same.
        self._inbox.put_nowait(None)

    async def send(self, message: Message) -> None:
        """Tell the process something; a dead one does not mind."""
        if self._writer is not None and not self._killed:
            self._writer.write(encode(message))
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def kill(self) -> None:
        """End the process and everything that it started, at once. ``wait`` tells when they are gone."""
        if self._killed:
            return
        self._killed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def kill_group(self) -> None:
        """End the process group without the zygote's help, for when that does not answer."""
        self._killed = True
        if self.pid is not None and self._exit_code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        # Nobody will say that it is gone; what is left of the conversation is of no interest.
        if self._writer is not None:
            self._writer.close()

    async def wait(self) -> int | None:
        """Return the exit status once the whole group is gone; None when nobody could tell it."""
        await self._ended.wait()
        return self._exit_code

    async def _pump(self) -> None:
        assert self._reader is not None
        try:
            while True:
                try:
                    line = await self._reader.readuntil(b"\n")
                except asyncio.LimitOverrunError as error:
                    await self._reader.read(max(error.consumed, 1))
                    self._hear(Logged(level="warning", text="The download process said a line without end."))
                    continue
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                if line.strip():
                    self._hear(_parse(line))
        finally:
            self._confirm_death()
            if self._writer is not None:
                self._writer.close()
            self._inbox.put_nowait(None)
            self._ended.set()

    def _hear(self, message: FromProcess) -> None:
        if isinstance(message, Started):
            self.pid = message.pid
        elif isinstance(message, Exited):
            self._exit_code = message.code
        elif isinstance(message, Logged):
            self.last_lines.append(message.text)
        self._inbox.put_nowait(message)

    def _confirm_death(self) -> None:
        """Make sure of the group when the zygote cannot tell, because it died too."""
        if self._exit_code is None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _parse(line: bytes) -> FromProcess:
    try:
        return FROM_PROCESS.validate_json(line)
    except ValidationError:
        return Logged(level="warning", text=redact_line(line[:2000].decode("utf-8", "replace"), 500))


class Zygote:
    """The server's end of the zygote: starts it, restarts it when it died, and has processes forked."""

    def __init__(self, private_dir: Path, child_module: str = CHILD_MODULE) -> None:
        self._private_dir = private_dir
        self._child_module = child_module
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._errors: IO[bytes] | None = None
        self._ready = False
        #: Why no process can be started now; None while all is well.
        self.problem: str | None = None
        self._started_at = float("-inf")
        self._starting = asyncio.Lock()

    def start(self) -> None:
        """Start the program; it warms up behind. Call it from a thread that lives as long as the server.

        The parent-death signal follows the thread that forked (prctl(2)), so the main thread it is.
        """
        if threading.current_thread() is not threading.main_thread():
            raise DownloaderUnavailable("Download processes can only be started from the main thread.")
        self._private_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the zygote
        command = [sys.executable, "-m", "media_downloader.downloader.zygote"]
        arguments = [str(theirs.fileno()), str(os.getpid()), self._child_module]
        self._process = subprocess.Popen(
            command + arguments,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            cwd=self._private_dir,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._ready = False
        self._started_at = time.monotonic()

    async def stop(self) -> None:
        """End the zygote, and with it every process that it forked."""
        self._let_go()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.to_thread(process.wait)
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    async def spawn(self, spec: Spec) -> DownloadProcess:
        """Return a new download process that has been told its spec. Raises ``DownloaderUnavailable``."""
        control = await self._ensure_ready()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            socket.send_fds(control, [b"job"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise DownloaderUnavailable(f"No download process could be started: {error.strerror}") from None
        finally:
            theirs.close()
        process = DownloadProcess(ours)
        try:
            await process.connect(spec)
        except BaseException:
            # Whoever wanted it is gone: closing the connection ends it.
            ours.close()
            raise
        return process

    async def _ensure_ready(self) -> socket.socket:
        async with self._starting:
            if self._process is None:
                raise DownloaderUnavailable("Download processes cannot be started: the server is stopping.")
            if self._process.poll() is not None:
                await self._restart()
            if not self._ready:
                await self._await_ready()
            assert self._control is not None
            return self._control

    async def _restart(self) -> None:
        log.error("The zygote died; a new one is started", last_words=self._last_words())
        await asyncio.sleep(max(0.0, self._started_at + RESTART_SECONDS - time.monotonic()))
        self._let_go()
        if self._errors is not None:
            self._errors.close()
        self.start()

    async def _await_ready(self) -> None:
        assert self._control is not None
        try:
            word = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._control, 16), WARM_SECONDS)
        except (TimeoutError, OSError):
            word = b""
        if word != b"ready":
            self.problem = f"Download processes cannot be started. {self._last_words()}"
            raise DownloaderUnavailable(self.problem)
        self._ready = True
        self.problem = None

    def _let_go(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        end = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, end - 2000))
        return self._errors.read().decode("utf-8", "replace").strip()[-1000:]

    def _environment(self) -> dict[str, str]:
        private = str(self._private_dir)
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return environment | {
            "HOME": private,
            "XDG_CONFIG_HOME": private,
            "XDG_CACHE_HOME": private,
            "XDG_DATA_HOME": private,
            "DENO_DIR": str(self._private_dir.parent / "deno"),
            "YTDLP_NO_PLUGINS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        }
