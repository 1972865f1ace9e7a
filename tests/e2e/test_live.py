"""Live streams: recorded until they end or are told to, and nothing that was recorded is lost."""

from pathlib import Path

import pytest

from media_downloader.downloader.verify import check_media
from tests.origin.live import PATH, LiveStream
from tests.origin.media import ffmpeg
from tests.origin.server import Origin
from tests.program import Program, wait_until
from tests.shared import BOTH_MODES, Lend

pytestmark = pytest.mark.e2e

#: Some seconds of the stream.
ENOUGH_BYTES = 400_000


def seconds_of(path: Path) -> float:
    """Return how long the file plays; it must be readable to its end."""
    content = check_media(path, ffmpeg())
    assert content.type == "video/mp4"
    assert content.duration_seconds is not None
    return content.duration_seconds


def recording(server: Program, origin: Origin) -> str:
    """Begin to record, and return the job's id once some seconds are there."""
    job_id: str = server.add(origin.url(PATH))["id"]
    job = server.wait_bytes(job_id, ENOUGH_BYTES)
    assert job["state"] == "downloading"
    assert job["media"]["is_live"]
    return job_id


def test_a_stream_is_recorded_until_it_ends(lend: Lend, origin: Origin) -> None:
    stream = LiveStream(origin)
    server = lend()
    job_id = recording(server, origin)
    stream.end()
    done = server.wait_done(job_id)
    assert seconds_of(server.file_of(done)) > 3
    assert len(done["artifacts"]) == 1


@BOTH_MODES
def test_a_pause_ends_the_recording_with_a_file_that_plays(lend: Lend, origin: Origin) -> None:
    LiveStream(origin)
    server = lend()
    job_id = recording(server, origin)
    server.act(job_id, "pause")
    done = server.wait_done(job_id)
    assert seconds_of(server.file_of(done)) > 3
    assert server.work_folders() == []


def test_a_cancel_ends_the_recording_at_once_and_keeps_nothing(lend: Lend, origin: Origin) -> None:
    LiveStream(origin)
    server = lend()
    job_id = recording(server, origin)
    server.act(job_id, "cancel")
    server.wait_state(job_id, "canceled", seconds=3)
    assert server.published() == []
    assert server.work_folders() == []


def test_what_was_recorded_before_a_crash_is_kept_beside_what_comes_after(lend: Lend, origin: Origin) -> None:
    stream = LiveStream(origin)
    server = lend()
    job_id = recording(server, origin)
    server.restart()
    server.wait_for(job_id, lambda job: job["attempt"] == 2 and job["state"] == "downloading", "a second attempt")
    server.wait_bytes(job_id, ENOUGH_BYTES)
    stream.end()
    done = server.wait_done(job_id)
    names = [artifact["name"] for artifact in done["artifacts"]]
    assert len(names) == 2
    assert names[1].endswith(".part 1.mp4")
    for index in range(2):
        assert seconds_of(server.file_of(done, index)) > 2
    assert any("in files of its own" in notice for notice in done["notices"])


def test_a_stream_that_is_over_after_a_crash_leaves_what_was_recorded(lend: Lend, origin: Origin) -> None:
    stream = LiveStream(origin)
    server = lend()
    job_id = recording(server, origin)
    server.kill()
    stream.vanish()
    server.start()
    done = server.wait_done(job_id)
    assert seconds_of(server.file_of(done)) > 2
    assert any("has ended meanwhile" in notice for notice in done["notices"])


def test_a_recording_that_reaches_its_limit_is_ended_and_kept(lend: Lend, origin: Origin) -> None:
    LiveStream(origin)
    server = lend()
    job_id = server.add(origin.url(PATH), options={"max_size_bytes": 500_000})["id"]
    done = server.wait_done(job_id)
    assert any("at the limit" in notice for notice in done["notices"])
    assert seconds_of(server.file_of(done)) > 1


def test_a_stop_of_the_server_leaves_no_recorder(lend: Lend, origin: Origin) -> None:
    LiveStream(origin)
    server = lend()
    job_id = recording(server, origin)
    assert server.terminate() < 3
    wait_until(lambda: not server.leftovers(), "ffmpeg to be gone", 2)
    server.start()
    server.wait_for(job_id, lambda job: job["attempt"] == 2 and job["state"] == "downloading", "it to go on")
    server.act(job_id, "cancel")
    server.wait_state(job_id, "canceled", seconds=5)
