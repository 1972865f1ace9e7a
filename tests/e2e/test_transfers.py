"""Every way in which media comes, and every way in which a server can fail while it does."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from tests.origin.compare import assert_same_media, sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, Program, wait_until
from tests.shared import BOTH_MODES, Lend

pytestmark = pytest.mark.e2e

Start = Callable[..., Program]


@pytest.fixture
def server(lend: Lend) -> Program:
    """A server that retries soon and gives up on silent lines soon."""
    return lend(socket_timeout_seconds=2, max_retries=2)


def download(server: Program, url: str, **options: object) -> Job:
    return server.wait_done(server.add(url, options=options)["id"])


def failed(server: Program, url: str, **options: object) -> Job:
    job = server.wait_state(server.add(url, options=options)["id"], "error", "done")
    assert job["state"] == "error", job
    assert job["failure"]["message"]
    assert server.published() == []
    return job


def feed(title: str, links: Sequence[str]) -> str:
    items = "".join(f"<item><title>Part</title><link>{link}</link></item>" for link in links)
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>{title}</title>{items}</channel></rss>'


@pytest.mark.parametrize(
    "behaviour",
    [
        "plain",
        "noranges",
        "noetag",
        "novalidators",
        "weak",
        "nolength",
        "redirect=5",
        "noranges,nolength",
    ],
)
def test_a_file_comes_bit_by_bit_as_it_is(server: Program, origin: Origin, media: Media, behaviour: str) -> None:
    done = download(server, origin.url("small.mp4", behaviour))
    assert sha256(server.file_of(done)) == sha256(media.small)


@pytest.mark.parametrize(
    "behaviour",
    [
        "cut=100000,times=4",
        "cut=100000,times=3,noranges",
        "stall=100000,times=2",
        "long=5000,times=2,only=nothing",
        "status=503,first=2,times=2",
    ],
)
def test_a_line_that_fails_is_mended(server: Program, origin: Origin, media: Media, behaviour: str) -> None:
    done = download(server, origin.url("small.mp4", behaviour))
    assert sha256(server.file_of(done)) == sha256(media.small)


@pytest.mark.parametrize("kind", ["hls", "hls-aes"])
@pytest.mark.parametrize("behaviour", ["plain", "cut=50000,times=1,only=seg", "status=503,times=1,only=seg"])
def test_hls_comes_whole(server: Program, origin: Origin, media: Media, kind: str, behaviour: str) -> None:
    done = download(server, origin.url(f"{kind}/index.m3u8", behaviour))
    assert_same_media(server.file_of(done), media.hls_source)


@BOTH_MODES
@pytest.mark.parametrize("behaviour", ["plain", "cut=50000,times=1,only=chunk"])
def test_dash_is_merged_from_audio_and_video(server: Program, origin: Origin, media: Media, behaviour: str) -> None:
    done = download(server, origin.url("dash/index.mpd", behaviour))
    assert_same_media(server.file_of(done), media.hls_source)
    assert done["media"]["format"] == "0+1"


def test_a_missing_fragment_is_a_failure_whatever_yt_dlp_returns(server: Program, origin: Origin) -> None:
    job = failed(server, origin.url("hls/index.m3u8", "status=404,times=1000,only=seg005"))
    assert job["failure"]["kind"] in {"unavailable", "incomplete"}


@BOTH_MODES
def test_a_body_shorter_than_announced_is_a_failure(server: Program, origin: Origin) -> None:
    job = failed(server, origin.url("small.mp4", "long=5000,noranges"))
    assert job["failure"]["kind"] in {"network", "incomplete"}
    assert job["failure"]["retry"] == job["failure"]["retries"] == 2


def test_a_body_without_a_length_that_is_cut_is_not_published(server: Program, origin: Origin) -> None:
    job = failed(server, origin.url("small.mp4", "nolength,noranges,cut=200000,times=1000"))
    assert job["failure"]["kind"] in {"network", "incomplete"}


def test_a_link_that_expires_in_the_middle_is_extracted_anew(server: Program, origin: Origin, media: Media) -> None:
    # The page names the file; its line is cut, then its link is refused, and works again afterwards.
    origin.page(
        "page.html",
        '<html><head><title>Film</title></head><video src="/cut=200000,times=1,status=403,first=2/small.mp4"></video>',
    )
    done = download(server, origin.url("page.html"))
    assert sha256(server.file_of(done)) == sha256(media.small)


@BOTH_MODES
def test_a_site_that_asks_to_wait_is_obeyed_and_all_its_jobs_wait(server: Program, origin: Origin) -> None:
    first = server.add(origin.url("small.mp4", "status=429,times=1,retryafter=4"))["id"]
    waiting = server.wait_for(first, lambda job: job["failure"], "a failure")
    assert waiting["failure"]["kind"] == "rate_limited"
    assert waiting["failure"]["retry"] == 1
    assert waiting["state"] == "queued"
    assert waiting["waiting_for"] in {"retry_time", "cooldown"}
    second = server.add(origin.url("audio.m4a"))["id"]
    # What is told of the queue is a moment old.
    server.wait_for(second, lambda job: job["waiting_for"] == "cooldown", "the cooldown", 2)
    assert origin.requests("audio.m4a") == []
    server.wait_done(first)
    server.wait_done(second)
    assert server.get(first)["attempt"] == 2


@BOTH_MODES
def test_a_file_that_changes_between_two_attempts_is_started_over_and_said_so(
    server: Program, origin: Origin, media: Media
) -> None:
    origin.replace("film.mp4", media.small)
    job_id = server.add(origin.url("film.mp4", "rate=100000,slowtimes=2"))["id"]
    server.wait_bytes(job_id, 100_000)
    server.act(job_id, "pause")
    server.wait_state(job_id, "paused")
    origin.replace("film.mp4", media.other)
    server.act(job_id, "resume")
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.other)
    assert any("changed" in notice for notice in done["notices"])


@pytest.mark.parametrize("behaviour", ["noifrange", "noranges", "novalidators", "weak,noetag"])
def test_a_change_is_seen_whatever_the_server_can_prove(
    server: Program, origin: Origin, media: Media, behaviour: str
) -> None:
    origin.replace("film.mp4", media.small)
    job_id = server.add(origin.url("film.mp4", f"rate=100000,slowtimes=2,{behaviour}"))["id"]
    server.wait_bytes(job_id, 100_000)
    server.act(job_id, "pause")
    server.wait_state(job_id, "paused")
    origin.replace("film.mp4", media.other)
    server.act(job_id, "resume")
    done = server.wait_done(job_id)
    assert sha256(server.file_of(done)) == sha256(media.other)
    assert done["notices"]


@pytest.mark.parametrize("url", ["hls/index.m3u8", "hls-aes/index.m3u8", "dash/index.mpd"])
def test_a_paused_stream_fetches_nothing_twice_but_the_fragment_in_flight(
    server: Program, origin: Origin, media: Media, url: str
) -> None:
    kind = url.split("/", maxsplit=1)[0]
    behaviour = f"rate=300000,slowtimes=1,only={'chunk' if kind == 'dash' else 'seg'}"
    job_id = server.add(origin.url(url, behaviour))["id"]
    server.wait_bytes(job_id, 500_000)
    server.act(job_id, "pause")
    server.wait_state(job_id, "paused")
    server.act(job_id, "resume")
    done = server.wait_done(job_id)
    assert_same_media(server.file_of(done), media.hls_source)
    parts = [seen for seen in origin.requests("") if seen.path.endswith((".ts", ".m4s"))]
    # A byte each of the first and the last fragment that is kept proves that the stream is still the same.
    proofs = [seen for seen in parts if seen.range == "bytes=0-0"]
    assert len(proofs) <= 2
    assert all(seen.sent_bytes <= 1 for seen in proofs)
    fetched = Counter(seen.path for seen in parts if seen not in proofs)
    repeated = [path for path, count in fetched.items() if count > 1]
    assert len(repeated) <= 1, repeated


def test_a_download_that_is_larger_than_allowed_is_refused(server: Program, origin: Origin) -> None:
    assert failed(server, origin.url("small.mp4"), max_size_bytes=100_000)["failure"]["kind"] == "too_large"
    assert failed(server, origin.url("small.mp4", "nolength"), max_size_bytes=100_000)["failure"]["kind"] == "too_large"
    assert failed(server, origin.url("hls/index.m3u8"), max_size_bytes=300_000)["failure"]["kind"] == "too_large"


def test_a_server_that_falls_silent_for_good_ends_in_a_failure(program: Start, origin: Origin) -> None:
    server = program(socket_timeout_seconds=1, max_retries=0)
    job = failed(server, origin.url("small.mp4", "stall=1000,times=1000,noranges"))
    assert job["failure"]["kind"] in {"network", "incomplete"}


def test_two_jobs_of_one_title_end_as_two_correct_files(server: Program, origin: Origin, media: Media) -> None:
    origin.page("one.html", '<title>Same</title><video src="/plain/small.mp4"></video>')
    origin.page("two.html", '<title>Same</title><video src="/plain/other.mp4"></video>')
    jobs = [server.add(origin.url(name))["id"] for name in ("one.html", "two.html")]
    done = [server.wait_done(job_id) for job_id in jobs]
    assert server.published() == ["Same (2).mp4", "Same.mp4"]
    assert [sha256(server.file_of(job)) for job in done] == [sha256(media.small), sha256(media.other)]


@BOTH_MODES
def test_one_link_as_video_and_as_audio_is_two_jobs(server: Program, origin: Origin) -> None:
    url = origin.url("small.mp4")
    jobs = [server.add(url, options={"preset": preset})["id"] for preset in ("best", "audio", "audio-mp3", "audio-m4a")]
    types = {server.wait_done(job_id)["artifacts"][0]["type"] for job_id in jobs}
    assert types == {"video/mp4", "audio/mp4", "audio/mpeg"}
    assert len(server.published()) == 4


@BOTH_MODES
def test_a_playlist_becomes_a_parent_with_a_child_for_each_entry(server: Program, origin: Origin) -> None:
    origin.page("feed.xml", feed("Feed", [origin.url("small.mp4", f"n{number}") for number in range(1, 5)]))
    parent_id = server.add(origin.url("feed.xml"), options={"playlist_limit": 3})["id"]
    parent = server.wait_for(parent_id, lambda job: job["is_playlist"], "entries")
    assert sum(parent["children"].values()) == 3
    assert parent["media"]["title"] == "Feed"
    done = server.wait_done(parent_id)
    assert done["children"] == {"done": 3}
    page = server.answer(server.client.get("/jobs", params={"parent_id": parent_id, "sort": "created_at"}))
    assert [job["entry_index"] for job in page["jobs"]] == [1, 2, 3]
    assert len(server.published()) == 3


def test_lists_within_a_list_are_opened_and_what_cannot_be_one_file_says_so(server: Program, origin: Origin) -> None:
    films = [origin.url("small.mp4", f"n{number}") for number in range(3)]
    origin.page("inner.xml", feed("Inner", films[:2]))
    # It names itself too: that must end.
    origin.page("outer.xml", feed("Outer", [origin.url("inner.xml"), films[2], origin.url("outer.xml")]))
    # Nothing tells from this link that a feed is behind it.
    origin.page("unknown", feed("Unknown", films[:2]))
    origin.page("last.xml", feed("Last", [origin.url("unknown"), films[0]]))
    parent = server.wait_state(server.add(origin.url("outer.xml"))["id"], "done", "error")
    assert parent["children"] == {"done": 3}
    parent_id = server.add(origin.url("last.xml"))["id"]
    server.wait_for(parent_id, lambda job: sum((job["children"] or {}).values()) == 2, "two entries")
    page = server.answer(server.client.get("/jobs", params={"parent_id": parent_id, "sort": "created_at"}))
    wrong = server.wait_state(page["jobs"][0]["id"], "error", "done")
    assert wrong["failure"]["kind"] == "unsupported_url"
    assert "playlist" in wrong["failure"]["hint"]


@BOTH_MODES
def test_probing_says_what_is_there_and_writes_nothing(server: Program, origin: Origin) -> None:
    origin.page("one.html", '<title>A film</title><video src="/plain/small.mp4"></video>')
    info = server.answer(server.client.post("/info", json={"url": origin.url("one.html")}))
    assert info["kind"] == "video"
    assert info["title"] == "A film"
    info = server.answer(server.client.post("/info", json={"url": origin.url("dash/index.mpd")}))
    assert {found["id"] for found in info["formats"]} == {"0", "1"}
    missing = server.client.post("/info", json={"url": origin.url("nothing.mp4")})
    assert missing.status_code == 422
    assert missing.json()["error"] == "probe_failed"
    assert missing.json()["kind"] == "unavailable"
    assert server.work_folders() == []
    assert server.published() == []


@BOTH_MODES
def test_the_record_of_what_was_published_lies_beside_it(server: Program, origin: Origin) -> None:
    done = download(
        server, origin.url("small.mp4"), folder="films/old", output_template="%(title)s [%(id)s]", checksum=True
    )
    artifact = done["artifacts"][0]
    assert artifact["name"] == "films/old/small [small].mp4"
    assert artifact["sha256"] == sha256(server.file_of(done))
    records = list((server.downloads / ".media-downloader" / "records").glob("*.json"))
    assert [path.stem for path in records] == [done["id"]]


def test_the_download_process_is_told_nothing_of_the_server(program: Start, origin: Origin) -> None:
    """No secret in its environment, none of the server's sockets or files among its own."""
    server = program(max_concurrent_downloads=1)
    server.add(origin.url("big.mp4", "rate=1000000"))
    job_id = server.answer(server.client.get("/jobs"))["jobs"][0]["id"]
    server.wait_bytes(job_id, 500_000)
    from pathlib import Path

    below = server.note_processes()
    assert len(below) >= 2
    for pid in below:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"MEDIA_DOWNLOADER_" not in environment
    sockets = Path("/proc/net/tcp").read_text()
    inode = next(line.split()[9] for line in sockets.splitlines() if f":{server.port:04X} 00000000:0000 0A" in line)
    for pid in below:
        assert f"socket:[{inode}]" not in {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    server.act(job_id, "cancel")
    wait_until(lambda: server.get(job_id)["state"] == "canceled", "the cancel", 5)


def test_a_server_that_breaks_down_for_good_ends_the_job_however_much_had_come(server: Program, origin: Origin) -> None:
    """What an earlier attempt fetched is no headway of the later ones."""
    job = failed(server, origin.url("big.mp4", "cut=4000000,status=503,first=3,times=1000"))
    assert job["failure"]["kind"] == "server_error"
    assert (job["failure"]["retry"], job["failure"]["retries"]) == (2, 2)
    assert job["attempt"] <= 4
