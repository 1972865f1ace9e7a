"""Programs that an earlier run left at work in a work folder are ended; nobody else's are."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from media_downloader.library import SHARED_PREFIX, Library
from tests.program import alive

WORK = f"mdjob_{'a' * 32}_00000000"
#: A script in ffmpeg's place: what it starts leaves the group, and then it dies with everything above it.
SCRIPT = (
    "import subprocess, sys; child = subprocess.Popen(['sleep', '300'], start_new_session=True,"
    "stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(child.pid, flush=True)"
)


@pytest.fixture
def started() -> Iterator[list[int]]:
    """Process ids that must not outlive the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if alive(pid):
            os.kill(pid, 9)


def leave_in(folder: Path) -> int:
    """Leave a program at work in a folder, with nobody above it and in a group of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    told = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, capture_output=True, text=True, check=True)
    return int(told.stdout)


def test_a_program_that_left_its_group_is_ended_when_the_folder_is_opened(root: Path, started: list[int]) -> None:
    started.append(leave_in(root / WORK / "work"))
    library = Library(root)
    library.open()
    assert not alive(started[0])
    library.close()


def test_a_program_in_a_folder_that_was_renamed_since_is_found_too(root: Path, started: list[int]) -> None:
    started.append(leave_in(root / WORK / "work"))
    (root / WORK).rename(root / WORK.replace("_00000000", "_11111111"))
    library = Library(root)
    library.open()
    assert not alive(started[0])
    library.close()


@pytest.mark.parametrize("folder", ["films", ".", "mdjob_holiday", f"md_{'a' * 32}_00000000", f"films/{WORK}"])
def test_programs_elsewhere_are_left_alone(root: Path, started: list[int], folder: str) -> None:
    started.append(leave_in(root / folder))
    library = Library(root)
    library.open()
    assert alive(started[0])
    library.close()


def test_a_shared_folders_programs_may_be_another_workers(root: Path, started: list[int]) -> None:
    started.append(leave_in(root / f"md_{'a' * 32}_00000000"))
    library = Library(root, prefix=SHARED_PREFIX)
    library.open()
    assert alive(started[0])
    library.close()


def test_who_looks_around_in_a_work_folder_with_a_terminal_is_no_leftover(root: Path, started: list[int]) -> None:
    (root / WORK).mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(root / WORK)
        os.execvp("sh", ["sh", "-c", "echo here; exec sleep 300"])
    started.append(pid)
    assert os.read(terminal, 100).startswith(b"here")
    library = Library(root)
    library.open()
    assert alive(pid)
    library.close()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
