"""From what yt-dlp and the network say to the kind of a failure."""

import errno
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, UnsupportedError

from media_downloader.downloader.failures import HINTS, Trouble, clean_message, kind_of
from media_downloader.downloader.guarded import GuardedYoutubeDL, Told
from media_downloader.downloader.pins import PinFile
from media_downloader.downloader.problems import BadOptions, ContentChanged, Incomplete, NotOneMedia, TooLarge, describe
from media_downloader.downloader.resume import Folders
from media_downloader.jobs.model import FailureKind as K


@pytest.mark.parametrize(
    "message, kind",
    [
        ("ERROR: [youtube] abc: Private video. Sign in if you've been granted access to this video", K.PRIVATE),
        ("ERROR: [youtube] abc: Sign in to confirm you’re not a bot. Use --cookies", K.RATE_LIMITED),
        ("ERROR: [youtube] abc: Sign in to confirm your age.", K.AGE_RESTRICTED),
        ("ERROR: [youtube] abc: Video unavailable. This video has been removed by the uploader", K.UNAVAILABLE),
        ("ERROR: [youtube] abc: The uploader has not made this video available in your country", K.GEO_RESTRICTED),
        ("ERROR: [x] 1: This video is DRM protected", K.DRM),
        ("ERROR: Unsupported URL: https://example.org/", K.UNSUPPORTED_URL),
        ("ERROR: [generic] 'x' is not a valid URL", K.UNSUPPORTED_URL),
        ("ERROR: [youtube] abc: Requested format is not available. Use --list-formats", K.NO_SUCH_FORMAT),
        ("ERROR: HTTP Error 429: Too Many Requests", K.RATE_LIMITED),
        ("ERROR: [x] The read operation timed out", K.NETWORK),
        ("ERROR: [x] Unable to download webpage: <urlopen error [Errno 111] Connection refused>", K.NETWORK),
        ("ERROR: [x] Failed to resolve 'nowhere.invalid' ([Errno -2] Name or service not known)", K.NETWORK),
        ("ERROR: HTTP Error 503: Service Unavailable", K.SERVER_ERROR),
        ("ERROR: unable to write data: [Errno 28] No space left on device", K.DISK_FULL),
        ("ERROR: [youtube] abc: This live event will begin in 3 hours.", K.LIVE_NOT_STARTED),
        ("ERROR: [youtube] abc: Premieres in 2 days", K.LIVE_NOT_STARTED),
        ("ERROR: [x] This video is only available for registered users. Use --cookies", K.LOGIN_REQUIRED),
        ("ERROR: Postprocessing: Conversion failed!", K.PROCESSING_FAILED),
        ("ERROR: Did not get any data blocks", K.INCOMPLETE),
        ("something that nobody has ever seen", K.UNKNOWN),
    ],
)
def test_messages(message: str, kind: K) -> None:
    assert kind_of(Trouble(clean_message(message) if kind is K.UNKNOWN else message)) is kind
    assert HINTS[kind]


def http_error(status: int, **headers: str) -> HTTPError:
    import io

    return HTTPError(Response(io.BytesIO(b""), "https://example.org", headers, status=status))


@pytest.mark.parametrize(
    "status, kind",
    [
        (401, K.LOGIN_REQUIRED),
        (403, K.UNAVAILABLE),
        (404, K.UNAVAILABLE),
        (410, K.UNAVAILABLE),
        (429, K.RATE_LIMITED),
        (451, K.GEO_RESTRICTED),
        (500, K.SERVER_ERROR),
        (503, K.SERVER_ERROR),
    ],
)
def test_statuses(status: int, kind: K) -> None:
    cause = http_error(status)
    for message in (str(cause), f"[generic] Unable to download webpage: {cause}"):
        assert describe(DownloadError(message, (HTTPError, cause, None))).kind is kind
    cause.close()


@pytest.mark.parametrize("value, seconds", [("120", 120.0), ("0", 0.0), ("99999999", 86_400.0), ("soon", None)])
def test_retry_after(value: str, seconds: float | None) -> None:
    cause = http_error(429, **{"Retry-After": value})
    assert describe(DownloadError("x", (HTTPError, cause, None))).retry_after_seconds == seconds
    cause.close()


@pytest.mark.parametrize(
    "message, seconds",
    [
        ("ERROR: [youtube] abc: This live event will begin in 3 hours.", 10_800.0),
        ("ERROR: [youtube] abc: Premieres in 20 minutes", 1_200.0),
        ("ERROR: [x] 1: The stream will start in an hour", 3_600.0),
        ("ERROR: [youtube] abc: Premieres in 2 days", 86_400.0),
        ("ERROR: [youtube] abc: This live event will begin in a few moments.", None),
        ("ERROR: [x] 1: The channel is offline", None),
    ],
)
def test_a_stream_is_asked_for_again_when_it_begins(message: str, seconds: float | None) -> None:
    told = describe(DownloadError(message))
    assert told.kind is K.LIVE_NOT_STARTED
    assert told.retry_after_seconds == seconds


@pytest.mark.parametrize("ahead, least, most", [(600, 590, 600), (7 * 86_400, 86_400, 86_400), (-600, 0, 0)])
def test_a_site_that_names_the_moment_is_believed_for_a_day(tmp_path: Path, ahead: int, least: int, most: int) -> None:
    folders = Folders(tmp_path)
    folders.make()
    told = Told(lambda _: None, lambda *_: None)
    info = {"id": "x", "extractor": "x", "live_status": "is_upcoming", "release_timestamp": time.time() + ahead}
    guarded = GuardedYoutubeDL({"quiet": True}, PinFile(folders.state / "pins.json"), folders, told)
    with guarded as ydl, pytest.raises(ExtractorError) as caught:
        ydl.raise_no_formats(info, msg="The stream has not started")
    found = describe(DownloadError(str(caught.value), (ExtractorError, caught.value, None)))
    assert found.kind is K.LIVE_NOT_STARTED
    assert found.retry_after_seconds is not None
    assert least <= found.retry_after_seconds <= most


def test_exceptions_of_ours_and_of_the_system() -> None:
    assert describe(TooLarge("x")).kind is K.TOO_LARGE
    assert describe(Incomplete("x")).kind is K.INCOMPLETE
    assert describe(BadOptions("x")).kind is K.BAD_OPTIONS
    assert describe(OSError(errno.ENOSPC, "no space")).kind is K.DISK_FULL
    assert describe(OSError(errno.EFBIG, "too big")).kind is K.TOO_LARGE
    assert describe(GeoRestrictedError("x")).kind is K.GEO_RESTRICTED
    assert describe(ContentChanged("x")).kind is K.INCOMPLETE
    assert describe(NotOneMedia("x")).kind is K.UNSUPPORTED_URL
    assert describe(UnsupportedError("https://example.org")).kind is K.UNSUPPORTED_URL


@given(st.text())
def test_any_message_becomes_one_printable_line(text: str) -> None:
    message = clean_message(text)
    assert message
    assert len(message) <= 600
    assert message.isprintable()


def test_a_message_holds_no_secret() -> None:
    message = clean_message("ERROR: [x] bad: https://user:secret@example.org/a?token=abc&sig=def failed")
    assert "secret" not in message
    assert "abc" not in message
