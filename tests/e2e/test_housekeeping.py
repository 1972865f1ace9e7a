"""What leaves by itself and what stays: expired jobs, old files, orphaned folders, logs, and the figures of it all."""

import os
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, Program, wait_until
from tests.shared import BOTH_MODES, Lend

pytestmark = pytest.mark.e2e

Start = Callable[..., Program]
DAY_SECONDS = 86_400


def cleanup(server: Program, **body: Any) -> dict[str, Any]:
    return server.answer(server.client.post("/cleanup", json=body))


def status_of(server: Program, job_id: str) -> tuple[int, dict[str, Any]]:
    response = server.client.get(f"/jobs/{job_id}")
    return response.status_code, response.json()


def make_old(server: Program, job: Job, days: float) -> None:
    """Let a job have been published so long ago; its file's own time is the remote file's."""
    then = time.time() - days * DAY_SECONDS
    os.utime(server.downloads / ".media-downloader" / "records" / f"{job['id']}.json", (then, then))


@BOTH_MODES
def test_a_cleanup_first_says_what_would_go(lend: Lend, origin: Origin) -> None:
    server = lend(job_ttl=0.2, retention_days=3)
    old = server.wait_done(server.add(origin.url("small.mp4", "n1"))["id"])
    new = server.wait_done(server.add(origin.url("audio.m4a"))["id"])
    make_old(server, old, 4)
    orphan = server.downloads / f"{server.work_prefix}{'0' * 32}_00000000"
    (orphan / "work").mkdir(parents=True)
    (orphan / "work" / "media.mp4.part").write_bytes(bytes(1000))
    time.sleep(0.3)

    for body in ({}, {"dry_run": True}):
        report = cleanup(server, **body)
        assert report["dry_run"] is True
        assert sorted(report["expired_jobs"]) == sorted([old["id"], new["id"]])
        assert report["files"] == ["small.mp4"]
        assert report["work_folders"] == [orphan.name]
        assert report["bytes"] == old["artifacts"][0]["size_bytes"] + 1000
    assert orphan.is_dir()
    assert server.published() == ["audio.m4a", "small.mp4"]
    assert status_of(server, old["id"])[0] == 200

    done = cleanup(server, dry_run=False)
    assert {**report, "dry_run": False} == done
    assert not orphan.exists()
    assert server.published() == ["audio.m4a"]
    assert cleanup(server)["bytes"] == 0


@BOTH_MODES
def test_an_expired_job_tells_of_its_files_for_a_while_and_they_stay(lend: Lend, origin: Origin) -> None:
    server = lend(job_ttl=0.2)
    job = server.wait_done(server.add(origin.url("small.mp4"))["id"])
    time.sleep(0.3)
    cleanup(server, dry_run=False)
    status, body = status_of(server, job["id"])
    assert (status, body["error"]) == (410, "job_expired")
    assert body["files"] == ["small.mp4"]
    assert server.published() == ["small.mp4"]
    assert server.answer(server.client.get("/jobs"))["jobs"] == []
    for action in ("pause", "resume", "cancel", "retry"):
        assert server.client.post(f"/jobs/{job['id']}/{action}", json={}).status_code == 410
    assert server.client.get(f"/jobs/{job['id']}/log").status_code == 410
    server.restart()
    assert status_of(server, job["id"])[0] == 410
    assert server.published() == ["small.mp4"]


def test_finished_jobs_leave_by_themselves_and_running_ones_never(program: Start, origin: Origin) -> None:
    server = program(job_ttl=0.1, cleanup_interval_seconds=0.1)
    slow = server.add(origin.url("big.mp4", "rate=300000"))["id"]
    done = server.add(origin.url("small.mp4"))["id"]
    paused = server.add(origin.url("audio.m4a"), paused=True)["id"]
    with server.client.stream("GET", "/events") as events:
        wait_until(lambda: status_of(server, done)[0] == 410, "the finished job to leave", 20)
        lines = events.iter_lines()
        assert any(line == "event: deleted" for line in lines)
    assert server.get(slow)["state"] == "downloading"
    assert server.get(paused)["state"] == "paused"
    server.act(slow, "cancel")


@BOTH_MODES
def test_an_expired_playlist_takes_its_entries_along(lend: Lend, origin: Origin) -> None:
    items = "".join(
        f"<item><title>n{number}</title>"
        f'<enclosure url="{origin.url("small.mp4", f"n{number}")}" type="video/mp4"/></item>'
        for number in range(2)
    )
    origin.page("feed.xml", f'<?xml version="1.0"?><rss version="2.0"><channel><title>f</title>{items}</channel></rss>')
    server = lend(job_ttl=0.2)
    parent = server.add(origin.url("feed.xml"))["id"]
    server.wait_for(parent, lambda job: job["is_playlist"] and job["state"] == "done", "both entries")
    ids = [job["id"] for job in server.answer(server.client.get("/jobs"))["jobs"]]
    assert len(ids) == 3
    time.sleep(0.3)
    cleanup(server, dry_run=False)
    assert {status_of(server, job_id)[0] for job_id in ids} == {410}
    assert len(server.published()) == 2
    counts = server.answer(server.client.get("/jobs"))["counts"]
    assert sum(counts.values()) == 0


def value(metrics: str, name: str) -> float:
    match = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert match is not None, f"{name} is not in\n{metrics}"
    return float(match[1])


def test_metrics_tell_what_happened(program: Start, origin: Origin) -> None:
    server = program(max_retries=0)
    job = server.wait_done(server.add(origin.url("big.mp4", "rate=30000000"))["id"])
    failed = server.wait_state(server.add(origin.url("nothing.mp4"))["id"], "error")
    server.add(origin.url("small.mp4"), paused=True)
    ended = 'media_downloader_finished_jobs_total{state="error"} 1.0'
    # They are counted from the news of the jobs, which come just behind the jobs themselves.
    wait_until(lambda: ended in server.client.get("/metrics").text, "the news to be counted", 5)
    metrics = server.client.get("/metrics").text
    assert value(metrics, 'media_downloader_jobs{state="done"}') == 1
    assert value(metrics, 'media_downloader_jobs{state="error"}') == 1
    assert value(metrics, 'media_downloader_jobs{state="paused"}') == 1
    assert value(metrics, 'media_downloader_jobs{state="queued"}') == 0
    assert value(metrics, f'media_downloader_failures_total{{kind="{failed["failure"]["kind"]}"}}') == 1
    assert value(metrics, 'media_downloader_finished_jobs_total{state="done"}') == 1
    assert value(metrics, "media_downloader_job_duration_seconds_count") == 1
    assert value(metrics, "media_downloader_disk_free_bytes") > 0
    assert value(metrics, "media_downloader_download_speed_bytes_per_second") == 0
    size = job["artifacts"][0]["size_bytes"]
    assert value(metrics, "media_downloader_downloaded_bytes_total") == size


def test_a_user_folder_that_looks_like_ours_is_left_alone(program: Start, origin: Origin) -> None:
    server = program()
    for name in ("mdjob_holiday", "md_notes", f"mdjob_{'1' * 32}", ".mdtrash_mine"):
        (server.downloads / name).mkdir()
        (server.downloads / name / "kept.txt").write_text("kept")
    server.restart()
    cleanup(server, dry_run=False)
    server.wait_done(server.add(origin.url("small.mp4"))["id"])
    assert len(list(server.downloads.rglob("kept.txt"))) == 4


def test_a_database_that_was_lost_and_begun_anew_costs_no_bytes(program: Start, origin: Origin, media: Media) -> None:
    """The second start finds what a kill between the new file's making and its first table leaves."""
    server = program()
    job_id = server.add(origin.url("big.mp4", "rate=8000000,slowtimes=2"), priority=3)["id"]
    server.wait_bytes(job_id, 4_000_000)
    server.act(job_id, "pause")
    server.wait_state(job_id, "paused")
    server.kill()
    for path in server.data.glob("media-downloader.db*"):
        path.unlink()
    (server.data / "media-downloader.db").touch()
    server.start()
    found = server.get(job_id)
    assert (found["state"], found["priority"]) == ("paused", 3)
    server.act(job_id, "resume")
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.big)
    assert [seen.range for seen in origin.requests("big.mp4")][-1] not in {None, "bytes=0-"}
