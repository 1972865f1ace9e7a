"""Malformed, oversized and hostile requests: a 4xx with the one error body, and nothing changed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import Program

pytestmark = pytest.mark.e2e

ID = "0" * 32
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    with Program(folder / "installation") as program:
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
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_bad_body_is_told_so(server: Program, body: bytes) -> None:
    refused = server.client.post("/jobs", content=body, headers=JSON)
    assert 400 <= refused.status_code < 500, refused.text[:500]
    assert {"error", "detail"} <= set(refused.json())
    assert "Traceback" not in refused.text
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
