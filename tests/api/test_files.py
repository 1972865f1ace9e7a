"""GET and HEAD /jobs/{id}/file on a real server: ranges, validators, names, safety, and a file that is gone."""

import contextlib
import email
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx2
import pytest

from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, Program, wait_until
from tests.shared import Lend

Start = Callable[..., Program]

#: One group: most of them share a server.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("files")]


SUBTITLES = b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n"


class Published:
    """A server with a job that is done, and the bytes that it published."""

    def __init__(self, server: Program, job: Job, data: bytes) -> None:
        self.server, self.job, self.data = server, job, data
        self.path = f"/jobs/{job['id']}/file"

    def get(self, **headers: str) -> httpx2.Response:
        """GET with headers; underscores in names stand for dashes."""
        return self.server.client.get(self.path, headers={name.replace("_", "-"): v for name, v in headers.items()})


@pytest.fixture(scope="module")
def published(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Only read: tests that change the folder start a server of their own."""
    with (
        Origin(media) as origin,
        Program(tmp_path_factory.mktemp("files") / "installation", allowed_endpoints=origin.endpoint) as server,
    ):
        job = server.wait_done(server.add(origin.url("small.mp4"))["id"])
        yield Published(server, job, media.small.read_bytes())


# --- ranges ---------------------------------------------------------------------------------------------------------


def test_the_whole_file_comes_without_a_range(published: Published) -> None:
    whole = published.get()
    assert whole.status_code == 200
    assert whole.content == published.data
    assert whole.headers["content-length"] == str(len(published.data))
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    "asked, start, stop",
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=1000-", 1000, None),
        ("bytes=-500", -500, None),
        ("bytes=-99999999999", 0, None),
        ("bytes=5-99999999999", 5, None),
        ("BYTES=7-8", 7, 9),
        ("bytes=,7-8 ,", 7, 9),
        ("bytes=0-9,5-20", 0, 21),
        ("bytes=0-9, 99999999999-", 0, 10),
    ],
)
def test_one_range_comes_exactly(published: Published, asked: str, start: int, stop: int | None) -> None:
    part = published.get(range=asked)
    wanted = published.data[start:stop]
    size = len(published.data)
    first = size - len(wanted) if start < 0 or stop is None else start
    assert part.status_code == 206
    assert part.content == wanted
    assert part.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{size}"
    assert part.headers["content-length"] == str(len(wanted))


def test_several_ranges_come_as_parts_each_with_its_place(published: Published) -> None:
    several = published.get(range="bytes=0-9,100-119,-5")
    size = len(published.data)
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert several.headers["content-length"] == str(len(several.content))
    head = f"Content-Type: {several.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + several.content).get_payload()
    assert isinstance(parts, list)
    assert [(part["Content-Range"], part.get_payload(decode=True)) for part in parts] == [
        (f"bytes 0-9/{size}", published.data[:10]),
        (f"bytes 100-119/{size}", published.data[100:120]),
        (f"bytes {size - 5}-{size - 1}/{size}", published.data[-5:]),
    ]


@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes=99999999999-", "bytes=-0", "bytes={size}-,{size}-{size}"])
def test_a_range_beyond_the_end_is_refused_with_the_size(published: Published, asked: str) -> None:
    size = len(published.data)
    refused = published.get(range=asked.format(size=size))
    assert refused.status_code == 416
    assert refused.headers["content-range"] == f"bytes */{size}"
    assert refused.json()["error"] == "range_not_satisfiable"
    assert refused.json()["size_bytes"] == size


@pytest.mark.parametrize(
    "asked",
    [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=x-y",
        "bytes=9-3",
        "bytes=--5",
        "bytes=+1-2",
        "bytes=1_0-2_0",
        "bytes=0-9,x",
        "bytes = 7-8",
        "lines=0-9",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 200, 2)),
    ],
    ids=lambda asked: asked[:24],
)
def test_a_range_that_is_none_or_too_many_is_ignored(published: Published, asked: str) -> None:
    whole = published.get(range=asked)
    assert whole.status_code == 200
    assert whole.content == published.data


# --- validators -----------------------------------------------------------------------------------------------------


def test_a_range_is_given_only_of_the_file_that_the_client_has(published: Published) -> None:
    head = published.server.client.head(published.path).headers
    for right in (head["etag"], head["last-modified"]):
        assert published.get(range="bytes=0-9", if_range=right).status_code == 206
    for wrong in ('"other"', f"W/{head['etag']}", "Mon, 01 Jan 2001 00:00:00 GMT", "nonsense"):
        whole = published.get(range="bytes=0-9", if_range=wrong)
        assert (whole.status_code, len(whole.content)) == (200, len(published.data))
    # The range does not count then, and so it cannot be refused.
    assert published.get(range="bytes=99999999999-", if_range='"other"').status_code == 200


def test_a_client_that_has_the_file_is_told_so(published: Published) -> None:
    head = published.server.client.head(published.path).headers
    for tags in (head["etag"], f'"a", W/{head["etag"]}', "*"):
        unchanged = published.get(if_none_match=tags)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == head["etag"]
        assert unchanged.headers["cache-control"] == head["cache-control"]
    assert published.get(if_modified_since=head["last-modified"]).status_code == 304
    assert published.get(if_none_match='"a"', if_modified_since=head["last-modified"]).status_code == 200


@pytest.mark.parametrize(
    "date",
    [
        "yesterday",
        "Mon, 01 Jan 2001 00:00:00 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2001 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 2001 00:00:00 -0000",
        "",
    ],
)
def test_a_date_that_is_old_or_none_changes_nothing(published: Published, date: str) -> None:
    assert published.get(if_modified_since=date).status_code == 200


def test_head_says_what_get_says_and_sends_nothing(published: Published) -> None:
    volatile = {"date"}
    for headers, status in [({}, 200), ({"Range": "bytes=5-9"}, 206), ({"Range": "bytes=99999999999-"}, 416)]:
        got = published.server.client.get(published.path, headers=headers)
        head = published.server.client.head(published.path, headers=headers)
        assert head.status_code == got.status_code == status
        assert head.content == b""
        assert {k: v for k, v in head.headers.items() if k not in volatile} == {
            k: v for k, v in got.headers.items() if k not in volatile
        }


# --- what a browser makes of it -------------------------------------------------------------------------------------


def test_what_is_served_cannot_run_as_a_page(published: Published) -> None:
    headers = published.get().headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox;")
    assert "allow-" not in headers["content-security-policy"]
    assert headers["content-disposition"].startswith("attachment;")


def test_media_may_be_shown_when_that_is_asked_for(published: Published) -> None:
    shown = published.server.client.get(published.path, params={"inline": "1"})
    assert shown.headers["content-disposition"].startswith("inline;")
    assert shown.headers["content-type"] == "video/mp4"
    assert shown.headers["content-security-policy"].startswith("sandbox;")


#: A page's title, and what the browser is told to save it as.
TITLES = {
    "Ein „schönes“ Lied – 日本語 🎵": "Ein „schönes“ Lied – 日本語 🎵.mp4",
    'He said "no\\yes"; filename=x.exe': "He said ＂no⧹yes＂; filename=x.exe.mp4",
    "one\r\nSet-Cookie: a=b": "one Set-Cookie： a=b.mp4",
    "100 % 'quoted' (live)": "100 % 'quoted' (live).mp4",
}


def test_a_name_of_any_script_is_sent_so_that_every_browser_can_read_it(lend: Lend, origin: Origin) -> None:
    server = lend()
    for title, name in TITLES.items():
        origin.page("page.html", page(title))
        done = server.wait_done(server.add(origin.url("page.html"))["id"])
        header = server.client.head(f"/jobs/{done['id']}/file").headers["content-disposition"]
        match = re.fullmatch(r"attachment; filename=\"([ -~]*)\"; filename\*=UTF-8''([!-~]+)", header)
        assert match is not None, header
        assert unquote(match[2]) == name
        assert '"' not in match[1]
        assert "\\" not in match[1]


def page(title: str) -> str:
    """A page with a video, as a generic site has it."""
    told = "".join(f"&#{ord(char)};" for char in title)
    return f'<html><head><title>{told}</title></head><body><video src="small.mp4"></video></body></html>'


# --- several files --------------------------------------------------------------------------------------------------


def test_each_file_of_a_job_is_served_by_its_index(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    origin.pages["subtitles.en.vtt"] = SUBTITLES
    origin.page("talk.html", TALK)
    job = server.wait_done(server.add(origin.url("talk.html"), options={"subtitles": ["en"]})["id"])
    roles = [artifact["role"] for artifact in job["artifacts"]]
    assert sorted(roles) == ["media", "subtitles"]

    texts = server.client.get(f"/jobs/{job['id']}/file", params={"index": roles.index("subtitles")})
    assert texts.content == SUBTITLES
    assert texts.headers["content-type"].startswith("text/vtt")
    video = server.client.get(f"/jobs/{job['id']}/file", params={"index": roles.index("media")})
    assert video.content == media.small.read_bytes()
    for index, status in [("2", 409), ("1000", 409), ("1001", 422), ("-1", 422), ("9" * 5000, 422), ("x", 422)]:
        refused = server.client.get(f"/jobs/{job['id']}/file", params={"index": index})
        assert refused.status_code == status, index
    told = server.client.get(f"/jobs/{job['id']}/file", params={"index": "2"}).json()
    assert (told["error"], told["state"]) == ("no_file", "done")


TALK = """<html><head><title>talk</title></head><body>
<video><source src="small.mp4" type="video/mp4"><track kind="subtitles" src="subtitles.en.vtt" srclang="en"></video>
</body></html>"""


def test_a_job_without_a_file_says_so(lend: Lend, origin: Origin) -> None:
    server = lend()
    job = server.add(origin.url("small.mp4"), paused=True)
    refused = server.client.get(f"/jobs/{job['id']}/file")
    assert refused.status_code == 409
    assert refused.json()["error"] == "no_file"


# --- when it is gone, or not what it was ----------------------------------------------------------------------------


def test_a_file_that_is_gone_names_those_that_are_there(lend: Lend, origin: Origin) -> None:
    server = lend()
    first = server.wait_done(server.add(origin.url("small.mp4"))["id"])
    server.wait_done(server.add(origin.url("other.mp4"))["id"])
    server.file_of(first).unlink()
    for method in ("GET", "HEAD"):
        assert server.client.request(method, f"/jobs/{first['id']}/file").status_code == 404
    gone = server.client.get(f"/jobs/{first['id']}/file").json()
    assert gone["error"] == "file_missing"
    assert gone["file"] == "small.mp4"
    assert gone["folder_files"] == ["other.mp4"]


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_link_in_the_place_of_a_file_is_not_followed(lend: Lend, origin: Origin, tmp_path: Path, place: str) -> None:
    server = lend()
    job = server.wait_done(server.add(origin.url("small.mp4"), options={"folder": "clips"})["id"])
    path = server.file_of(job)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / path.name).write_text("do not show")
    if place == "file":
        path.unlink()
        path.symlink_to(secret / path.name)
    else:
        path.parent.rename(server.downloads / "elsewhere")
        path.parent.symlink_to(secret)
    refused = server.client.get(f"/jobs/{job['id']}/file")
    assert refused.status_code == 403
    assert refused.json()["error"] == "path_escapes_library"
    assert "do not show" not in refused.text


def test_an_expired_job_names_its_files_for_a_while_and_then_is_unknown(program: Start, origin: Origin) -> None:
    server = program(job_ttl=0.01)
    job = server.wait_done(server.add(origin.url("small.mp4"))["id"])
    cleaned = server.answer(server.client.post("/cleanup", json={"dry_run": False}))
    assert cleaned["expired_jobs"] == [job["id"]]
    for path in ("", "/file", "/log"):
        expired = server.client.get(f"/jobs/{job['id']}{path}")
        assert expired.status_code == 410
        assert (expired.json()["error"], expired.json()["files"]) == ("job_expired", ["small.mp4"])
    assert server.published() == ["small.mp4"]

    server.terminate()
    with sqlite3.connect(server.data / "media-downloader.db") as database:
        # A month later.
        database.execute("UPDATE tombstones SET expired_at = expired_at - 31 * 86400 * 1000000")
    database.close()
    server.start()
    server.answer(server.client.post("/cleanup", json={"dry_run": False}))
    for path in ("", "/file", "/log"):
        assert server.client.get(f"/jobs/{job['id']}{path}").status_code == 404


def test_a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    job = server.wait_done(server.add(origin.url("big.mp4"))["id"])
    path = server.file_of(job)
    before = media.big.read_bytes()
    with server.client.stream("GET", f"/jobs/{job['id']}/file") as answer:
        pieces = answer.iter_raw(65536)
        received = [next(pieces)]
        replacement = path.with_name(".new")
        replacement.write_bytes(media.other.read_bytes())
        replacement.replace(path)
        received.extend(pieces)
    assert b"".join(received) == before

    # The rest of the old file cannot be had from the new one: it is sent whole.
    etag = answer.headers["etag"]
    again = server.client.get(f"/jobs/{job['id']}/file", headers={"Range": "bytes=100-", "If-Range": etag})
    assert again.status_code == 200
    assert again.content == media.other.read_bytes()
    assert again.headers["etag"] != etag


def test_two_hundred_requests_leave_no_file_open(published: Published) -> None:
    process = published.server.process
    assert process is not None

    def open_media() -> int:
        found = 0
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            # One that is closed just now is not open.
            with contextlib.suppress(FileNotFoundError):
                found += str(link.readlink()).endswith("small.mp4")
        return found

    kinds = [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=99999999999-"}, {"If-None-Match": "*"}, {"Range": "bytes=x"}]
    client = published.server.client
    for number in range(200):
        client.request(("GET", "HEAD")[number % 2], published.path, headers=kinds[number % len(kinds)])
    for _ in range(20):
        # A reader who leaves in the middle.
        with client.stream("GET", published.path) as answer:
            next(answer.iter_raw(1))
    wait_until(lambda: open_media() == 0, "the server to close the file", 5)
