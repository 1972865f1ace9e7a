"""Malformed, oversized and hostile requests: a 4xx with the one error body, and nothing changed."""

import json
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.program import Program

#: One group: most of them share a server.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("hostile")]

ID = "0" * 32
JSON = {"Content-Type": "application/json"}
#: Allowed, and nothing listens there: added paused, it stays what it is.
LINK = "http://127.0.0.1:9/clip.mp4"
#: Half of a character, as JSON can spell it and UTF-8 cannot.
HALF = "\ud800"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    with Program(folder / "installation", allowed_endpoints="127.0.0.1:9") as program:
        yield program


BODIES = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b'"x"',
    b"{}",
    b'{"url": 1}',
    b'{"url": null}',
    b'{"url": "https://example.org", "urls": ["https://example.org"]}',
    b'{"url": "https://example.org", "unknown": 1}',
    b'{"url": "https://example.org", "options": {"exec": "x"}}',
    b'{"url": "https://example.org", "options": {"folder": "../x"}}',
    b'{"url": "https://example.org", "options": {"output_template": "/etc/x"}}',
    b'{"url": "https://example.org", "options": {"format": "((("}}',
    b'{"url": "https://example.org", "priority": 1e9}',
    b'{"url": "https://example.org", "not_before": "soon"}',
    b'{"url": "file:///etc/passwd"}',
    b'{"url": "http://127.0.0.1/"}',
    b'{"url": "http://0x7f.1/"}',
    b'{"url": "http://[::ffff:127.0.0.1]/"}',
    b'{"url": "http://169.254.169.254/"}',
    b'{"url": "https://exa\\u0000mple.org"}',
    b'{"url": "javascript:alert(1)"}',
    b'{"urls": []}',
    b"\xff\xfe\x00",
    b"{" * 10_000,
    json.dumps({"url": "https://example.org/" + "x" * 1_000_000}).encode(),
    json.dumps({"urls": ["https://e.org/x"] * 100_000}).encode(),
    json.dumps({"urls": ["x"] * 100_000}).encode(),
    b"[" * 200_000,
    b'{"url": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_001,
    b'{"url": "http://127.0.0.1:9/\xff\xfe"}',
    *(json.dumps({"url": LINK + sign}).encode() for sign in ("\0", "\x1b", "\x7f", HALF)),
    *(
        json.dumps({"url": LINK, "options": {name: f"a{sign}b"}}).encode()
        for sign in ("\0", "\x1b", "\x9b", HALF)
        for name in ("format", "folder", "output_template")
    ),
    json.dumps({"url": LINK, "options": {"subtitles": ["\0"]}}).encode(),
    json.dumps({"url": LINK, f"a{HALF}": 1}).encode(),
    *(
        f'{{"url": "{LINK}", "priority": {number}}}'.encode()
        for number in (10**30, "9" * 5000, "NaN", "Infinity", "-Infinity", "1e400", "0.5", "true", '"1"')
    ),
    *(
        json.dumps({"url": LINK, "not_before": moment}).encode()
        for moment in (
            "2030-01-01T00:00:00",
            "2030-01-01",
            "9999-12-31T23:59:59-12:00",
            "0001-01-01T00:00:00+14:00",
            "2030-02-30T00:00:00Z",
            "2030-01-01T00:00:00+05:53:27",
            "1893456000",
            1893456000,
            True,
        )
    ),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_bad_body_is_told_so(server: Program, body: bytes) -> None:
    began = time.monotonic()
    refused = server.client.post("/jobs", content=body, headers=JSON)
    assert 400 <= refused.status_code < 500, refused.text[:500]
    assert {"error", "detail"} <= set(refused.json())
    assert "Traceback" not in refused.text
    # The largest take a quarter of a second here; what grows with the square of the size would take minutes.
    assert time.monotonic() - began < 10
    assert sum(server.answer(server.client.get("/jobs"))["counts"].values()) == 0


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("GET", f"/jobs/{ID}", 404, "job_not_found"),
        ("GET", "/jobs/..%2f..%2fetc", 404, "not_found"),
        ("POST", f"/jobs/{ID}/pause", 404, "job_not_found"),
        ("POST", f"/jobs/{ID}/explode", 404, "not_found"),
        ("DELETE", f"/jobs/{ID}", 404, "job_not_found"),
        ("GET", f"/jobs/{ID}/file", 404, "job_not_found"),
        ("PUT", "/jobs", 405, "method_not_allowed"),
        ("GET", "/jobs?limit=0", 422, "invalid_request"),
        ("GET", "/jobs?unknown=1", 422, "invalid_request"),
        ("GET", "/jobs?cursor=x", 422, "invalid_cursor"),
        ("GET", "/jobs?cursor=%00", 422, "invalid_cursor"),
        ("GET", "/jobs?cursor=WyItY3JlYXRlZF9hdCIsdHJ1ZV0", 422, "invalid_cursor"),
        ("GET", f"/jobs?limit={'9' * 5000}", 422, "invalid_request"),
        ("GET", "/jobs?state", 422, "invalid_request"),
        ("GET", "/jobs?q=%00", 422, "invalid_request"),
        ("GET", "/jobs?site=%0a", 422, "invalid_request"),
        ("GET", "/jobs/%00", 400, "malformed_request"),
        ("GET", "/jobs/%ff%fe", 404, "job_not_found"),
        ("GET", "/events?cursor=" + "x" * 101, 422, "invalid_request"),
        ("GET", "/nothing", 404, "not_found"),
    ],
)
def test_a_bad_path_is_told_so(server: Program, method: str, path: str, status: int, code: str) -> None:
    refused = server.client.request(method, path)
    assert (refused.status_code, refused.json()["error"]) == (status, code)


@pytest.mark.parametrize(
    "headers, status, code",
    [
        ({"Host": "evil.example"}, 421, "host_not_allowed"),
        ({"Origin": "https://evil.example"}, 403, "origin_not_allowed"),
        ({"Origin": "null"}, 403, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "origin_not_allowed"),
        ({"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ],
)
def test_other_sites_cannot_add_jobs(server: Program, headers: dict[str, str], status: int, code: str) -> None:
    refused = server.client.post("/jobs", content=b'{"url": "https://example.org"}', headers=JSON | headers)
    assert (refused.status_code, refused.json()["error"]) == (status, code)


@pytest.mark.parametrize("path", [f"/jobs/{ID}/pause", f"/jobs/{ID}/retry", "/queue/pause", "/queue/resume"])
@pytest.mark.parametrize(
    "body, status, code",
    [(b"{bad", 400, "malformed_request"), (b"[" * 100_000, 400, "malformed_request"), (b'{"x":1}', 422, None)],
)
def test_what_takes_no_body_refuses_one_that_says_something(
    server: Program, path: str, body: bytes, status: int, code: str | None
) -> None:
    refused = server.client.post(path, content=body, headers=JSON)
    assert (refused.status_code, refused.json()["error"]) == (status, code or "invalid_request")
    assert server.answer(server.client.get("/queue"))["paused"] is False


def test_parameters_that_are_repeated_are_a_list_or_the_last_counts(server: Program) -> None:
    assert server.client.get("/jobs?state=queued&state=done").status_code == 200
    assert server.client.get("/jobs?limit=1&limit=0").status_code == 422


def test_a_key_gives_the_same_job_again_and_never_another(server: Program) -> None:
    def add(body: bytes, key: str = "key-1") -> tuple[int, dict[str, object]]:
        answer = server.client.post("/jobs", content=body, headers=JSON | {"Idempotency-Key": key})
        return answer.status_code, answer.json()

    body = json.dumps({"url": LINK, "paused": True}).encode()
    status, first = add(body)
    assert status == 201
    # The same in other words: the order of fields and the spelling of a default are no other request.
    for again in (body, json.dumps({"paused": True, "priority": 0, "url": LINK}).encode()):
        status, job = add(again)
        assert (status, job["id"]) == (201, first["id"])
    status, refused = add(json.dumps({"url": f"{LINK}?other", "paused": True}).encode())
    assert (status, refused["error"]) == (409, "idempotency_conflict")
    for key in ("x" * 256, "a b", ""):
        status, refused = add(body, key)
        assert (status, refused["error"]) == (422, "invalid_request")
    assert server.answer(server.client.get("/stats"))["counts"]["paused"] == 1
    server.answer(server.client.delete(f"/jobs/{first['id']}"))


# --- below what an HTTP client would send ---------------------------------------------------------------------------

CLOSE = b"Host: localhost\r\nConnection: close\r\n"
CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


def exchange(server: Program, pieces: Iterable[bytes]) -> bytes:
    """Send bytes as they are; return what comes back until the server hangs up, as each request here asks it to."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # It has heard enough.
        answer = b""
        try:
            while data := line.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def one_answer(answer: bytes) -> tuple[int, str]:
    """Return status and code of the only answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head, answer[:500]
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(
    "pieces, status, code",
    [
        ([b"POST /jobs HTTP/1.1\r\n" + CLOSE, CHUNKED, *[PIECE] * 40], 413, "body_too_large"),
        ([b"POST /queue/pause HTTP/1.1\r\n" + CLOSE, CHUNKED, *[PIECE] * 40], 413, "body_too_large"),
        ([b"POST /jobs HTTP/1.1\r\n" + CLOSE, CHUNKED, b"zz\r\n"], 400, "malformed_request"),
        ([b"POST /jobs HTTP/1.1\r\n" + CLOSE + b"Content-Length: 5\r\n", CHUNKED], 400, "malformed_request"),
        ([b"POST /jobs HTTP/1.1\r\n" + CLOSE + b"Content-Length: -1\r\n\r\n"], 400, "malformed_request"),
        ([b"POST /jobs HTTP/1.1\r\n" + CLOSE + b"Content-Length: 9\r\n\r\n"], 415, "unsupported_media_type"),
        ([b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"], 421, "host_not_allowed"),
        ([b"GET /health HTTP/1.1\r\n" + CLOSE + b"Host: evil.example\r\n\r\n"], 421, "host_not_allowed"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "malformed_request"),
        ([b"GET /", b"x" * 1_000_000, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], 400, "malformed_request"),
        ([b"GET /jobs/\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n"], 400, "malformed_request"),
    ],
    ids=range(11),
)
def test_what_is_hardly_http_is_told_so_in_the_one_body(
    server: Program, pieces: list[bytes], status: int, code: str
) -> None:
    assert one_answer(exchange(server, pieces)) == (status, code)
    assert server.client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "start, more",
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 65536),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 10_000),
        (b"POST /jobs HTTP/1.1\r\nHost: localhost\r\n" + CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n" * 10_000),
    ],
    ids=["one header", "headers", "trailers"],
)
def test_a_head_without_an_end_is_cut_off(server: Program, start: bytes, more: bytes) -> None:
    # 64 MB, of which the server reads less than one.
    assert one_answer(exchange(server, [start, *[more] * 1000])) == (400, "malformed_request")


def test_requests_in_one_go_are_answered_in_their_order(server: Program) -> None:
    body = json.dumps({"url": LINK, "paused": True}).encode()
    post = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    bad = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = exchange(server, [post % len(body) + body + bad + last])
    statuses = [part.split(b" ", 2)[1] for part in answer.split(b"HTTP/1.1")[1:]]
    assert statuses == [b"201", b"404", b"200"]


def test_nothing_of_all_this_was_a_surprise(server: Program) -> None:
    assert "Traceback" not in server.log()
    assert "Request failed unexpectedly" not in server.log()
