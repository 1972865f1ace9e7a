"""What a download costs beside the bytes: the start of a process, yt-dlp bare, and what a kill makes come twice."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.conftest import median_seconds, seconds_of
from media_downloader.downloader.process import Zygote
from media_downloader.downloader.protocol import Spec, Task
from tests.chaos.test_kills import kill
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program

#: What the origin's and the client's sockets swallow before a dead client is noticed; loopback's are large.
SOCKET_BUFFER_BYTES = 400_000

Start = Callable[..., Program]
Figures = Callable[[str], None]


def test_a_forked_process_is_there_long_before_a_new_one(tmp_path: Path, figures: Figures) -> None:
    async def fork_many() -> float:
        zygote = Zygote(tmp_path / "zygote")
        zygote.start()
        try:
            times = []
            for _ in range(21):
                began = asyncio.get_running_loop().time()
                process = await zygote.spawn(Spec(task=Task.CHECK))
                await anext(process.messages())
                times.append(asyncio.get_running_loop().time() - began)
                await process.wait()
            return sorted(times[1:])[len(times) // 2]
        finally:
            await zygote.stop()

    forked = asyncio.run(fork_many())
    new = median_seconds(lambda: subprocess.run([sys.executable, "-c", "import yt_dlp"], check=True), 5)
    figures(f"forked {forked * 1e3:.1f} ms, a new Python with yt-dlp {new * 1e3:.0f} ms, x{new / forked:.0f}")
    assert new / forked > 10


def test_a_job_takes_no_longer_than_yt_dlp_alone(
    program: Start, origin: Origin, media: Media, tmp_path: Path, figures: Figures
) -> None:
    """From the request to the published, verified file, against ``yt-dlp URL`` in a shell."""
    server = program()

    def alone(number: int) -> None:
        command = [sys.executable, "-m", "yt_dlp", "--quiet", "--ignore-config", "-o", f"{number}.mp4"]
        subprocess.run([*command, origin.url("big.mp4", f"a{number}")], cwd=tmp_path, check=True)
        assert sha256(tmp_path / f"{number}.mp4") == sha256(media.big)

    ours, bare = [], []
    for number in range(5):
        url = origin.url("big.mp4", f"o{number}")
        ours.append(seconds_of(lambda url=url: server.wait_done(server.add(url)["id"])))  # type: ignore[misc]
        bare.append(seconds_of(lambda number=number: alone(number)))  # type: ignore[misc]
    mine, theirs = sorted(ours)[2], sorted(bare)[2]
    figures(f"a job {mine:.2f} s, yt-dlp alone {theirs:.2f} s, ratio {mine / theirs:.2f} (53 MB)")
    assert mine < theirs * 1.5


def test_twenty_kills_make_less_than_a_twentieth_come_twice(
    program: Start, origin: Origin, media: Media, figures: Figures
) -> None:
    server = program(max_crashes=100, retry_delay_seconds=0)
    size = media.big.stat().st_size
    job_id = server.add(origin.url("big.mp4", "rate=4000000"))["id"]
    for number in range(1, 21):
        # What a page shows after a kill is what was there before it, so wait for the next attempt's own word.
        server.wait_for(
            job_id,
            lambda job, number=number: job["attempt"] >= number and job["state"] == "downloading",  # type: ignore[misc]
            "the next attempt",
        )
        server.wait_bytes(job_id, size * number // 22)
        kill(server, ("process", "server")[number % 2])
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.big)
    assert done["attempt"] == 21
    # Twice came what lay between the start of an attempt and the furthest that any earlier one had on disk.
    sent = origin.sent_bytes("big.mp4") - size
    figures(f"20 kills, {sent / size:.1%} of the file sent more than once (read by nobody or lost), SHA-256 right")
    assert sent < size / 20 + 21 * SOCKET_BUFFER_BYTES
