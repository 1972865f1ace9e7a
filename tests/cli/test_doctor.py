"""``mdl doctor`` says what is missing on this machine, how to get it, and whether that keeps downloads from working."""

import ctypes
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, run, told
from tests.program import Program
from tests.redis_server import RedisServer

#: prctl(2), capabilities(7).
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1

Findings = dict[str, dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path) -> Program:
    """An installation without a server."""
    found = Program(tmp_path / "place")
    found.folder.mkdir()
    return found


def examine(place: Program, code: int, **environment: str) -> Findings:
    """Return the findings by name."""
    finished = run(place, "doctor", "--json", environment=environment)
    assert finished.returncode == code, finished.stdout + finished.stderr
    return {finding["name"]: finding for finding in json.loads(finished.stdout)}


def program_that_says(folder: Path, name: str, text: str) -> None:
    """Put a program that tells a version."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(f"#!/bin/sh\necho '{text}'\n")
    script.chmod(0o755)


def test_a_machine_with_everything_is_told_so(place: Program) -> None:
    program_that_says(place.folder / "bin", "ffprobe", "ffprobe version 7.1 Copyright")
    path = f"{place.folder / 'bin'}:{os.environ['PATH']}"
    printed = told(run(place, "doctor", environment={"PATH": path}))
    lines = printed.splitlines()
    assert lines[-1] == "Everything that downloads need is here."
    assert all(line.startswith("ok  ") for line in lines[:-2]), printed
    assert f"{place.folder / 'bin' / 'ffprobe'} (ffprobe 7.1)" in printed
    assert f"{place.downloads} (will be made)" in printed
    assert "REDIS_URL is not set; one machine needs no Redis." in printed
    # Looking changes nothing.
    assert [path.name for path in place.folder.iterdir()] == ["bin"]


def test_without_ffprobe_it_says_what_is_off_and_that_downloads_work(place: Program) -> None:
    empty = place.folder / "empty"
    empty.mkdir()
    finding = examine(place, 0, PATH=str(empty))["ffprobe"]
    assert (finding["ok"], finding["needed"]) == (False, False)
    assert "embedding thumbnails" in finding["detail"]
    assert "apt install ffmpeg" in finding["detail"]


def test_without_ffmpeg_it_says_how_to_get_one_and_fails(place: Program) -> None:
    shadow = place.folder / "shadow"
    shadow.mkdir()
    (shadow / "imageio_ffmpeg.py").write_text("raise ImportError\n")
    environment = {"PATH": str(shadow), "PYTHONPATH": str(shadow)}
    finding = examine(place, 1, **environment)["ffmpeg"]
    assert (finding["ok"], finding["needed"]) == (False, True)
    assert "apt install ffmpeg" in finding["detail"]
    assert "pip install imageio-ffmpeg" in finding["detail"]
    printed = run(place, "doctor", environment=environment)
    assert printed.returncode == 1
    assert printed.stdout.splitlines()[-1] == "Missing: ffmpeg."


def test_a_program_that_is_there_but_does_not_run_counts_as_missing(place: Program) -> None:
    broken = place.folder / "ffmpeg"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o755)
    finding = examine(place, 1, MEDIA_DOWNLOADER_FFMPEG=str(broken))["ffmpeg"]
    assert not finding["ok"]
    assert f"{broken} is there but does not run" in finding["detail"]


def test_a_chosen_ffmpeg_that_is_none_is_named(place: Program) -> None:
    finding = examine(place, 1, MEDIA_DOWNLOADER_FFMPEG="no-such-program")["ffmpeg"]
    assert finding["detail"] == "MEDIA_DOWNLOADER_FFMPEG names no-such-program, which is no program."


@pytest.mark.parametrize(
    ("setting", "name"),
    [("YTDLP_OUTPUT_PATH", "downloads folder"), ("MEDIA_DOWNLOADER_DATA_DIR", "data folder")],
)
def test_a_folder_that_cannot_be_written_is_named_with_its_setting(place: Program, setting: str, name: str) -> None:
    in_the_way = place.folder / "file"
    in_the_way.touch()
    finding = examine(place, 1, **{setting: str(in_the_way / "below")})[name]
    assert (finding["ok"], finding["needed"]) == (False, True)
    assert str(in_the_way) in finding["detail"]
    assert setting in finding["detail"]


def obey_modes() -> None:
    """Give up what lets root write everywhere; nobody else has it."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def test_a_folder_that_only_others_may_write_is_told(place: Program) -> None:
    place.downloads.mkdir(mode=0o500)
    finished = subprocess.run(
        [*COMMAND, "doctor"],
        env=place.environment(),
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=obey_modes,
    )
    assert finished.returncode == 1, finished.stdout
    assert f"{place.downloads} cannot be written. Change its owner (chown)" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "Missing: downloads folder."


def test_too_little_room_is_told(place: Program) -> None:
    finding = examine(place, 1, MEDIA_DOWNLOADER_MIN_FREE_BYTES=str(2**60))["free space"]
    assert not finding["ok"]
    assert "1048576.0 TiB are kept free" in finding["detail"]
    assert "MEDIA_DOWNLOADER_MIN_FREE_BYTES" in finding["detail"]


def test_a_port_that_is_taken_is_told_and_harms_nothing(place: Program) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        finding = examine(place, 0)["port"]
    assert not finding["ok"]
    assert "A server may run already" in finding["detail"]


def test_a_redis_that_answers_is_told_and_left_as_it_is(place: Program, own_redis: RedisServer) -> None:
    for mode, needed in (("auto", False), ("celery", True)):
        finding = examine(place, 0, REDIS_URL=own_redis.tcp_url, MEDIA_DOWNLOADER_MODE=mode)["Redis"]
        assert finding == finding | {"ok": True, "needed": needed, "detail": "it answers, and 0 workers live"}
    with own_redis.client() as client:
        assert client.keys() == []


def test_a_redis_that_cannot_be_used_is_told_and_harms_nobody_who_needs_none(place: Program) -> None:
    with RedisServer(requirepass="s:cret") as locked:
        refused = examine(place, 0, REDIS_URL=locked.tcp_url)["Redis"]
        assert (refused["ok"], refused["needed"]) == (False, False)
        assert "Redis asks for a password" in refused["detail"]
        assert "One machine does not need it" in refused["detail"]
        needed = examine(place, 1, REDIS_URL=locked.tcp_url, MEDIA_DOWNLOADER_MODE="celery")["Redis"]
        assert (needed["ok"], needed["needed"]) == (False, True)
        let_in = locked.tcp_url.replace("redis://", "redis://:s%3Acret@")
        answers = examine(place, 0, REDIS_URL=let_in)["Redis"]
        assert answers["ok"]
        assert "cret" not in str(answers)


def test_many_machines_need_a_redis(place: Program) -> None:
    finding = examine(place, 1, MEDIA_DOWNLOADER_MODE="celery")["Redis"]
    assert finding["detail"] == "REDIS_URL is not set; MEDIA_DOWNLOADER_MODE=celery needs REDIS_URL."


def test_a_redis_that_is_not_there_is_told(place: Program) -> None:
    finding = examine(place, 0, REDIS_URL=f"redis://127.0.0.1:{place.port}/0")["Redis"]
    assert not finding["ok"]
    assert "Connection refused" in finding["detail"]
    assert "redis://host:6379/0" in examine(place, 0, REDIS_URL="nonsense")["Redis"]["detail"]


def test_the_findings_of_this_machine_agree_with_what_runs(place: Program) -> None:
    ffmpeg = examine(place, 0)["ffmpeg"]["detail"].split(" (")[0]
    assert subprocess.run([ffmpeg, "-version"], capture_output=True, check=False).returncode == 0
