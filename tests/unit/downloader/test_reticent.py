"""What one site learns of another's link."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yt_dlp.networking.common import Request, RequestDirector, RequestHandler, Response

from media_downloader.downloader.reticent import ReticentYoutubeDL, shorten_referer, told_referer

MEDIA = "https://cdn.example/v.mp4"


@pytest.mark.parametrize(
    ("referer", "url", "told"),
    [
        ("https://e.org/page?id=7", MEDIA, "https://e.org/page?id=7"),
        ("https://e.org/page?id=7&token=S3", MEDIA, "https://e.org/"),
        ("https://e.org/page?id=7&token=S3", "https://e.org/v.mp4", "https://e.org/page?id=7&token=S3"),
        ("https://u:S3@e.org:81/page", "https://e.org/v.mp4", "https://e.org:81/page"),
        ("https://u:S3@e.org/page?sig=S3", MEDIA, "https://e.org/"),
        ("https://e.org/page#access_token=S3", "https://e.org/v.mp4", "https://e.org/page"),
        ("https://e.org/sig/S3/page", MEDIA, "https://e.org/"),
        ("https://[broken/", MEDIA, ""),
        ("", MEDIA, ""),
    ],
)
def test_a_referer_names_the_page_and_none_of_its_secrets(referer: str, url: str, told: str) -> None:
    assert told_referer(referer, url) == told
    headers = {"referer": referer, "Accept": "*/*"}
    shorten_referer(headers, url)
    assert headers == {"referer": told, "Accept": "*/*"}


@given(st.from_regex(r"[A-Za-z0-9:_~!]{12,30}", fullmatch=True), st.sampled_from([MEDIA, "https://e.org/v.mp4"]))
def test_no_password_is_in_a_referer(password: str, url: str) -> None:
    assert password not in told_referer(f"https://user:{password}@e.org/page?x=1", url)


class RecorderRH(RequestHandler):
    """A handler that sends nothing and remembers what it was to send."""

    _SUPPORTED_URL_SCHEMES = ("https",)
    _SUPPORTED_PROXY_SCHEMES = None
    _SUPPORTED_FEATURES = None

    def _send(self, request: Request) -> Response:
        self.sent = self._get_headers(request)
        return Response(io.BytesIO(b""), request.url, {})


def test_every_request_of_yt_dlp_is_reticent() -> None:
    with ReticentYoutubeDL({"quiet": True, "proxy": ""}) as ydl:
        director = RequestDirector(logger=ydl)
        recorder = RecorderRH(logger=ydl)
        director.add_handler(recorder)
        ydl._request_director = director
        ydl.urlopen(Request(MEDIA, headers={"Referer": "https://u:S3@e.org/p?token=S3"})).close()
    assert recorder.sent["Referer"] == "https://e.org/"
