"""``mdl jobs`` against a real server: the four walks, and everything that can go wrong in a terminal."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from threading import Thread
from typing import Any

import pytest

from tests.cli.command import on_server, one_line, run, told
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program, wait_until
from tests.shared import Lend

#: One group: most of them share a server.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("jobs")]


SLOW = "rate=4000000,slowtimes=2"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def site(media: Media) -> Iterator[Origin]:
    """The origin of ``server``."""
    with Origin(media) as found:
        yield found


@pytest.fixture(scope="module")
def server(site: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server for the tests that leave it alive; each works with jobs of its own."""
    with Program(tmp_path_factory.mktemp("shared"), allowed_endpoints=site.endpoint) as found:
        yield found


def add(server: Program, url: str, *options: str) -> str:
    """Add a link as a user does; return the id that was printed."""
    job_id, state, name = told(on_server(server, "add", url, *options)).split(maxsplit=2)
    assert (len(job_id), name.strip().endswith(url)) == (32, True), (state, name)
    return job_id


def shown(server: Program, job_id: str) -> dict[str, Any]:
    """Return a job as ``show --json`` gives it."""
    [job] = json.loads(told(on_server(server, "show", job_id, "--json")))
    found: dict[str, Any] = job
    return found


def test_walk_1_a_link_becomes_a_file_in_the_folder(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    job_id = add(server, origin.url("small.mp4"))
    server.wait_done(job_id)
    assert "state     done" in told(on_server(server, "show", job_id))
    assert "file      small.mp4 (371" in told(on_server(server, "show", job_id))
    assert sha256(server.downloads / "small.mp4") == sha256(media.small)
    listed = told(on_server(server, "list")).splitlines()
    assert listed[0].split() == ["id", "state", "done", "size", "speed", "left", "title"]
    assert listed[1].split()[:4] == [job_id[:8], "done", "100", "%"]


def test_walk_2_pause_stops_and_resume_goes_on_from_there(lend: Lend, origin: Origin, media: Media) -> None:
    server = lend()
    job_id = add(server, origin.url("big.mp4", SLOW))
    server.wait_bytes(job_id, 8 * MEGABYTE)
    assert told(on_server(server, "pause", job_id[:8])).startswith(f"{job_id}  ")
    server.wait_state(job_id, "paused", seconds=3)
    job = shown(server, job_id)
    assert job["progress"]["downloaded_bytes"] >= 8 * MEGABYTE
    assert job["allowed_actions"] == ["resume", "cancel"]
    assert "may be    resumed, canceled" in told(on_server(server, "show", job_id))
    wait_until(lambda: len(origin.requests("big.mp4")) >= 2, "the origin to see the line closed", 5)
    [folder] = server.work_folders()
    kept = sum(path.stat().st_size for path in folder.rglob("*.part"))

    told(on_server(server, "resume", job_id[:8]))
    assert sha256(server.file_of(server.wait_done(job_id))) == sha256(media.big)
    assert f"bytes={kept - 1}-" in {seen.range for seen in origin.requests("big.mp4")}


def test_walk_3_a_job_is_still_there_by_its_id_after_the_server_was_killed(
    lend: Lend, origin: Origin, media: Media
) -> None:
    server = lend()
    job_id = add(server, origin.url("big.mp4", SLOW))
    server.wait_bytes(job_id, 2 * MEGABYTE)
    server.kill()
    assert one_line(on_server(server, "show", job_id), 3).startswith(f"No server at {server.url}: ")
    server.start()
    assert shown(server, job_id)["state"] in {"queued", "extracting", "downloading"}
    assert sha256(server.file_of(server.wait_done(job_id))) == sha256(media.big)


def test_walk_4_cancel_stops_the_download_and_removes_its_folder(lend: Lend, origin: Origin) -> None:
    server = lend()
    job_id = add(server, origin.url("big.mp4", SLOW))
    server.wait_bytes(job_id, 2 * MEGABYTE)
    told(on_server(server, "cancel", job_id))
    server.wait_state(job_id, "canceled", seconds=3)
    assert server.work_folders() == []
    assert server.published() == []

    told(on_server(server, "retry", job_id))
    server.wait_bytes(job_id, MEGABYTE)
    assert told(on_server(server, "remove", job_id)) == f"Removed {job_id}\n"
    assert told(on_server(server, "list")) == "No jobs.\n"
    assert server.work_folders() == []


def test_files_stay_when_a_job_is_removed_unless_asked(server: Program, site: Origin) -> None:
    for name in ("kept.mp4", "gone.mp4"):
        site.replace(name, site.media.small)
    kept, gone = add(server, site.url("kept.mp4")), add(server, site.url("gone.mp4"), "--preset", "480p")
    for job_id in (kept, gone):
        server.wait_done(job_id)
    told(on_server(server, "remove", kept))
    told(on_server(server, "remove", gone, "--files"))
    assert "kept.mp4" in server.published()
    assert "gone.mp4" not in server.published()


def test_every_command_speaks_json(server: Program, site: Origin) -> None:
    [job] = json.loads(told(on_server(server, "add", site.url("big.mp4", "rate=500000"), "--paused", "--json")))
    assert job["state"] == "paused"
    job_id = job["id"]
    for command in ("resume", "pause", "cancel", "retry"):
        if command == "retry":
            server.wait_state(job_id, "canceled")
        [answer] = json.loads(told(on_server(server, command, job_id, "--json")))
        assert answer["id"] == job_id
        server.wait_for(job_id, lambda job: job["signal"] is None, "the wish to be obeyed", 5)
    told(on_server(server, "cancel", job_id))
    server.wait_state(job_id, "canceled")
    page = json.loads(told(on_server(server, "list", "--json")))
    assert job_id in {job["id"] for job in page["jobs"]}
    assert sum(page["counts"].values()) >= 1
    assert json.loads(told(on_server(server, "remove", job_id, "--json"))) == [{"id": job_id}]
    assert json.loads(told(on_server(server, "list", "--json", "--state", "canceled")))["jobs"] == []


def test_an_id_may_be_short_but_must_be_one_jobs(server: Program) -> None:
    # Among so many some begin with the same four digits: chance fails once in millions of runs.
    urls = [f"https://media.example/{number}" for number in range(1500)]
    added = server.answer(server.client.post("/jobs", json={"urls": urls, "paused": True}), 201)["jobs"]
    ids = sorted(job["id"] for job in added)
    twins = next((one, two) for one, two in pairwise(ids) if one[:4] == two[:4])
    unique = next(one for one in ids if sum(other.startswith(one[:7]) for other in ids) == 1)

    assert told(on_server(server, "show", unique[:7].upper())).startswith(unique)
    ambiguous = one_line(on_server(server, "show", twins[0][:4]), 1)
    assert "give more digits" in ambiguous
    assert twins[0] in ambiguous or twins[1] in ambiguous
    absent = next(f"{number:07x}" for number in range(1 << 28) if not any(i.startswith(f"{number:07x}") for i in ids))
    assert one_line(on_server(server, "show", absent), 1).startswith(f"{absent}: No job's id begins so.")
    assert one_line(on_server(server, "show", "f" * 32), 1).endswith("(job_not_found)")
    for nonsense in ("abc", "xyz1", "../../health", "a" * 33, "%2e%2e%2f%2e%2e%2fhealth/live/../.."):
        assert "This is no id" in one_line(on_server(server, "show", nonsense), 1)


def test_one_job_that_is_refused_does_not_keep_the_others(server: Program, site: Origin) -> None:
    url = site.url("small.mp4")
    mixed = on_server(server, "add", "ftp://example.org/x", url, "--paused")
    assert mixed.returncode == 1
    assert mixed.stderr.startswith("ftp://example.org/x: ")
    assert mixed.stderr.endswith("(invalid_url)\n")
    job_id = mixed.stdout.split()[0]
    told(on_server(server, "resume", job_id))
    server.wait_done(job_id)

    refused = one_line(on_server(server, "pause", job_id), 1)
    assert refused == f"{job_id}: Cannot pause a job that is done. (invalid_transition)"
    assert one_line(on_server(server, "list", "--state", "lost"), 1).endswith("(invalid_request)")


def test_a_playlist_tells_how_many_of_its_entries_are_done(server: Program, site: Origin) -> None:
    items = "".join(
        f"<item><title>{name}</title><link>{site.url(name)}</link></item>" for name in ("small.mp4", "other.mp4")
    )
    site.page("feed.xml", f'<?xml version="1.0"?><rss version="2.0"><channel><title>F</title>{items}</channel></rss>')
    job_id = add(server, site.url("feed.xml"))
    server.wait_done(job_id)
    [line] = [line for line in told(on_server(server, "list")).splitlines() if line.startswith(job_id[:8])]
    assert "2 of 2" in line


def test_a_title_cannot_drive_the_terminal(server: Program, site: Origin) -> None:
    site.page("page.html", "<title>A \x1b]0;owned\x07\u202etitle [bold]x[/bold]</title><video src='small.mp4'></video>")
    job = server.wait_done(add(server, site.url("page.html")))
    for command in (("list",), ("show", job["id"])):
        printed = told(on_server(server, *command))
        assert "title [bold]x[/bold]" in printed
        assert not set(printed) & {"\x1b", "\x07", "\u202e", "\x9b"}


def test_no_server_is_a_line_that_says_how_to_start_one(place: Program) -> None:
    line = one_line(run(place, "jobs", "list"), 3)
    # Without --server it is where this installation's server would be.
    assert line.startswith(f"No server at {place.url}: ")
    assert "mdl serve" in line
    for nonsense in ("nonsense", "http://", "http://[::1", "ftp://127.0.0.1"):
        assert one_line(run(place, "jobs", "list", "--server", nonsense), 3).startswith(f"No server at {nonsense}: ")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"detail": "x"}', b"\xff"])
def test_another_program_on_the_port_is_told_from_a_server(place: Program, body: bytes) -> None:
    class Stranger(BaseHTTPRequestHandler):
        """Answers everything the same way, as no server of ours does."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        thread = Thread(target=stranger.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            url = f"http://127.0.0.1:{stranger.server_port}"
            for command in (("list",), ("show", "abcd1234")):
                line = one_line(run(place, "jobs", *command, "--server", url), 3)
                assert line.startswith(f"No server at {url}: what answers there (200) is no Media Downloader.")
        finally:
            stranger.shutdown()
            thread.join()


def test_a_list_that_is_cut_says_so(server: Program, site: Origin) -> None:
    for number in range(2):
        add(server, site.url("small.mp4", f"label{number}"), "--paused")
    lines = told(on_server(server, "list", "--limit", "1", "--state", "paused")).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("There are more")
