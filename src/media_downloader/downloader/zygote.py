"""The warm program that forks download processes: small, single-threaded, with yt-dlp imported.

One connection is one job. When it closes, whoever died, the job's whole process group is killed; when the process
dies, its group is killed before it is reaped, and the last line on the connection says how it ended.
"""

import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from media_downloader.downloader.process_tree import (
    adopt_orphans,
    die_with_parent,
    limit_download_process,
    restore_signals,
)
from media_downloader.downloader.protocol import Exited, Logged, NotStarted, Spec, Started, encode
from media_downloader.netguard import redact_line

#: The length of a spec goes before it.
LENGTH = struct.Struct("!I")
#: A spec longer than this is none of ours.
MAX_SPEC_BYTES = 1024 * 1024
#: What is told of a process's standard error when it dies without a last word.
TOLD_BYTES = 4096
MAX_TOLD_CHARS = 1000
#: Room above a size limit for what yt-dlp writes beside the media.
FILE_HEADROOM_BYTES = 64 * 1024 * 1024
#: How long a killed group may take to be empty.
EMPTY_SECONDS = 3.0


class ChildModule(Protocol):
    """What the zygote runs in a forked process."""

    def warm(self) -> None:
        """Import and build what every process needs."""

    def main(self, spec: Spec, connection: socket.socket) -> int:
        """Serve one job; return the exit status."""


@dataclass
class Forked:
    """One download process, as the zygote knows it."""

    pid: int
    connection: socket.socket
    told: IO[bytes]


class Server:
    """The zygote's loop: connections come in over the control socket, deaths over a pipe."""

    def __init__(self, control: socket.socket, child: ChildModule) -> None:
        self._control = control
        self._child = child
        self._forked: dict[int, Forked] = {}
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        """Fork until the control socket closes, which means that the server is gone."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._orphaned)
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._accept():
                        self._end()
                        return
                elif descriptor == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                    self._bury_the_dead()
                else:
                    self._hung_up(descriptor)

    def _accept(self) -> bool:
        """Fork a process for a new connection; False when there will be no more."""
        message, descriptors, _, _ = socket.recv_fds(self._control, 16, 1, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            try:
                told = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that it listens to
                pid = os.fork()
            except OSError as error:
                # No memory, no process numbers, no room for a file: the downloads that run are not to pay for it.
                self._refuse(connection, f"No download process could be started: {error.strerror}.")
                continue
            if pid == 0:
                self._be_child(connection, told)
            forked = Forked(pid, connection, told)
            self._forked[connection.fileno()] = forked
            self._poll.register(connection, select.POLLRDHUP)
        return True

    @staticmethod
    def _refuse(connection: socket.socket, why: str) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(encode(NotStarted(why=why)) + encode(Exited(code=os.EX_OSERR)))
        connection.close()

    def _be_child(self, connection: socket.socket, told: IO[bytes]) -> None:
        """Become a download process. Never returns."""
        status = 70
        try:
            restore_signals()
            signal.set_wakeup_fd(-1)
            os.setsid()
            die_with_parent(self_parent)
            os.dup2(told.fileno(), 2)
            self._close_others(connection)
            faulthandler.enable()
            spec = _read_spec(connection)
            limit = None if spec.max_size_bytes is None else spec.max_size_bytes + FILE_HEADROOM_BYTES
            limit_download_process(limit)
            if spec.workdir:
                os.chdir(spec.workdir)
            connection.sendall(encode(Started(pid=os.getpid())))
            status = self._child.main(spec, connection)
        except BaseException:  # noqa: BLE001 - the end of the process: what happened is told, then it ends
            with contextlib.suppress(OSError, ValueError):
                traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    def _close_others(self, connection: socket.socket) -> None:
        """Keep 0, 1, 2 and the connection: no fork may hold another job's connection open, or the zygote's."""
        keep = connection.fileno()
        os.closerange(3, keep)
        limit = os.sysconf("SC_OPEN_MAX")
        os.closerange(keep + 1, limit if limit > 0 else 65536)

    def _hung_up(self, descriptor: int) -> None:
        """The supervisor has let go: end the group. The death is then reported like any other."""
        forked = self._forked.get(descriptor)
        if forked is not None:
            self._poll.unregister(descriptor)
            _kill_group(forked.pid)

    def _bury_the_dead(self) -> None:
        for forked in list(self._forked.values()):
            # WNOWAIT leaves the zombie in place: its number, and so its group's, cannot be given to another yet.
            died = os.waitid(os.P_PID, forked.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if died is not None:
                self._bury(forked)
        self._reap_adopted()

    def _bury(self, forked: Forked) -> None:
        _kill_group(forked.pid)
        _, status = os.waitpid(forked.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        _await_empty_group(forked.pid)
        del self._forked[forked.connection.fileno()]
        with contextlib.suppress(KeyError):
            self._poll.unregister(forked.connection)
        words = b"\n" + b"".join(encode(line) for line in self._last_words(forked, code)) + encode(Exited(code=code))
        forked.connection.setblocking(False)
        with contextlib.suppress(OSError):
            forked.connection.sendall(words)
        forked.connection.close()
        forked.told.close()

    @staticmethod
    def _last_words(forked: Forked, code: int) -> list[Logged]:
        if code == 0:
            return []
        end = forked.told.seek(0, os.SEEK_END)
        forked.told.seek(max(0, end - TOLD_BYTES))
        text = forked.told.read(TOLD_BYTES).decode("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()]
        if code < 0:
            lines.append(f"The process was ended by signal {-code} ({signal.Signals(-code).name}).")
        return [Logged(level="error", text=redact_line(line, MAX_TOLD_CHARS)) for line in lines[-20:]]

    def _reap_adopted(self) -> None:
        """Reap what was left to us: descendants of processes that died. Their groups were killed before."""
        known = {forked.pid for forked in self._forked.values()}
        while True:
            try:
                died = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if died is None or died.si_pid in known:
                return
            os.waitpid(died.si_pid, 0)

    def _orphaned(self, *_: object) -> None:
        """The server has died: end whole groups, programs that a program of ours started included."""
        self._end()
        os._exit(0)

    def _end(self) -> None:
        for forked in self._forked.values():
            _kill_group(forked.pid)


def _read_spec(connection: socket.socket) -> Spec:
    (length,) = LENGTH.unpack(_read_exactly(connection, LENGTH.size))
    if length > MAX_SPEC_BYTES:
        raise ValueError(f"a spec of {length} bytes")
    return Spec.model_validate_json(_read_exactly(connection, length))


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError("the supervisor is gone")
        parts += part
    return bytes(parts)


def _kill_group(pid: int) -> None:
    # Between fork and setsid the group does not exist yet; then the process itself is all there is.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _await_empty_group(group: int) -> None:
    """Wait until nobody is in the group any more: only then may its files be touched by others."""
    deadline = time.monotonic() + EMPTY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-group, os.WNOHANG)[0] != 0:
                pass
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.002)


#: This process's id, for its children to check whose children they are.
self_parent = os.getpid()


def main(arguments: list[str]) -> int:
    """Run as ``zygote CONTROL_DESCRIPTOR PARENT_PID CHILD_MODULE``."""
    descriptor, parent, module = int(arguments[0]), int(arguments[1]), arguments[2]
    # Not SIGKILL: what ffmpeg started has no such tie to anybody, so the zygote takes the groups with it.
    die_with_parent(parent, signal.SIGTERM)
    adopt_orphans()
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    child = cast(ChildModule, _import(module))
    child.warm()
    # What is there now is shared by all forks; the collector must not touch, and so copy, its pages.
    gc.collect()
    gc.freeze()
    control.sendall(b"ready")
    Server(control, child).serve()
    return 0


def _import(name: str) -> Any:
    return importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
