"""A stream that was interrupted goes on only if the server still has the same one, and then fetches little twice."""

import pytest

from tests.e2e.attempts import NOBODY, Attempts, fragment
from tests.origin.compare import assert_same_media, frames, sha256
from tests.origin.media import Media
from tests.origin.server import Origin

pytestmark = pytest.mark.e2e

#: Slow enough to be interrupted, the first time that a fragment is asked for.
SLOW = "rate=300000,slowtimes=1"


@pytest.mark.parametrize(
    "server", ["plain", "noetag", "novalidators", "weak,noetag", "noranges", "novalidators,noranges"]
)
async def test_a_stream_that_was_replaced_under_the_same_names_is_begun_anew(
    attempts: Attempts, origin: Origin, media: Media, server: str
) -> None:
    url = origin.url("hls/index.m3u8", f"{SLOW},{server}")
    await attempts.run(url, fragment(4))
    origin.replace_folder("hls", media.hls_other.parent)
    heard = await attempts.run(url)
    assert frames(attempts.result(heard), "v") == frames(media.other_source, "v")
    assert any("changed" in notice for notice in heard.notices)


async def test_a_replaced_stream_of_dash_is_begun_anew_though_its_first_fragment_is_the_same(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    url = origin.url("dash/index.mpd", f"{SLOW},novalidators")
    await attempts.run(url, fragment(4))
    origin.replace_folder("dash", media.dash_other.parent)
    origin.replace("dash/init-stream0.m4s", media.dash.with_name("init-stream0.m4s"))
    heard = await attempts.run(url)
    assert frames(attempts.result(heard), "v") == frames(media.other_source, "v")


@pytest.mark.parametrize("server", ["plain", "novalidators"])
async def test_new_sound_is_not_put_to_old_pictures(
    attempts: Attempts, origin: Origin, media: Media, server: str
) -> None:
    url = origin.url("dash/index.mpd", f"rate=60000,slowtimes=1,only=chunk-stream1,{server}")
    await attempts.run(url, fragment(3, "audio"))
    assert [path.name for path in (attempts.folder / "keep").iterdir()] == ["media.f0.mp4"]
    origin.replace_folder("dash", media.dash_other.parent)
    heard = await attempts.run(url)
    assert_same_media(attempts.result(heard), media.other_source)
    assert any("changed" in notice for notice in heard.notices)


async def test_pictures_that_are_complete_are_not_fetched_again(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    url = origin.url("dash/index.mpd", "rate=60000,slowtimes=1,only=chunk-stream1")
    await attempts.run(url, fragment(3, "audio"))
    before = origin.sent_bytes("stream0")
    heard = await attempts.run(url)
    assert_same_media(attempts.result(heard), media.hls_source)
    assert origin.sent_bytes("stream0") - before <= 2


@pytest.mark.parametrize("server", ["novalidators", "novalidators,noranges"])
async def test_without_validators_two_fragments_at_most_are_compared(
    attempts: Attempts, origin: Origin, media: Media, server: str
) -> None:
    url = origin.url("hls/index.m3u8", f"{SLOW},{server}")
    await attempts.run(url, fragment(5))
    kept = {path.name for path in (attempts.folder / "work").glob("*-Frag?")}
    assert len(kept) >= 4
    heard = await attempts.run(url)
    assert_same_media(attempts.result(heard), media.hls_source)
    asked = [seen.path for seen in origin.requests(".ts")]
    twice = {path for path in asked if asked.count(path) > 1}
    assert len(twice) <= 3, "the first and the last that were kept, and the one in flight"
    assert heard.notices == []


async def test_other_durations_make_another_stream(attempts: Attempts, origin: Origin, media: Media) -> None:
    url = origin.url("hls/index.m3u8", SLOW)
    await attempts.run(url, fragment(4))
    playlist = media.hls.read_text()
    origin.page("hls/index.m3u8", playlist.replace("#EXTINF:1.000000", "#EXTINF:1.500000", 1))
    heard = await attempts.run(url)
    assert any("changed" in notice for notice in heard.notices)


def byte_ranges(media: Media) -> tuple[bytes, str]:
    """Return a stream as one file and as the playlist of its parts."""
    lines = media.hls.read_text().splitlines()
    whole = b""
    for index, line in enumerate(lines):
        if line.endswith(".ts"):
            part = media.hls.with_name(line).read_bytes()
            lines[index] = f"#EXT-X-BYTERANGE:{len(part)}@{len(whole)}\nall.ts"
            whole += part
    return whole, "\n".join(lines)


@pytest.mark.parametrize("server", ["plain", "cut=50000,times=3,only=all.ts", "novalidators"])
async def test_a_stream_of_parts_of_one_file_comes_whole_and_goes_on(
    attempts: Attempts, origin: Origin, media: Media, server: str
) -> None:
    origin.pages["one/all.ts"], text = byte_ranges(media)
    origin.page("one/index.m3u8", text)
    url = origin.url("one/index.m3u8", f"rate=300000,slowtimes=6,{server}")
    await attempts.run(url, fragment(4))
    heard = await attempts.run(url)
    assert_same_media(attempts.result(heard), media.hls_source)
    assert heard.notices == []


async def test_a_server_that_sends_the_whole_file_for_each_part_makes_no_file(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    origin.pages["one/all.ts"], text = byte_ranges(media)
    origin.page("one/index.m3u8", text)
    heard = await attempts.run(origin.url("one/index.m3u8", "noranges"))
    assert "does not send parts" in heard.failed.message


async def test_a_kept_file_is_proven_before_sound_is_fetched_to_go_with_it(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    """A manifest whose formats are files: pictures are complete, the sound is on its way, and both are replaced."""
    origin.page("files/index.mpd", FILES)
    for name, source in (("video.mp4", media.small), ("audio.m4a", media.audio)):
        origin.replace(f"files/{name}", source)
    url = origin.url("files/index.mpd", "rate=4000,slowtimes=1,only=audio")
    first = await attempts.run(url, lambda message: getattr(getattr(message, "progress", None), "phase", "") == "audio")
    assert (attempts.folder / "keep").exists(), first.last
    assert [path.name for path in (attempts.folder / "keep").iterdir()] == ["media.fv.mp4"]
    origin.replace("files/video.mp4", media.other)
    heard = await attempts.run(url)
    assert frames(attempts.result(heard), "v") == frames(media.other, "v")
    assert any("changed" in notice for notice in heard.notices)


FILES = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet mimeType="video/mp4"><Representation id="v" bandwidth="800000" codecs="avc1.42c00d" width="320"
 height="180"><BaseURL>video.mp4</BaseURL><SegmentBase indexRange="0-99"/></Representation></AdaptationSet>
<AdaptationSet mimeType="audio/mp4"><Representation id="a" bandwidth="96000" codecs="mp4a.40.2"
 audioSamplingRate="48000"><BaseURL>audio.m4a</BaseURL>
<SegmentBase indexRange="0-99"/></Representation></AdaptationSet></Period></MPD>
"""


# --- links that have expired ------------------------------------------------------------------------------------------


def page(path: str) -> str:
    return f'<title>T</title><video><source src="/{path}/index.mpd" type="application/dash+xml"></video>'


def move(origin: Origin, media: Media, old: str, new: str) -> None:
    """Serve the DASH stream elsewhere from now on, and no longer where it was."""
    for file in media.dash.parent.iterdir():
        origin.pages.pop(f"{old}/{file.name}", None)
        origin.replace(f"{new}/{file.name}", file)


async def test_links_that_have_expired_are_extracted_anew_and_the_fragments_are_kept(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    move(origin, media, "", "A")
    origin.page("w.html", page("rate=150000,slowtimes=1/A"))
    await attempts.run(origin.url("w.html"), fragment(4))
    kept = len(list((attempts.folder / "work").glob("media.f0.mp4.part-Frag?")))
    move(origin, media, "A", "B")
    origin.page("w.html", page("plain/B"))
    heard = await attempts.run(origin.url("w.html"))
    assert_same_media(attempts.result(heard), media.hls_source)
    assert any("extracted anew" in notice for notice in heard.notices)
    # Two of those that were kept are compared; none but them comes from the new place again.
    fetched = {seen.path for seen in origin.requests("/B/") if "stream0" in seen.path}
    assert len(fetched) == 13 - kept + 2


async def test_links_that_lead_to_no_host_any_more_are_extracted_anew(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    move(origin, media, "", "A")
    origin.page("w.html", page("rate=150000,slowtimes=1/A"))
    await attempts.run(origin.url("w.html"), fragment(3))
    move(origin, media, "A", "B")
    origin.page("w.html", page("plain/B"))
    stored = attempts.folder / "state" / "info.json"
    stored.write_text(stored.read_text().replace(f"{origin.endpoint}/rate", f"{NOBODY}/rate"))
    heard = await attempts.run(origin.url("w.html"))
    assert_same_media(attempts.result(heard), media.hls_source)


async def test_a_retry_asks_the_site_again_and_keeps_what_came(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    origin.page("w.html", '<title>T</title><video src="/rate=100000,slowtimes=1/small.mp4"></video>')
    url = origin.url("w.html")
    await attempts.run(
        url, lambda message: getattr(getattr(message, "progress", None), "downloaded_bytes", 0) > 100_000
    )
    asked = len(origin.requests("w.html"))
    heard = await attempts.run(url, fresh_info=True)
    assert len(origin.requests("w.html")) > asked
    assert sha256(attempts.result(heard)) == sha256(media.small)
    assert origin.requests("small.mp4")[-1].range is not None
    assert heard.planned()[0].present_bytes > 50_000


async def test_what_is_begun_anew_reserves_room_for_all_of_it(attempts: Attempts, origin: Origin, media: Media) -> None:
    origin.page("w.html", '<title>T</title><video src="/rate=100000,slowtimes=1/small.mp4"></video>')
    url = origin.url("w.html")
    await attempts.run(
        url, lambda message: getattr(getattr(message, "progress", None), "downloaded_bytes", 0) > 100_000
    )
    # The site has the film in other formats now: what came of the old one is thrown away.
    origin.page("w.html", page("plain/dash"))
    heard = await attempts.run(url, fresh_info=True)
    assert_same_media(attempts.result(heard), media.hls_source)
    assert heard.planned()[0].present_bytes == 0


# --- what goes beside the media ---------------------------------------------------------------------------------------


async def test_subtitles_that_do_not_come_are_a_notice_and_no_failure(
    attempts: Attempts, origin: Origin, media: Media
) -> None:
    tracks = "".join(
        f'<track kind="subtitles" src="/{behaviour}/{name}.vtt" srclang="{name}">'
        for name, behaviour in (("en", "plain"), ("de", "status=404,times=99"), ("fr", "plain"))
    )
    origin.page("w.html", f'<title>T</title><video src="/plain/small.mp4">{tracks}</video>')
    origin.page("en.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n")
    origin.page("fr.vtt", "")
    origin.page("de.vtt", "WEBVTT\n")
    heard = await attempts.run(origin.url("w.html"), options={"subtitles": ["en", "de", "fr"]})
    assert [file.language for file in heard.finished.files] == [None, "en"]
    assert sha256(attempts.result(heard)) == sha256(media.small)
    missing = [notice for notice in heard.notices if "missing" in notice]
    assert sorted(notice.split()[-1] for notice in missing) == ["de", "fr"]


async def test_subtitles_that_the_media_has_not_are_a_notice(attempts: Attempts, origin: Origin) -> None:
    heard = await attempts.run(origin.url("small.mp4"), options={"subtitles": ["en"]})
    assert len(heard.finished.files) == 1
    assert any("no subtitles" in notice for notice in heard.notices)
