"""The server process stays light: what is heavy is imported by the process that needs it."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_the_api_process_imports_no_yt_dlp_celery_or_redis() -> None:
    program = (
        "import sys, media_downloader.api.server, media_downloader.bootstrap;"
        "print([name for name in ('yt_dlp', 'celery', 'redis', 'imageio_ffmpeg') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


HEAVY = {"yt_dlp", "fastapi", "starlette", "uvicorn", "pydantic", "rich", "structlog", "sqlite3", "imageio_ffmpeg"}


def imported(*arguments: str) -> set[str]:
    """Run the command and return the top-level modules that it imported."""
    command = [sys.executable, "-X", "importtime", "-m", "media_downloader", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    lines = (line.rsplit("|", 1)[1].strip() for line in told.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in lines}


def test_the_command_line_starts_with_nothing_heavy() -> None:
    found = imported("--version")
    assert "typer" in found
    assert found & HEAVY == set()


@pytest.mark.parametrize("command", [("jobs", "list", "--server", "http://127.0.0.1:1"), ("jobs", "list"), ("doctor",)])
def test_looking_at_jobs_or_the_machine_imports_no_server_and_no_yt_dlp(command: tuple[str, ...]) -> None:
    assert imported(*command) & {"yt_dlp", "fastapi", "starlette", "uvicorn"} == set()


def test_a_get_imports_no_web_server_and_leaves_yt_dlp_to_its_download_processes(tmp_path: Path) -> None:
    found = imported("get", "ftp://refused.example/x", "--downloads", str(tmp_path))
    assert "media_downloader" in found
    assert found & {"yt_dlp", "fastapi", "starlette", "uvicorn"} == set()
