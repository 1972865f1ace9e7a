"""GET /events on a real server: what readers get, those who come back, those who do not read, and the end."""

import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from media_downloader.bus.memory import KEPT_EVENTS
from tests.origin.server import Origin
from tests.program import Program, wait_until

pytestmark = pytest.mark.e2e

Start = Callable[..., Program]
MEGABYTE = 1 << 20


class Reader:
    """One connection to /events, read when it is told to and not before."""

    def __init__(self, server: Program, last_event_id: str | None = None) -> None:
        self._socket = socket.socket()
        # Some segments of loopback and no more: who does not read is not to be served by the kernel's patience.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", server.port))
        head = "GET /events HTTP/1.1\r\nHost: localhost\r\n"
        if last_event_id is not None:
            head += f"Last-Event-ID: {last_event_id}\r\n"
        self._socket.sendall(f"{head}\r\n".encode())
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        assert b" 200 " in status, status
        while self._file.readline().strip():
            pass
        # The first words of the stream: from here on nothing is missed.
        assert self._block().startswith(b"retry:")

    def _block(self) -> bytes:
        """Return the next chunk: the server sends one event in each."""
        size = int(self._file.readline() or b"0", 16)
        data = self._file.read(size)
        self._file.readline()
        return data

    def raw(self) -> Iterator[bytes]:
        """Yield each event as it came, until the stream ends."""
        while block := self._block():
            if not block.startswith(b":"):
                yield block

    def events(self) -> Iterator[tuple[str, str, Any]]:
        """Yield (id, event, data)."""
        for block in self.raw():
            fields = dict(line.split(": ", 1) for line in block.decode().strip().split("\n"))
            yield fields.get("id", ""), fields["event"], json.loads(fields["data"])

    def next(self, name: str | None = None) -> tuple[str, str, Any]:
        """Return the next event, or the next with this name."""
        return next(found for found in self.events() if name is None or found[1] == name)

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self._socket.close()


@contextmanager
def reading(server: Program, last_event_id: str | None = None) -> Iterator[Reader]:
    """A reader who goes away in the end."""
    reader = Reader(server, last_event_id)
    try:
        yield reader
    finally:
        reader.close()


@pytest.fixture
def server(program: Start) -> Program:
    """Downloads nothing: what happens is what the test does."""
    started = program()
    started.answer(started.client.post("/queue/pause", json={}))
    return started


def test_a_job_is_told_from_its_adding_to_its_leaving(server: Program, origin: Origin) -> None:
    with reading(server) as reader:
        added = server.add(origin.url("small.mp4"))
        _, name, told = reader.next()
        assert name == "job"
        assert told == added | {"updated_at": told["updated_at"]}
        server.act(added["id"], "pause")
        assert reader.next("job")[2]["state"] == "paused"
        server.answer(server.client.post("/queue/resume", json={}))
        assert reader.next()[1:] == ("queue", {"paused": False, "reason": None, "since": None})
        server.answer(server.client.delete(f"/jobs/{added['id']}"))
        assert reader.next("deleted")[2] == {"id": added["id"]}


def test_who_comes_back_gets_exactly_what_was_missed(server: Program, origin: Origin) -> None:
    with reading(server) as reader:
        first = server.add(origin.url("small.mp4"))
        cursor, _, told = reader.next()
        assert told["id"] == first["id"]
    missed = [server.add(origin.url("small.mp4"))["id"] for _ in range(3)]
    with reading(server, cursor) as reader:
        assert [reader.next()[2]["id"] for _ in missed] == missed
        last = server.add(origin.url("small.mp4"))
        assert reader.next()[2]["id"] == last["id"]
    # The same for clients that cannot set a header on their first try, as EventSource.
    with server.client.stream("GET", "/events", params={"cursor": cursor}) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        assert json.loads(next(lines).removeprefix("data: "))["id"] == missed[0]


def test_a_cursor_that_cannot_be_followed_gets_a_reset_first(server: Program, origin: Origin) -> None:
    with reading(server) as reader:
        server.add(origin.url("small.mp4"))
        stream = reader.next()[0].partition("-")[0]
    for cursor in ("nonsense", "0-1", f"{stream}-999999", f"{stream}-", f"{stream}-{'9' * 80}", f"{stream}-x"):
        with reading(server, cursor) as reader:
            assert reader.next()[1:] == ("reset", {}), cursor
            added = server.add(origin.url("small.mp4"))
            assert reader.next()[2]["id"] == added["id"]


def test_a_cursor_of_before_a_restart_gets_a_reset(server: Program, origin: Origin) -> None:
    with reading(server) as reader:
        server.add(origin.url("small.mp4"))
        cursor = reader.next()[0]
    server.restart()
    with reading(server, cursor) as reader:
        assert reader.next()[1] == "reset"


def test_a_cursor_that_is_too_old_gets_a_reset(server: Program, origin: Origin) -> None:
    with reading(server) as reader:
        server.add(origin.url("small.mp4"))
        cursor = reader.next()[0]
    flood(server, origin, KEPT_EVENTS + 10)
    with reading(server, cursor) as reader:
        assert reader.next()[1] == "reset"


def test_all_readers_get_the_very_same_bytes(server: Program, origin: Origin) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(reading(server)) for _ in range(5)]
        server.add(origin.url("small.mp4"))
        assert len({next(reader.raw()) for reader in readers}) == 1


def flood(server: Program, origin: Origin, events: int) -> None:
    """Make so many events."""
    for first in range(0, events, 2000):
        links = [origin.url("small.mp4")] * min(2000, events - first)
        server.answer(server.client.post("/jobs", json={"urls": links, "paused": True}, timeout=110), 201)


def resident_bytes(server: Program) -> int:
    """Return what the server holds in memory."""
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_who_does_not_read_holds_nobody_up_and_takes_no_memory(server: Program, origin: Origin) -> None:
    flood(server, origin, KEPT_EVENTS)  # The ring is full from here on; it grows no more.
    with ExitStack() as stack:
        first = stack.enter_context(reading(server))
        server.add(origin.url("small.mp4"))
        first.next()
        before = resident_bytes(server)
        sleepers = [stack.enter_context(reading(server)) for _ in range(40)]
        awake = stack.enter_context(reading(server))
        seen: list[str] = []
        collecting = threading.Thread(target=lambda: seen.extend(collect(awake, 2000)), daemon=True)
        collecting.start()
        # 2,000 jobs of 1.3 kB for each sleeper: held for them, they would be 100 MB.
        for _ in range(20):
            flood(server, origin, 100)
        collecting.join(30)
        assert len(seen) == 2000
        assert resident_bytes(server) - before < 40 * MEGABYTE

        # Past the ring: a sleeper that wakes up is told to fetch the list anew, and goes on from there.
        flood(server, origin, KEPT_EVENTS + 10)
        woken = sleepers[0].events()
        assert any(name == "reset" for _, name, _ in woken)
        added = server.add(origin.url("small.mp4"))
        assert any(name == "job" and told["id"] == added["id"] for _, name, told in woken)


def collect(reader: Reader, count: int) -> list[str]:
    """Return the ids of the next jobs that are told of."""
    found = []
    for _, name, told in reader.events():
        if name == "job":
            found.append(told["id"])
        if len(found) == count:
            break
    return found


def test_open_streams_do_not_keep_the_server_from_stopping(server: Program, origin: Origin) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(reading(server)) for _ in range(20)]
        # Half of them do not read, and have more waiting for them than the line holds.
        flood(server, origin, 3000)
        assert server.terminate() < 3.0
        for reader in readers[:10]:
            # Whatever was on its way; then the end, in order or not.
            drain(reader)


def drain(reader: Reader) -> None:
    """Read to the end."""
    try:
        for _ in reader.raw():
            pass
    except (ConnectionError, ValueError):
        return


def test_who_goes_away_is_forgotten(server: Program) -> None:
    assert server.process is not None
    folder = Path(f"/proc/{server.process.pid}/fd")

    def sockets() -> int:
        return sum(1 for _ in folder.iterdir())

    before = sockets()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(reading(server))
        assert sockets() >= before + 20
    wait_until(lambda: sockets() <= before + 1, "the server to close the lines", 5)
