"""Ties a process's life to its parent's, and the programs that it starts to its own."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from media_downloader.downloader import landlock

# prctl(2) options; Linux only.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

#: Open files of a download process: sockets, fragments, pipes. Enough for any real download.
MAX_OPEN_FILES = 1024

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> None:
    if _libc is not None:
        _libc.prctl(option, value, 0, 0, 0)


def die_with_parent(parent_pid: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent ends; ends at once when that happened already.

    The signal follows the thread that forked, so the parent must fork from a thread that lives on (prctl(2)).
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def limit_download_process(max_file_bytes: int | None) -> None:
    """Set what a download process may use. It can never get more rights than it has."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    if max_file_bytes is not None:
        _lower(resource.RLIMIT_FSIZE, max_file_bytes)
        # A write beyond the limit is to fail with EFBIG, which is told, not to kill without a word.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.nice(5)
    # When memory is short, the kernel is to take a download, which resumes, and not the server.
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - one write to the kernel
            file.write("500")
    except OSError:
        return


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (ceiling, ceiling))


def restore_signals() -> None:
    """Give every signal its default meaning and let all of them through: a fork inherits its parent's choices."""
    for number in signal.valid_signals():
        if number not in {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError, RuntimeError):
                continue
    # Python's own choices: a peer that closed a connection is an error to handle, not a reason to die.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def adopt_subprocesses(environment: Mapping[str, str], ruleset: int | None = None) -> None:
    """Make every program that this process starts die with it, with ``environment`` over the usual one.

    ``ruleset`` is what `landlock` gave: a program that cannot be put under it is not started.
    Python's ``subprocess`` is the only way in which yt-dlp starts ffmpeg, deno and others. What is started stays in
    the process group, so that killing the group ends all of it.
    """
    original = subprocess.Popen.__init__
    parent = os.getpid()

    def init(self: "subprocess.Popen[Any]", *args: Any, **kwargs: Any) -> None:
        kwargs["preexec_fn"] = _then(parent, ruleset, kwargs.get("preexec_fn"))
        base = kwargs.get("env")
        kwargs["env"] = {**(os.environ if base is None else base), **environment}
        kwargs["start_new_session"] = False
        original(self, *args, **kwargs)

    subprocess.Popen.__init__ = init  # type: ignore[method-assign]


def _then(parent: int, ruleset: int | None, chosen: Callable[[], Any] | None) -> Callable[[], None]:
    def before_exec() -> None:
        die_with_parent(parent)
        if ruleset is not None:
            landlock.restrict_self(ruleset)
        if chosen is not None:
            chosen()

    return before_exec
