"""The watch over silence: work is told of, a process that hangs is not."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from media_downloader.downloader.protocol import Alive, encode

LOOK_SECONDS = 0.2
#: A process of its own: the one of the tests has children that work, and that is what is listened for.
PROCESS = f"""
import hashlib, os, socket, sys, threading, time
from pathlib import Path
from media_downloader.downloader import voice
voice.LOOK_SECONDS = {LOOK_SECONDS}
voice.Voice(socket.socket(fileno=int(sys.argv[1])), Path("work"), Path("keep")).start()
for order in sys.stdin:
    if order == "hash\\n":
        digest, until = hashlib.sha256(), time.monotonic() + {LOOK_SECONDS * 5}
        while time.monotonic() < until:
            digest.update(bytes(1 << 20))
    else:
        threading.Thread(target=os.read, args=(os.pipe()[0], 1), daemon=True).start()
"""

Order = Callable[[str], None]


def falls_silent(line: socket.socket) -> None:
    """The first looks may find what was done before; then nothing may be heard for several looks."""
    with pytest.raises(TimeoutError):
        for _ in range(10):
            line.recv(65536)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[socket.socket, Order]]:
    """The supervisor's end of the line to a process that has been quiet for some looks, and how to order it about."""
    ours, theirs = socket.socketpair()
    for name in ("work", "keep"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", PROCESS, str(theirs.fileno())]
    with (
        ours,
        subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()]) as child,
    ):
        theirs.close()
        assert child.stdin is not None
        stdin = child.stdin
        # It begins with imports, which are work.
        ours.settimeout(30)
        assert encode(Alive()) in ours.recv(65536)
        ours.settimeout(LOOK_SECONDS * 5)
        falls_silent(ours)
        yield ours, lambda order: print(order, file=stdin, flush=True)
        child.kill()


@pytest.fixture
def heard(process: tuple[socket.socket, Order]) -> socket.socket:
    return process[0]


def test_hashing_is_work(process: tuple[socket.socket, Order]) -> None:
    heard, order = process
    order("hash")
    assert encode(Alive()) in heard.recv(65536)


@pytest.mark.parametrize("folder", ["work", "keep"])
def test_a_copy_that_grows_is_work(heard: socket.socket, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "media.mp4.new").write_bytes(b"x")
    assert encode(Alive()) in heard.recv(65536)


def test_a_thread_that_hangs_in_a_read_is_no_work_however_long_one_listens(
    process: tuple[socket.socket, Order],
) -> None:
    heard, order = process
    order("hang")
    falls_silent(heard)
