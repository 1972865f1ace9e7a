"""A full disk: the queue pauses and says so, nothing is lost, and it goes on by itself when there is room."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.origin.compare import assert_same_media, sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program, wait_until

pytestmark = pytest.mark.chaos

Start = Callable[..., Program]
MEBIBYTE = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"This machine lets us mount nothing: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave_bytes: int) -> Path:
    """Fill the disk but for so many bytes, while downloads go on writing to it: they may take the last of it first."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(disk).free) > leave_bytes:
            file.write(bytes(min(65536, free - leave_bytes)))
    return ballast


def test_a_job_that_does_not_fit_waits_and_the_rest_of_the_queue_runs(
    program: Start, origin: Origin, media: Media, small_disk: Path
) -> None:
    """50 MB never fit on 24 MiB: that is known before a byte is fetched."""
    server = program(downloads=small_disk / "downloads", min_free_bytes=MEBIBYTE)
    large = server.add(origin.url("big.mp4"))["id"]
    waiting = server.wait_for(large, lambda job: job["failure"], "a failure")
    assert waiting["failure"]["kind"] == "disk_full"
    assert waiting["state"] == "queued"
    assert waiting["waiting_for"] == "disk"
    assert waiting["failure"]["hint"]
    done = server.wait_done(server.add(origin.url("small.mp4"))["id"])
    assert sha256(server.file_of(done)) == sha256(media.small)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_disk_that_fills_up_pauses_the_queue_and_nothing_is_lost(
    program: Start, origin: Origin, media: Media, small_disk: Path, kind: str
) -> None:
    server = program(downloads=small_disk / "downloads", min_free_bytes=MEBIBYTE, disk_retry_seconds=1)
    origin.replace("film.mp4", media.hls_source)
    path, only = ("film.mp4", "") if kind == "file" else ("hls/index.m3u8", "seg")
    job_id = server.add(origin.url(path, f"rate=400000,slowtimes=2,only={only}"))["id"]
    server.wait_bytes(job_id, 500_000)
    ballast = fill(small_disk, MEBIBYTE // 2)
    paused = server.wait_for(job_id, lambda job: job["state"] == "queued", "the queue to pause")
    assert paused["waiting_for"] == "disk"
    assert server.answer(server.client.get("/queue"))["reason"] == "disk"
    health = server.answer(server.client.get("/health"))
    assert health["status"] == "degraded"
    other = server.add(origin.url("audio.m4a"))["id"]

    ballast.unlink()
    for one in (job_id, other):
        server.wait_done(one)
    done = server.get(job_id)
    assert_same_media(server.file_of(done), media.hls_source)
    assert server.answer(server.client.get("/queue"))["paused"] is False


def test_a_write_that_fails_for_want_of_room_loses_nothing(
    program: Start, origin: Origin, media: Media, small_disk: Path
) -> None:
    """No floor is kept free, so yt-dlp itself runs into the full disk (ENOSPC) in the middle of a fragment."""
    server = program(downloads=small_disk / "downloads", disk_retry_seconds=1)
    job_id = server.add(origin.url("hls/index.m3u8", "rate=500000,slowtimes=1,only=seg"))["id"]
    server.wait_bytes(job_id, 300_000)
    ballast = fill(small_disk, 100_000)
    failed = server.wait_for(job_id, lambda job: job["failure"], "the full disk")
    assert failed["failure"]["kind"] == "disk_full"
    wait_until(lambda: server.get(job_id)["state"] == "queued", "the queue", 5)
    ballast.unlink()
    assert_same_media(server.file_of(server.wait_done(job_id)), media.hls_source)
