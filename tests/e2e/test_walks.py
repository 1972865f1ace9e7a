"""The four walks of the README, by HTTP: download, pause and resume, come back, cancel."""

import pytest

from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import wait_until
from tests.shared import BOTH_MODES, Lend

pytestmark = [pytest.mark.e2e, BOTH_MODES]

#: yt-dlp asks twice: what it is, then for the bytes. Only these two are slow, what a resume asks for is not.
SLOW = "rate=4000000,slowtimes=2"
MEGABYTE = 1_000_000


def test_a_download_ends_in_the_folder_and_is_served(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    job = server.wait_done(server.add(origin.url("small.mp4"))["id"])

    assert server.published() == ["small.mp4"]
    assert sha256(server.downloads / "small.mp4") == sha256(media.small)
    served = server.client.get(f"/jobs/{job['id']}/file")
    assert served.content == media.small.read_bytes()
    assert "filename*=UTF-8''small.mp4" in served.headers["content-disposition"]
    assert server.work_folders() == []
    assert job["progress"]["percent"] == 100.0
    assert job["artifacts"][0]["type"] == "video/mp4"


def test_a_pause_stops_the_download_and_a_resume_goes_on_from_there(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    url = origin.url("big.mp4", SLOW)
    job_id = server.add(url)["id"]
    server.wait_bytes(job_id, 8 * MEGABYTE)
    server.act(job_id, "pause")
    paused = server.wait_state(job_id, "paused", seconds=3)
    assert paused["allowed_actions"] == ["resume", "cancel"]

    wait_until(lambda: len(origin.requests("big.mp4")) >= 2, "the origin to see the line closed", 5)
    before = origin.sent_bytes("big.mp4")
    folder = server.work_folders()
    assert len(folder) == 1
    kept = sum(path.stat().st_size for path in folder[0].rglob("*.part"))
    assert kept >= 8 * MEGABYTE

    server.act(job_id, "resume")
    resumed = server.wait_for(job_id, lambda job: job["progress"]["resumed_from_bytes"] > 0, "a resume")
    assert resumed["progress"]["resumed_from_bytes"] >= kept - 1
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.big)
    assert before < media.big.stat().st_size
    assert f"bytes={kept - 1}-" in {seen.range for seen in origin.requests("big.mp4")}


def test_a_job_goes_on_when_everybody_leaves_and_when_the_server_dies(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    job_id = server.add(origin.url("big.mp4", "rate=8000000,slowtimes=2"))["id"]
    server.wait_bytes(job_id, 2 * MEGABYTE)
    server.client.close()
    server.open_client()
    assert server.get(job_id)["state"] == "downloading"

    server.restart()
    # Workers go on without the server that told them of the job.
    states = {"queued", "extracting", "downloading"} if server.runs_jobs else {"downloading", "processing", "done"}
    assert server.get(job_id)["state"] in states
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.big)
    assert done["attempt"] == (2 if server.runs_jobs else 1)


def test_a_cancel_stops_the_download_and_removes_its_folder(lend: Lend, origin: Origin) -> None:
    server = lend()
    job_id = server.add(origin.url("big.mp4", SLOW))["id"]
    server.wait_bytes(job_id, 2 * MEGABYTE)
    assert server.work_folders()
    assert server.download_processes()
    server.act(job_id, "cancel")
    canceled = server.wait_state(job_id, "canceled", seconds=3)
    assert canceled["allowed_actions"] == ["retry"]
    assert server.work_folders() == []
    assert server.published() == []
    wait_until(lambda: not server.download_processes(), "the download process to be gone", 5)


def test_a_canceled_job_can_be_had_again_from_the_start(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    job_id = server.add(origin.url("big.mp4", SLOW))["id"]
    server.wait_bytes(job_id, MEGABYTE)
    server.act(job_id, "cancel")
    server.wait_state(job_id, "canceled")
    assert server.act(job_id, "retry")["progress"]["downloaded_bytes"] == 0
    assert sha256(server.file_of(server.wait_done(job_id))) == sha256(media.big)


def test_a_done_job_is_retried_only_when_its_file_is_gone(lend: Lend, origin: Origin) -> None:
    server = lend()
    job = server.wait_done(server.add(origin.url("small.mp4"))["id"])
    refused = server.client.post(f"/jobs/{job['id']}/retry", json={})
    assert refused.status_code == 409
    assert refused.json()["error"] == "invalid_transition"
    assert refused.json()["state"] == "done"

    server.file_of(job).unlink()
    gone = server.client.get(f"/jobs/{job['id']}/file")
    assert gone.status_code == 404
    assert gone.json()["error"] == "file_missing"
    assert server.get(job["id"])["allowed_actions"] == ["retry"]
    server.act(job["id"], "retry")
    assert server.file_of(server.wait_done(job["id"])).is_file()


def test_a_name_that_another_job_has_taken_is_not_the_first_ones_file(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    first = server.wait_done(server.add(origin.url("small.mp4", "n1"))["id"])
    server.file_of(first).unlink()
    second = server.wait_done(server.add(origin.url("small.mp4", "n2"))["id"])
    assert second["artifacts"][0]["name"] == first["artifacts"][0]["name"]
    refused = server.client.get(f"/jobs/{first['id']}/file")
    assert (refused.status_code, refused.json()["error"]) == (404, "file_missing")
    assert refused.json()["folder_files"] == ["small.mp4"]
    assert server.get(first["id"])["allowed_actions"] == ["retry"]
    assert server.client.get(f"/jobs/{second['id']}/file").content == media.small.read_bytes()
    server.act(first["id"], "retry")
    assert server.wait_done(first["id"])["artifacts"][0]["name"] == "small (2).mp4"
