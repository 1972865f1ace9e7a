"""The command as a user has it: a process of its own, in a terminal or not."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.program import Program, alive, descendants, wait_until

#: A command that takes longer than this hangs.
LONGEST_SECONDS = 60.0
COMMAND = (sys.executable, "-m", "media_downloader")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Finished = subprocess.CompletedProcess[str]


def run(place: Program, *arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
    """Run the command in an installation until it ends."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=place.environment() | dict(environment or {}),
        cwd=place.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def on_server(server: Program, *arguments: str) -> Finished:
    """Run ``mdl jobs ...`` against a server."""
    return run(server, "jobs", *arguments, environment={"MEDIA_DOWNLOADER_SERVER": server.url})


def told(finished: Finished) -> str:
    """Return what a command that must succeed printed."""
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


def one_line(finished: Finished, code: int) -> str:
    """Return the single line on standard error of a command that must fail so; never a trace."""
    assert finished.returncode == code, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    return lines[0]


class Get:
    """A running ``mdl get``, in a process group of its own as a shell would start it."""

    #: Every command of this test, so that one that fails leaves none behind.
    started: ClassVar[list["Get"]] = []

    def __init__(self, place: Program, *arguments: str, terminal: bool = False) -> None:
        place.folder.mkdir(parents=True, exist_ok=True)
        self._place = place
        self._shown: list[bytes] = []
        self._terminal = terminal
        self._ours, theirs = pty.openpty() if terminal else (-1, -1)
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        streams: Sequence[int] = (theirs, theirs) if terminal else (subprocess.PIPE, subprocess.PIPE)
        self.process = subprocess.Popen(
            [*COMMAND, "get", *arguments],
            env=place.environment() | {"TERM": "xterm-256color"},
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            start_new_session=True,
        )
        self._seen: set[int] = {self.process.pid}
        self._threads: list[threading.Thread] = []
        Get.started.append(self)
        if terminal:
            os.close(theirs)
            self._listen(self._ours)
        else:
            assert self.process.stdout is not None and self.process.stderr is not None
            self.output: list[bytes] = []
            self._listen(self.process.stdout.fileno(), self.output)
            self._listen(self.process.stderr.fileno())

    def _listen(self, descriptor: int, into: list[bytes] | None = None) -> None:
        kept = self._shown if into is None else into

        def read() -> None:
            while True:
                try:
                    data = os.read(descriptor, 65536)
                except OSError:
                    # A terminal whose last process is gone answers so.
                    return
                if not data:
                    return
                kept.append(data)

        self._threads.append(threading.Thread(target=read))
        self._threads[-1].start()

    @property
    def raw(self) -> bytes:
        """Everything that came to standard error, or to the terminal."""
        return b"".join(self._shown)

    @property
    def shown(self) -> str:
        """Everything that came to standard error, or to the terminal, without escape sequences."""
        return _ESCAPES.sub("", self.raw.decode(errors="replace"))

    @property
    def paths(self) -> list[Path]:
        """The lines of standard output."""
        return [Path(line) for line in b"".join(self.output).decode().splitlines()]

    def note_processes(self) -> None:
        """Remember every process that belongs to the command now."""
        self._seen |= descendants(self.process.pid)

    def wait_bytes(self, at_least: int) -> None:
        """Return once so many bytes are on disk."""
        wait_until(lambda: kept_bytes(self._place) >= at_least, f"{at_least} bytes", LONGEST_SECONDS)

    def terminate(self) -> int:
        """Send SIGTERM, as a system does that shuts down; return the exit code."""
        self.note_processes()
        self.process.terminate()
        return self.wait()

    def interrupt(self, *, group: bool) -> int:
        """Send SIGINT to the whole group, as Ctrl-C does, or to the command alone; return the exit code."""
        self.note_processes()
        if group:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.send_signal(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """kill -9 of the command alone; whatever it started must vanish by itself."""
        self.note_processes()
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Return the exit code; no process of the command may be left a moment later."""
        code = self.process.wait(LONGEST_SECONDS)
        wait_until(lambda: not any(alive(pid) for pid in self._seen), "every process of get to be gone", 5)
        for thread in self._threads:
            thread.join(10)
        if self._terminal:
            os.close(self._ours)
        else:
            assert self.process.stdout is not None and self.process.stderr is not None
            self.process.stdout.close()
            self.process.stderr.close()
        return code


def work_folders(place: Program) -> list[Path]:
    """Return the work folders of ``get``."""
    return sorted(place.downloads.glob(".media-downloader/get/work/mdjob_*"))


def kept_bytes(place: Program) -> int:
    """Return the bytes that ``get`` has on disk for unfinished downloads."""
    total = 0
    for folder in work_folders(place):
        for path in folder.glob("work/*.part"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                # Renamed as it was looked at: it is complete now.
                continue
    return total
