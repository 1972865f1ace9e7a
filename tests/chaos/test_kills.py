"""kill -9 of the server, of the download process and of both, at twenty random points and in every phase."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.origin.compare import assert_same_media, sha256
from tests.origin.media import Media, ffmpeg
from tests.origin.server import Origin
from tests.program import Program, alive, wait_until

pytestmark = pytest.mark.chaos

Start = Callable[..., Program]

#: The same points each time, so that a failure can be looked at again.
POINTS = [(number, random.Random(number).random()) for number in range(20)]
VICTIMS = ("server", "process", "both")


def download_processes(server: Program) -> set[int]:
    """Return the processes below the zygote: those that lead a group of their own and are not the zygote."""
    below = server.note_processes()
    found = set()
    for pid in below:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"zygote" in command and parent in below:
            found.add(pid)
    return found


def kill(server: Program, victim: str) -> None:
    processes = download_processes(server)
    assert processes, "nothing to kill"
    if victim in {"process", "both"}:
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
    if victim in {"server", "both"}:
        server.kill()
        wait_until(lambda: not any(alive(pid) for pid in processes), "the download process to die too", 2)
        server.assert_nothing_left()
        server.start()


@pytest.mark.parametrize("number, point", POINTS)
def test_a_kill_at_any_point_loses_nothing(
    program: Start, origin: Origin, media: Media, number: int, point: float
) -> None:
    """The file is right, and less than a twentieth of it came twice."""
    server = program(max_crashes=3)
    size = media.big.stat().st_size
    job_id = server.add(origin.url("big.mp4", "rate=12000000,slowtimes=2"))["id"]
    server.wait_bytes(job_id, max(1, int(size * point * 0.95)))
    kill(server, VICTIMS[number % 3])
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.big)
    assert server.work_folders() == []
    # The origin notices a dead client late: what its socket swallowed was never received.
    ranges = [seen.range for seen in origin.requests("big.mp4") if seen.range and seen.range != "bytes=0-"]
    assert len(ranges) == 1, ranges
    resumed_at = int(ranges[0].removeprefix("bytes=").rstrip("-"))
    assert resumed_at >= size * point * 0.95 - size / 20


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("state", ["queued", "extracting", "paused"])
def test_a_kill_while_nothing_comes_in_keeps_the_state(
    program: Start, origin: Origin, media: Media, victim: str, state: str
) -> None:
    server = program(max_concurrent_downloads=1, max_per_site=1)
    if state == "extracting":
        origin.page("page.html", '<title>Page</title><video src="/plain/small.mp4"></video>')
        job_id = server.add(origin.url("page.html", "rate=40,slowtimes=1"))["id"]
        server.wait_for(job_id, lambda job: job["state"] == "extracting", "extracting")
    elif state == "paused":
        job_id = server.add(origin.url("small.mp4", "rate=50000,slowtimes=2"))["id"]
        server.wait_bytes(job_id, 20_000)
        server.act(job_id, "pause")
        server.wait_state(job_id, "paused")
    else:
        server.add(origin.url("big.mp4", "rate=12000000,slowtimes=2"))
        job_id = server.add(origin.url("small.mp4"))["id"]
    if victim == "process" and state == "paused":
        return  # nothing runs that could be killed
    if victim == "server" or state == "paused":
        server.restart()
    else:
        wait_until(lambda: download_processes(server), "a download process", 30)
        kill(server, victim)
    if state == "paused":
        assert server.get(job_id)["state"] == "paused"
        server.act(job_id, "resume")
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.small)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("kind", ["hls", "hls-aes", "dash"])
def test_a_kill_in_a_stream_loses_nothing(program: Start, origin: Origin, media: Media, kind: str, victim: str) -> None:
    server = program()
    manifest = "index.mpd" if kind == "dash" else "index.m3u8"
    only = "chunk" if kind == "dash" else "seg"
    job_id = server.add(origin.url(f"{kind}/{manifest}", f"rate=600000,slowtimes=1,only={only}"))["id"]
    for at_least in (400_000, 1_200_000):
        server.wait_bytes(job_id, at_least)
        if server.get(job_id)["state"] == "done":
            break
        kill(server, victim)
    done = server.wait_done(job_id)
    assert_same_media(server.file_of(done), media.hls_source)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_while_a_file_is_made_of_what_came_in_loses_nothing(
    program: Start, origin: Origin, media: Media, victim: str, tmp_path: Path
) -> None:
    """A slow ffmpeg stands in the merge; what is killed there is merged anew from kept sources, and fetched once."""
    slow = tmp_path / "ffmpeg"
    flag = tmp_path / "merged-once"
    slow.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"-movflags"*|*"-map 0:v"*) if [ ! -e {flag} ]; then touch {flag}; sleep 30; fi;; esac\n'
        f'exec {ffmpeg()} "$@"\n'
    )
    slow.chmod(0o755)
    server = program(ffmpeg=slow)
    job_id = server.add(origin.url("dash/index.mpd"))["id"]
    wait_until(flag.exists, "ffmpeg to begin", 30)
    assert server.get(job_id)["state"] == "processing"
    kill(server, victim)
    done = server.wait_done(job_id)
    assert_same_media(server.file_of(done), media.hls_source)
    parts = [seen.path for seen in origin.seen if seen.path.endswith(".m4s")]
    assert len(parts) == len(set(parts)), "sources were fetched twice"


def test_a_job_that_kills_its_process_five_times_is_poison(program: Start, origin: Origin) -> None:
    server = program(max_crashes=5, retry_delay_seconds=0)
    job_id = server.add(origin.url("big.mp4", "rate=500000"))["id"]
    for _ in range(5):
        server.wait_for(job_id, lambda job: job["state"] == "downloading", "a download")
        wait_until(lambda: download_processes(server), "a download process", 30)
        kill(server, "process")
        server.wait_for(job_id, lambda job: job["state"] != "downloading", "the death to be noticed")
    job = server.wait_state(job_id, "error")
    assert job["failure"]["kind"] == "crashed"
    assert "SIGKILL" in job["failure"]["message"]
    assert server.answer(server.client.get("/health"))["status"] == "ok"


def test_sigterm_with_a_thousand_queued_jobs_takes_under_three_seconds_and_loses_none(
    program: Start, origin: Origin, media: Media
) -> None:
    server = program()
    running = server.add(origin.url("big.mp4", "rate=4000000,slowtimes=2"))["id"]
    server.wait_bytes(running, 1_000_000)
    urls = [origin.url("small.mp4", f"n{number}") for number in range(1000)]
    added = server.answer(server.client.post("/jobs", json={"urls": urls}), 201)
    assert len(added["jobs"]) == 1000
    with server.client.stream("GET", "/events") as response:
        next(response.iter_bytes())
        assert server.terminate() < 3
    server.assert_nothing_left()
    server.start()
    counts = server.answer(server.client.get("/jobs", params={"limit": 1}))["counts"]
    assert sum(counts.values()) == 1001
    assert counts["error"] == counts["canceled"] == counts["paused"] == 0
    done = server.wait_done(running)
    assert sha256(server.file_of(done)) == sha256(media.big)


def test_the_zygote_is_replaced_when_it_dies(program: Start, origin: Origin, media: Media) -> None:
    server = program()
    server.wait_done(server.add(origin.url("small.mp4", "n1"))["id"])
    zygotes = server.note_processes()
    for pid in zygotes:
        os.kill(pid, signal.SIGKILL)
    done = server.wait_done(server.add(origin.url("small.mp4", "n2"))["id"])
    assert sha256(server.file_of(done)) == sha256(media.small)
