"""The README's lines, run as they stand: only links, the port and the folder of the commands are put in their place."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import ROOT, Program

Start = Callable[..., Program]

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = "https://example.org/video.mp4"
#: Twelve seconds for the big file, so that five seconds are in its middle.
SLOW = "rate=4000000"
MEGABYTE = 1_000_000


def block(first_words: str, language: str = "sh") -> str:
    """Return the one code block that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    [found] = [text for text in blocks if text.startswith(first_words)]
    return str(found)


def walks(text: str) -> tuple[str, list[str]]:
    """Return what comes before the first walk, and each walk."""
    before, *found = re.split(r"^(?=# \d\. )", text, flags=re.MULTILINE)
    assert [walk[:5] for walk in found] == ["# 1. ", "# 2. ", "# 3. ", "# 4. "]
    return before, found


class Shell:
    """A bash that a reader pastes lines into."""

    def __init__(self, server: Program) -> None:
        self._server = server
        self.folder = server.folder / "reader"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._process = subprocess.Popen(
            ["bash"],
            env=self._server.environment(),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def paste(self, text: str) -> str:
        """Run the lines and return what they print; the last one must succeed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        text = text.replace("http://127.0.0.1:8000", self._server.url)
        text = text.replace("$PWD/.venv/bin", str(Path(sys.executable).parent))
        self._process.stdin.write(f"{text}\necho; echo end-of-paste $?\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line.startswith("end-of-paste "):
                assert line == "end-of-paste 0\n", printed
                return printed
            printed += line
        raise AssertionError(f"bash ended: {printed}")


@pytest.fixture
def slow(origin: Origin) -> str:
    """The line that puts a link of the origin in the place of the README's example."""
    return f"url='{origin.url('big.mp4', SLOW)}'"


def newest(server: Program) -> dict[str, object]:
    """Return the job that was added last."""
    job: dict[str, object] = server.client.get("/jobs").json()["jobs"][0]
    return job


@pytest.mark.e2e
def test_the_walks_by_curl_do_what_they_say(program: Start, origin: Origin, media: Media, slow: str) -> None:
    server = program()
    before, (first, second, third, fourth) = walks(block("server="))
    assert f"url='{EXAMPLE}'" in before
    with Shell(server) as shell:
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
        assert resumed["progress"]["resumed_from_bytes"] > 4 * MEGABYTE

        server.restart()
        [state] = re.findall(r'^    "state": "(\w+)"', shell.paste(third), re.MULTILINE)
        assert state in {"queued", "extracting", "downloading"}
        server.wait_state(job_id, "downloading")
        shell.paste(fourth)
        server.wait_state(job_id, "canceled", seconds=3)
    assert server.work_folders() == []
    assert server.published() == ["small.mp4"]


@pytest.mark.e2e
def test_the_walks_in_a_terminal_do_what_they_say(program: Start, origin: Origin, media: Media, slow: str) -> None:
    server = program()
    before, (first, second, third, fourth) = walks(block("PATH="))
    assert f"url='{EXAMPLE}'" in before
    with Shell(server) as shell:
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
        assert resumed["progress"]["resumed_from_bytes"] > 4 * MEGABYTE

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
    with Shell(place) as shell:
        shell.paste("PATH=$PWD/.venv/bin:$PATH")
        printed = shell.paste(lines.replace(EXAMPLE, origin.url("small.mp4")))
    assert str(place.downloads / "small.mp3") in printed
    assert "Everything that downloads need is here." in printed
    assert place.published() == ["small.mp3"]


@pytest.mark.e2e
def test_the_example_of_options_is_accepted(program: Start, origin: Origin) -> None:
    server = program()
    asked = json.loads(block("{", "json").replace("https://...", origin.url("small.mp4")))
    added = server.answer(server.client.post("/jobs", json=asked), 201)
    assert added["waiting_for"] == "schedule"
    assert added["options"]["subtitles"] == asked["options"]["subtitles"]


def test_the_targets_and_pages_that_the_readme_names_are_there() -> None:
    made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make ([a-z-]+)", block("make run"), re.MULTILINE)
    assert named == ["run", "test"]
    assert set(named) <= set(made)
    pages = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(pages) > 3
    assert [page for page in pages if not (ROOT / page).exists()] == []
