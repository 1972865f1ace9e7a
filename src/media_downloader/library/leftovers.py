"""Ends programs of an earlier run that are still at work in a work folder: nobody else may write there."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_PROC = Path("/proc")
#: How long the kernel may take to end them all.
DEATH_SECONDS = 5.0


def end_leftovers(folder: Path, is_work_folder: Callable[[str], bool]) -> int:
    """Kill what works in the work folders below ``folder``; return how many programs that were.

    The kernel ends download processes with their server. What they started ends with them too, but not what that
    started in turn (an ffmpeg that is a script, a program that leaves its group), once the zygote was killed as well.
    All of these were started in a work folder and have no terminal. Whoever looks around in one has a terminal.
    """
    ended: list[int] = []
    for pid in _found(folder, is_work_folder):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            ended.append(handle)
            # The number may be another program's by now: the handle is not.
            if pid in set(_found(folder, is_work_folder, only=pid)):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                log.warning("Ended a program that an earlier run had left in a work folder", pid=pid)
    _await_death(ended)
    return len(ended)


def _found(folder: Path, is_work_folder: Callable[[str], bool], only: int | None = None) -> Iterator[int]:
    root = str(folder.resolve())
    numbers = [str(only)] if only is not None else [entry.name for entry in _PROC.iterdir() if entry.name.isdigit()]
    for number in numbers:
        with contextlib.suppress(OSError, ValueError):
            process = _PROC / number
            if process.stat().st_uid != os.getuid() or int(number) == os.getpid():
                continue
            inside, _, below = str(process.joinpath("cwd").readlink()).partition(f"{root}/")
            if inside == "" and is_work_folder(below.partition("/")[0]) and not _has_terminal(process):
                yield int(number)


def _has_terminal(process: Path) -> bool:
    # proc_pid_stat(5): field 7; the second one, the name, may have anything in it.
    return process.joinpath("stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[4] != "0"


def _await_death(handles: list[int]) -> None:
    deadline = time.monotonic() + DEATH_SECONDS
    for handle in handles:
        gone, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        if not gone:
            log.error("A program that an earlier run had left in a work folder does not die")
        os.close(handle)
