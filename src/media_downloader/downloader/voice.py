"""The download process's end of the connection: what it says, what it hears, and whether there is still life in it."""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from media_downloader.downloader.protocol import TO_PROCESS, Alive, FinishRecording, Go, Logged, Message, encode
from media_downloader.netguard import redact_line

#: How often signs of life are looked for.
LOOK_SECONDS = 2.0
#: A process that works uses at least this share of a processor.
WORKING_SHARE = 0.02
#: Longest line of a log that is passed on.
MAX_LOG_CHARS = 2000


class Voice:
    """Says messages from any thread, and listens for commands in one of its own."""

    def __init__(self, connection: socket.socket, work: Path | None = None, keep: Path | None = None) -> None:
        self._connection = connection
        self._work = work
        self._keep = keep
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._signs: tuple[int, int, int] = (0, 0, 0)
        self._own_seconds = 0.0
        #: Called when a live recording is to be finished.
        self.on_finish: Callable[[], None] = lambda: None
        #: Called with the bytes of the work folder when they have changed.
        self.on_growth: Callable[[int], None] = lambda _: None

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, name="ears", daemon=True).start()

    def say(self, message: Message) -> None:
        """Send a message. When nobody listens any more, the zygote kills this process anyway."""
        try:
            with self._lock:
                self._connection.sendall(encode(message))
        except OSError:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait_for_go(self) -> None:
        """Wait until the supervisor has seen that there is room."""
        self._go.wait()
        self._go.clear()

    def _listen(self) -> None:
        buffer = b""
        while True:
            ready, _, _ = select.select([self._connection], [], [], LOOK_SECONDS)
            if not ready:
                self._look_for_life()
                continue
            data = self._connection.recv(65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            command = TO_PROCESS.validate_json(line)
        except ValidationError:
            return
        match command:
            case Go():
                self._go.set()
            case FinishRecording():
                self.on_finish()

    def _look_for_life(self) -> None:
        """Tell that something moves: processor time of this process or its programs, or bytes in the work folder.

        A timer that says "alive" whatever happens would defeat the supervisor's watch over silence. So would the
        processor time of this very thread, and the little that threads use which wait for something.
        """
        # Hashing is done by this process itself. Called in the listening thread: its own time is what is taken off.
        own = time.process_time() - time.thread_time()
        works = own - self._own_seconds >= WORKING_SHARE * LOOK_SECONDS
        self._own_seconds = own
        signs = (_processor_ticks(), _folder_bytes(self._work), _folder_bytes(self._keep))
        if signs != self._signs or works:
            grown = signs[1] != self._signs[1]
            self._signs = signs
            self.say(Alive())
            if grown:
                self.on_growth(signs[1])


def _processor_ticks() -> int:
    """Return the processor time of the programs that this process started, in clock ticks (proc(5))."""
    ticks = 0
    me = os.getpid()
    try:
        children = Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split()
        for child in children:
            fields = (
                Path(f"/proc/{child}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
            ticks += int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return ticks
    return ticks


def _folder_bytes(folder: Path | None) -> int:
    if folder is None:
        return 0
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        return total
    return total


class YtdlpLogger:
    """Takes yt-dlp's log lines and passes them on without secrets."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    def debug(self, text: str) -> None:
        """Take a line of the screen or of the debug log; yt-dlp uses one method for both."""
        self._voice.say(Logged(level="debug" if text.startswith("[debug] ") else "info", text=self._clean(text)))

    def info(self, text: str) -> None:
        """Take a line for people."""
        self._voice.say(Logged(level="info", text=self._clean(text)))

    def warning(self, text: str) -> None:
        """Take a warning."""
        self._voice.say(Logged(level="warning", text=self._clean(text)))

    def error(self, text: str) -> None:
        """Take an error; the verdict comes as a message of its own."""
        self._voice.say(Logged(level="error", text=self._clean(text)))

    @staticmethod
    def _clean(text: str) -> str:
        return redact_line(text, MAX_LOG_CHARS)
