"""Programs that share a downloads folder, `get` and server, `get` and `get`, never touch each other's downloads."""

from collections.abc import Callable

import pytest

from tests.cli.command import Get, kept_bytes, run, work_folders
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program, wait_until

pytestmark = pytest.mark.e2e

Start = Callable[..., Program]
SLOW = "rate=4000000,slowtimes=2"
MEGABYTE = 1_000_000


def beside(server: Program, place: Program) -> Program:
    """Return the installation without a server, working in the server's downloads folder."""
    place.downloads = server.downloads
    return place


def test_a_server_keeps_its_downloads_when_a_get_starts_in_its_folder(
    program: Start, place: Program, origin: Origin, media: Media
) -> None:
    server = program()
    paused = server.add(origin.url("big.mp4", SLOW))["id"]
    server.wait_bytes(paused, 4 * MEGABYTE)
    server.act(paused, "pause")
    server.wait_state(paused, "paused")
    running = server.add(origin.url("big.mp4", SLOW + ",running"))["id"]
    server.wait_bytes(running, 2 * MEGABYTE)
    folders = server.work_folders()

    assert run(beside(server, place), "get", origin.url("small.mp4")).returncode == 0
    assert server.work_folders() == folders
    server.act(paused, "resume")
    for job in (server.wait_done(paused), server.wait_done(running)):
        assert sha256(server.file_of(job)) == sha256(media.big)
        assert job["attempt"] == (2 if job["id"] == paused else 1)
    assert server.published() == ["big (2).mp4", "big.mp4", "small.mp4"]


def test_a_get_keeps_its_bytes_when_a_server_starts_and_keeps_house_in_its_folder(
    program: Start, place: Program, origin: Origin, media: Media
) -> None:
    url = origin.url("big.mp4", SLOW)
    first = Get(place, url)
    first.wait_bytes(4 * MEGABYTE)
    assert first.interrupt(group=True) == 130
    kept = kept_bytes(place)

    server = program(downloads=place.downloads)
    report = server.answer(server.client.post("/cleanup", json={"dry_run": False}))
    assert report["work_folders"] == []
    assert server.client.get("/jobs").json()["jobs"] == []
    assert kept_bytes(place) == kept

    again = Get(place, url)
    again.wait_bytes(kept)
    server.restart()
    assert again.wait() == 0
    assert sha256(place.downloads / "big.mp4") == sha256(media.big)
    assert f"bytes={kept - 1}-" in {seen.range for seen in origin.requests("big.mp4")}


def test_a_second_get_in_the_same_folder_waits_for_the_first(place: Program, origin: Origin, media: Media) -> None:
    first = Get(place, origin.url("big.mp4", SLOW))
    first.wait_bytes(2 * MEGABYTE)
    second = Get(place, origin.url("small.mp4"))
    wait_until(lambda: second.shown, "the second to say why it waits")
    assert f"Another get (process {first.process.pid}) downloads into {place.downloads}" in second.shown
    assert place.published() == []

    assert first.wait() == 0
    assert second.wait() == 0
    assert sha256(place.downloads / "big.mp4") == sha256(media.big)
    assert sha256(place.downloads / "small.mp4") == sha256(media.small)
    assert work_folders(place) == []


def test_a_get_that_waits_for_another_one_can_be_interrupted(place: Program, origin: Origin, media: Media) -> None:
    first = Get(place, origin.url("big.mp4", SLOW))
    first.wait_bytes(2 * MEGABYTE)
    second = Get(place, origin.url("small.mp4"))
    wait_until(lambda: second.shown, "the second to say why it waits")
    assert second.interrupt(group=True) == 130
    assert first.wait() == 0
    assert place.published() == ["big.mp4"]


def test_a_second_server_over_the_same_downloads_folder_is_refused(
    program: Start, place: Program, origin: Origin
) -> None:
    server = program()
    job_id = server.add(origin.url("big.mp4", SLOW))["id"]
    server.wait_bytes(job_id, MEGABYTE)
    refused = run(beside(server, place), "serve")
    assert refused.returncode == 2
    line = refused.stderr.splitlines()[-1]
    assert "uses the downloads folder" in line
    assert "YTDLP_OUTPUT_PATH" in line
    assert server.wait_done(job_id)["attempt"] == 1
