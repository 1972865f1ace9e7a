"""Secrets do not pass, and what is left can still be recognised."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.netguard import redact_line, redact_links, redact_text, redact_url


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:hunter2@example.org/v", "https://example.org/v"),
        ("https://a@b:hunter2@example.org/v", "https://example.org/v"),
        ("https://e.org/v?sig=S3&expires=17&id=4", "https://e.org/v?sig=***&expires=17&id=4"),
        ("https://e.org/v?X-Amz-Signature=S3&X-Amz-Date=S3", "https://e.org/v?X-Amz-Signature=***&X-Amz-Date=***"),
        ("https://e.org/?Policy=S3&Key-Pair-Id=S3;token=S3", "https://e.org/?Policy=***&Key-Pair-Id=***;token=***"),
        ("https://e.org/v?%74oken=S3", "https://e.org/v?%74oken=***"),
        ("https://e.org/v?hdnts=exp=1~hmac=S3&q=cats", "https://e.org/v?hdnts=***&q=cats"),
        ("https://e.org/cb#access_token=S3&state=1", "https://e.org/cb#access_token=***&state=1"),
        ("https://e.org/a/sig/S3/lsig/S3/n.ts", "https://e.org/a/sig/***/lsig/***/n.ts"),
        ("https://e.org/hdntl=exp=1~hmac=S3/n.ts", "https://e.org/hdntl=***/n.ts"),
        ("https://e.org/x;jsessionid=S3/n.ts", "https://e.org/x;jsessionid=***/n.ts"),
        (
            "https://e.org/?u=https%3A%2F%2Fa%3AS3%40b.org%2F%3Fsig%3DS3",
            "https://e.org/?u=https%3A%2F%2Fb.org%2F%3Fsig%3D***",
        ),
        ("https://www.youtube.com/watch?v=abc&list=PL1&t=4s", "https://www.youtube.com/watch?v=abc&list=PL1&t=4s"),
        ("https://e.org/?monkey=1&keyword=2&author=me", "https://e.org/?monkey=1&keyword=2&author=me"),
        ("ftp://u:S3@e.org/", "ftp://e.org/"),
        ("no link at all", "no link at all"),
    ],
)
def test_links_keep_everything_but_their_secrets(url: str, clean: str) -> None:
    assert redact_url(url) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET https://u:S3@e.org/?sig=S3 failed", "GET https://e.org/?sig=*** failed"),
        ("Cookie: a=S3; b=S3\nHost: e.org", "Cookie: ***\nHost: e.org"),
        ("set-cookie: a=S3", "set-cookie: ***"),
        ("Authorization: Basic S3", "Authorization: ***"),
        ("Proxy-Authorization: Basic S3", "Proxy-Authorization: ***"),
        ("{'Cookie': 'a=S3; b=S3', 'Accept': '*/*'}", "{'Cookie': '***', 'Accept': '*/*'}"),
        ('{"Authorization": "Bearer S3\\"S3", "x": 1}', '{"Authorization": "***", "x": 1}'),
        ("sent bearer S3abcdef0123 to it", "sent bearer *** to it"),
        ("the bearer of bad news", "the bearer of bad news"),
        ("retry /v?token=S3&x=1", "retry /v?token=***&x=1"),
        ("api_key=S3 password=S3", "api_key=*** password=***"),
        ("X-Api-Key: S3", "X-Api-Key: ***"),
        ("see <https://e.org/?token=S3>, then", "see <https://e.org/?token=***>, then"),
        ("http://u:S'{3}|S3@e.org/v failed", "http://e.org/v failed"),
        ("?token=S3&Policy=S3&id=7: Downloading", "?token=***&Policy=***&id=7: Downloading"),
        ("GET /x?key=S3&code=S3&page=2 HTTP/1.1", "GET /x?key=***&code=***&page=2 HTTP/1.1"),
        ("proxy http://md:S3@127.0.0.1:4/ refused", "proxy http://127.0.0.1:4/ refused"),
        ("2026-11-24 12:30:01 [download] 45.1% of 10MiB", "2026-11-24 12:30:01 [download] 45.1% of 10MiB"),
    ],
)
def test_text_keeps_everything_but_its_secrets(text: str, clean: str) -> None:
    assert redact_text(text) == clean


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("Cookie: the film", "Cookie: the film"),
        ("password=swordfish, a heist", "password=swordfish, a heist"),
        ("http://u:S3@e.org/feed.xml?token=S3&n=1", "http://e.org/feed.xml?token=***&n=1"),
        ("?sig=S3", "?sig=***"),
        ("Who? Me & you; 1=1", "Who? Me & you; 1=1"),
    ],
)
def test_a_title_loses_nothing_but_the_secrets_of_links(title: str, clean: str) -> None:
    assert redact_links(title) == clean


def test_a_line_that_is_cut_shows_no_half_of_a_password() -> None:
    line = "x" * 90 + " https://user:" + "S3cr3t" * 20 + "@example.org/v\x1b[31m\n"
    assert redact_line(line, 110) == "x" * 90 + " https://example.org"
    assert redact_line(line, 200).endswith("https://example.org/v [31m")


@given(st.text(max_size=200))
def test_redaction_never_raises_and_does_nothing_twice(text: str) -> None:
    redact_url(text)
    once = redact_text(text)
    assert redact_text(once) == once


secret = st.from_regex(r"[A-Za-z0-9]{12,40}", fullmatch=True).map(lambda text: f"S3cr3t{text}")


@given(
    secret, st.sampled_from(["sig", "token", "Signature", "X-Amz-Signature", "auth", "hdnea", "key", "access_token"])
)
def test_no_secret_of_a_link_is_left_in_a_log_line(value: str, name: str) -> None:
    url = f"https://user:{value}@example.org/v.mp4?id=1&{name}={value}&x=2#{name}={value}"
    assert value not in redact_text(f"ERROR: [generic] Unable to download {url!r} (caused by HTTP 403: {url})")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "https://" * 30_000,
        "token" * 40_000,
        "x-" * 100_000,
        "bearer " * 30_000,
        "'cookie':'" + "\\" * 200_000,
        "https://e.org/?" + "a=b&" * 50_000,
        "-_" * 100_000,
        "a-" * 100_000,
        "http://" + "u" * 200_000,
        "http://u" * 30_000,
        "?" * 200_000,
        "?a" * 100_000,
        "?a=b" * 50_000,
    ],
    ids=lambda text: text[:10],
)
def test_long_hostile_text_is_done_in_time(text: str) -> None:
    started = time.process_time()
    redact_text(text)
    assert time.process_time() - started < 3
