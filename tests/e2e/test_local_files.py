"""No link brings a file of this machine into a download."""

from collections.abc import Callable

import pytest

from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program
from tests.unit.downloader.test_containers import HLS, MPD

pytestmark = pytest.mark.e2e


def test_a_download_that_names_files_of_this_machine_is_a_failure(
    program: Callable[..., Program], origin: Origin, media: Media
) -> None:
    server = program(max_retries=0, max_concurrent_downloads=4, max_per_site=10)
    inside = media.small
    origin.page("dash.mp4", MPD.format(f"file://{inside}"))
    origin.page("list.mp4", f"ffconcat version 1.0\nfile {inside}\n")
    origin.page("near.mp4", "ffconcat version 1.0\nfile ../job.json\n")
    origin.page("dash.mpd", MPD.format(f"file://{inside}"))
    origin.page("list.m3u8", HLS.format(f"file://{inside}"))
    origin.page("key.m3u8", HLS.format(f"file://{inside}").replace("#EXTINF", "##EXT-X-KEY:METHOD=FFMPEG\n#EXTINF"))
    origin.page("page.html", f'<title>t</title><video src="file://{inside}"></video>')
    names = ["dash.mp4", "list.mp4", "near.mp4", "dash.mpd", "list.m3u8", "key.m3u8", "page.html"]
    jobs = [
        server.add(origin.url(name, preset), options={"preset": preset})["id"]
        for name in names
        for preset in ("best", "audio-mp3")
    ]
    ended = [server.wait_state(job_id, "done", "error") for job_id in jobs]
    assert [job["url"] for job in ended if job["state"] == "done"] == []
    assert server.published() == []
