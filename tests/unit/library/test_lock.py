"""A folder belongs to one program at a time, for as long as that lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from media_downloader.errors import ConfigurationError
from media_downloader.library import Library
from media_downloader.library.lock import FolderLock


def test_a_lock_is_taken_once_and_can_be_had_again_after_its_release(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    assert first.take()
    assert first.take()
    assert not second.take()
    assert second.holder() == f" (process {os.getpid()})"
    first.release()
    assert second.take()
    second.release()


def test_a_lock_goes_with_its_process_and_not_with_that_ones_children(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    program = (
        "import subprocess, sys, pathlib; from media_downloader.library.lock import FolderLock;"
        f"print(FolderLock(pathlib.Path({str(lock)!r})).take(), flush=True);"
        "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL);"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "True\n"
    child = int(holder.stdout.readline())
    try:
        # The object that took it was dropped at once, so this also says that a lock outlives its last reference.
        assert not FolderLock(lock).take()
        holder.kill()
        holder.wait(10)
        free = FolderLock(lock)
        assert free.take()
        free.release()
    finally:
        os.kill(child, 9)
        holder.stdin.close()
        holder.stdout.close()


def test_a_downloads_folder_opens_once_and_another_work_folder_in_it_beside_it(tmp_path: Path) -> None:
    server, other = Library(tmp_path), Library(tmp_path)
    get = Library(tmp_path, tmp_path / ".media-downloader" / "get" / "work")
    server.open()
    with pytest.raises(ConfigurationError, match="uses the downloads folder"):
        other.open()
    get.open()
    server.prepare_workdir("a" * 32, None)
    made = get.prepare_workdir("b" * 32, None)
    assert made.parent == get.work_dir
    assert [orphan.job_id for orphan in server.orphaned_workdirs(())] == ["a" * 32]
    assert [orphan.job_id for orphan in get.orphaned_workdirs(())] == ["b" * 32]
    server.close()
    other.open()
    for library in (other, get):
        library.close()
