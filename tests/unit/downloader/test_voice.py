"""The watch over silence: work is told of, a process that hangs is not."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from media_downloader.downloader import voice as voice_module
from media_downloader.downloader.protocol import Alive, encode
from media_downloader.downloader.voice import Voice

LOOK_SECONDS = 0.2


def falls_silent(line: socket.socket) -> None:
    """The first looks may find what was done before; then nothing may be heard for several looks."""
    with pytest.raises(TimeoutError):
        for _ in range(10):
            line.recv(65536)


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The supervisor's end of the line to this very process, which has been quiet for some looks."""
    monkeypatch.setattr(voice_module, "LOOK_SECONDS", LOOK_SECONDS)
    ours, theirs = socket.socketpair()
    for name in ("work", "keep"):
        (tmp_path / name).mkdir()
    before = set(threading.enumerate())
    Voice(theirs, tmp_path / "work", tmp_path / "keep").start()
    (ears,) = set(threading.enumerate()) - before
    ours.settimeout(LOOK_SECONDS * 5)
    falls_silent(ours)
    yield ours
    # Closed while it is spoken to, a line makes the process end itself, and this is the process of the tests.
    ours.shutdown(socket.SHUT_WR)
    ears.join()
    ours.close()
    theirs.close()


def test_hashing_is_work(heard: socket.socket) -> None:
    digest, until = hashlib.sha256(), time.monotonic() + LOOK_SECONDS * 5
    while time.monotonic() < until:
        digest.update(bytes(1 << 20))
    assert encode(Alive()) in heard.recv(65536)


@pytest.mark.parametrize("folder", ["work", "keep"])
def test_a_copy_that_grows_is_work(heard: socket.socket, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "media.mp4.new").write_bytes(b"x")
    assert encode(Alive()) in heard.recv(65536)


def test_a_thread_that_hangs_in_a_read_is_no_work_however_long_one_listens(heard: socket.socket) -> None:
    read, write = os.pipe()
    hanging = threading.Thread(target=os.read, args=(read, 1))
    hanging.start()
    try:
        falls_silent(heard)
    finally:
        os.write(write, b"x")
        hanging.join()
        os.close(read)
        os.close(write)
