"""What the command says of itself, and to whoever mistypes it."""

import subprocess
from pathlib import Path

import pytest

from media_downloader import __version__
from tests.cli.command import COMMAND


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder and with an empty environment."""
    return subprocess.run([*COMMAND, *arguments], env={}, cwd=folder, capture_output=True, text=True, check=False)


def test_the_version_is_one_line(tmp_path: Path) -> None:
    assert call(tmp_path, "--version").stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), ("serve", "worker", "get", "jobs", "doctor", "health")),
        (("--help",), ("serve", "get", "jobs", "doctor", "--version")),
        (("jobs",), ("list", "show", "add", "pause", "resume", "cancel", "retry", "remove")),
        (("get", "--help"), ("Ctrl-C pauses", "--preset", "--format", "--subs", "--downloads")),
        (("serve", "--help"), ("--host", "--port", "--downloads", "--data")),
        (("migrate-jobs", "--help"), ("--to", "redis", "sqlite", "--dry-run", "Stop every server and worker first")),
        (("jobs", "list", "--help"), ("--server", "--json", "--state")),
    ],
)
def test_help_names_what_there_is(tmp_path: Path, arguments: tuple[str, ...], named: tuple[str, ...]) -> None:
    helped = call(tmp_path, *arguments)
    assert helped.returncode == (0 if "--help" in arguments else 2)
    text = helped.stdout + helped.stderr
    assert [word for word in named if word not in text] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("fetch",), "No such command 'fetch'"),
        (("jobs", "stop", "abcd"), "No such command 'stop'"),
        (("get",), "Missing argument 'URL...'"),
        (("get", "--quality", "best", "http://x.example/"), "No such option: --quality"),
        (("serve", "--port", "many"), "'--port'"),
        (("jobs", "list", "--limit", "0"), "greater than or equal to 1"),
    ],
)
def test_a_mistyped_command_is_told_and_changes_nothing(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    mistyped = call(tmp_path, *arguments)
    assert mistyped.returncode == 2
    assert named in mistyped.stderr
    assert "Traceback" not in mistyped.stderr
    assert mistyped.stdout == ""
    assert list(tmp_path.iterdir()) == []
