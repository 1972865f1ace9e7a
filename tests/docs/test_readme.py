"""The README's lines, run as they stand: only links, the port and the folder of the commands are put in their place."""

import json
import re
from pathlib import Path

import pytest

from tests.docs.reader import EXAMPLE, README, Shell, block, walks
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import ROOT, Program
from tests.shared import BOTH_MODES, Lend

#: Most of a minute for the big file: workers go on with it while their server is killed and started again.
SLOW = "rate=1000000"
MEGABYTE = 1_000_000


def shell_at(server: Program, folder: Path) -> Shell:
    """Return a shell whose lines reach this server."""
    return Shell(folder, server.environment(), {"http://127.0.0.1:8000": server.url})


@pytest.fixture
def slow(origin: Origin) -> str:
    """The line that puts a link of the origin in the place of the README's example."""
    return f"url='{origin.url('big.mp4', SLOW)}'"


def newest(server: Program) -> dict[str, object]:
    """Return the job that was added last."""
    job: dict[str, object] = server.client.get("/jobs").json()["jobs"][0]
    return job


@pytest.mark.e2e
@BOTH_MODES
def test_the_walks_by_curl_do_what_they_say(
    lend: Lend, origin: Origin, media: Media, slow: str, tmp_path: Path
) -> None:
    server = lend()
    before, (first, second, third, fourth) = walks(block("server="))
    assert f"url='{EXAMPLE}'" in before
    with shell_at(server, tmp_path) as shell:
        shell.paste(before)
        shell.paste(f"url='{origin.url('small.mp4', 'rate=200000')}'")
        watched = shell.paste(first)
        assert "event: progress" in watched
        assert sha256(shell.folder / "small.mp4") == sha256(media.small)
        assert sha256(server.downloads / "small.mp4") == sha256(media.small)

        shell.paste(slow)
        told = shell.paste(second)
        assert '"state": "paused"' in told
        job_id = str(newest(server)["id"])
        resumed = server.wait_for(job_id, lambda job: job["progress"]["resumed_from_bytes"] > 0, "a resume")
        assert resumed["progress"]["resumed_from_bytes"] > MEGABYTE

        server.restart()
        [state] = re.findall(r'^    "state": "(\w+)"', shell.paste(third), re.MULTILINE)
        assert state in {"queued", "extracting", "downloading"}
        server.wait_state(job_id, "downloading")
        shell.paste(fourth)
        server.wait_state(job_id, "canceled", seconds=3)
    assert server.work_folders() == []
    assert server.published() == ["small.mp4"]


@pytest.mark.e2e
@BOTH_MODES
def test_the_walks_in_a_terminal_do_what_they_say(
    lend: Lend, origin: Origin, media: Media, slow: str, tmp_path: Path
) -> None:
    server = lend()
    before, (first, second, third, fourth) = walks(block("PATH="))
    assert f"url='{EXAMPLE}'" in before
    with shell_at(server, tmp_path) as shell:
        shell.paste(before)
        shell.paste(f"url='{origin.url('small.mp4')}'")
        listed = shell.paste(first)
        job_id = str(newest(server)["id"])
        assert job_id[:8] in listed
        server.wait_done(job_id)
        assert sha256(server.downloads / "small.mp4") == sha256(media.small)

        shell.paste(slow)
        assert "  state     paused\n" in shell.paste(second)
        job_id = str(newest(server)["id"])
        resumed = server.wait_for(job_id, lambda job: job["progress"]["resumed_from_bytes"] > 0, "a resume")
        assert resumed["progress"]["resumed_from_bytes"] > MEGABYTE

        server.restart()
        assert re.search(r"^  state     (queued|extracting|downloading)", shell.paste(third), re.MULTILINE)
        server.wait_state(job_id, "downloading")
        shell.paste(fourth)
        server.wait_state(job_id, "canceled", seconds=3)
    assert server.work_folders() == []
    assert server.published() == ["small.mp4"]


@pytest.mark.e2e
def test_the_commands_without_a_server_do_what_they_say(tmp_path: Path, origin: Origin) -> None:
    place = Program(tmp_path / "place", allowed_endpoints=origin.endpoint)
    place.folder.mkdir()
    lines = block("mdl get")
    assert EXAMPLE in lines
    with shell_at(place, tmp_path) as shell:
        shell.paste("PATH=$PWD/.venv/bin:$PATH")
        printed = shell.paste(lines.replace(EXAMPLE, origin.url("small.mp4")))
    assert str(place.downloads / "small.mp3") in printed
    assert "Everything that downloads need is here." in printed
    assert place.published() == ["small.mp3"]


@pytest.mark.e2e
def test_the_example_of_options_is_accepted(lend: Lend, origin: Origin) -> None:
    server = lend()
    asked = json.loads(block("{", "json").replace("https://...", origin.url("small.mp4")))
    added = server.answer(server.client.post("/jobs", json=asked), 201)
    assert added["waiting_for"] == "schedule"
    assert added["options"]["subtitles"] == asked["options"]["subtitles"]


def test_the_targets_and_pages_that_the_readme_names_are_there() -> None:
    made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make ([a-z-]+)", block("make run"), re.MULTILINE)
    assert named == ["run", "test", "cluster"]
    assert set(named) <= set(made)
    pages = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(pages) > 3
    assert [page for page in pages if not (ROOT / page).exists()] == []
