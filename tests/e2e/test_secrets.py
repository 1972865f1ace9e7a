"""A link's secrets (tokens, signatures, user:password@) are in no answer, no event, no log and no library."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.origin.server import Origin
from tests.program import Program

pytestmark = pytest.mark.e2e

SECRET = "S3cr3t"
QUERY = f"?token={SECRET}1&X-Amz-Signature={SECRET}2&Policy={SECRET}3&id=7"


def site(origin: Origin) -> list[str]:
    """Make pages whose every link has a secret; return links to add, with secrets of their own."""
    signed = f"?token={SECRET}4&X-Amz-Signature={SECRET}5"
    picture = f"http://user:{SECRET}6@pictures.example/t.jpg?sig={SECRET}7"
    origin.page(
        "film.html",
        f'<html><head><title>Film</title><meta property="og:image" content="{picture}"></head>'
        f'<video src="/plain/small.mp4{signed}"></video>',
    )
    origin.page("none.html", f"<html><head><title>http://user:{SECRET}8@x.example/{signed}</title></head></html>")
    items = "".join(
        f"<item><title>Part {number}</title><enclosure type='video/mp4' "
        f"url='http://user:{SECRET}9@{origin.endpoint}/n{number}/small.mp4{signed.replace('&', '&amp;')}'/></item>"
        for number in (1, 2)
    )
    origin.page("feed.xml", f'<?xml version="1.0"?><rss version="2.0"><channel><title>t</title>{items}</channel></rss>')
    host = f"http://user:{SECRET}0@{origin.endpoint}"
    paths = [
        "plain/film.html",
        "plain/small.mp4",
        "plain/hls/index.m3u8",
        "plain/feed.xml",
        "plain/none.html",
        "plain/missing.mp4",
        "plain/folder/",
        "status=403,times=9/small.mp4",
        "status=503,times=9/small.mp4",
        "cut=1000,times=99,noranges/small.mp4",
    ]
    return [f"{host}/{path}{QUERY}#access_token={SECRET}" for path in paths]


def answers(server: Program, ids: list[str], links: list[str]) -> dict[str, str]:
    """Return the text of everything that can be asked."""
    gets = ["/jobs?limit=100", "/health", "/metrics", "/stats", *(f"/jobs/{i}" for i in ids)]
    gets += [f"/jobs/{i}/log" for i in ids] + [f"/jobs/{i}/file{QUERY}" for i in ids] + [f"/nothing{QUERY}"]
    found = {path: server.client.get(path).text for path in gets}
    for link in links:
        found[f"/info {link}"] = server.client.post("/info", json={"url": link}).text
    refused = [f"http://user:{SECRET}@127.0.0.1:1/{QUERY}", f"ftp://user:{SECRET}@x/{QUERY}", f"http://a b:{SECRET}@x/"]
    bodies: list[Any] = [{"url": url} for url in refused] + [{"urls": refused}, {"url": [SECRET]}, {"x": SECRET}]
    for body in bodies:
        found[f"/jobs {body}"] = server.client.post("/jobs", json=body).text
    return found


def test_no_secret_of_a_link_is_told(program: Callable[..., Program], origin: Origin, tmp_path: Path) -> None:
    server = program(max_retries=1, log_level="debug", log_dir=tmp_path / "logs", socket_timeout_seconds=5)
    events: list[Any] = []
    listening = threading.Thread(target=lambda: events.extend(server.events()), daemon=True)
    listening.start()
    links = site(origin)
    ids = [server.add(link)["id"] for link in links]
    for job_id in ids:
        server.wait_state(job_id, "done", "error")
    shown = answers(server, ids, links)
    assert {json.loads(shown[f"/jobs/{i}"])["state"] for i in ids} == {"done", "error"}
    assert [path for path, text in shown.items() if SECRET in text] == []
    # What is not secret is still there to recognise a link by, and a link that is pasted whole finds its job.
    assert "/plain/small.mp4?token=***&X-Amz-Signature=***&Policy=***&id=7" in shown["/jobs?limit=100"]
    for text, count in ((links[1], 1), (SECRET, 0), (f"token={SECRET}1", 0), ("plain/small.mp4", 1)):
        found = server.answer(server.client.get("/jobs", params={"q": text}))["jobs"]
        assert sum(job["parent_id"] is None for job in found) == count, text
    pages_told = [seen.headers["referer"] for seen in origin.seen if "referer" in seen.headers]
    assert pages_told
    assert [referer for referer in pages_told if "@" in referer or "#" in referer] == []
    server.terminate()
    listening.join(10)
    assert len(events) > len(ids)
    assert [event for event in events if SECRET in json.dumps(event)] == []
    assert SECRET not in server.log()
    assert server.log()
    # The work folders and the database need the whole link, and nobody else may read them; all other files do not.
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept
    for path in kept:
        assert path.stat().st_mode & 0o77 == 0, path
        assert path.name in {"job.json", "info.json"} or path.name.startswith("media-downloader.db"), path
