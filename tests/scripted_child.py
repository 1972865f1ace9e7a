"""What the zygote forks in its tests in place of the downloader: does what the link of its spec says."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from media_downloader.downloader.process_tree import adopt_subprocesses
from media_downloader.downloader.protocol import Notice, Spec, encode


def warm() -> None:
    """There is nothing to import."""


def main(spec: Spec, connection: socket.socket) -> int:
    """Do one thing and end, or wait to be ended."""
    order, _, argument = spec.url.partition(" ")
    match order:
        case "report":
            _say(connection, report())
        case "raw":
            connection.sendall(bytes.fromhex(argument))
        case "make":
            name, content, rest = argument.split(" ")
            work = Path(spec.workdir) / "work"
            work.mkdir(exist_ok=True)
            (work / name).write_bytes(bytes.fromhex(content))
            connection.sendall(bytes.fromhex(rest))
        case "flood":
            connection.sendall(b"x" * int(argument) + b"\n")
        case "die":
            sys.stderr.write("the last thing that was said\n")
            os.kill(os.getpid(), int(argument))
        case "exit":
            return int(argument)
        case "wait":
            _say(connection, {})
            time.sleep(60)
        case "start":
            adopt_subprocesses({})
            # A program that starts a program, as ffmpeg and scripts do.
            started = subprocess.Popen(["sh", "-c", "sleep 60 & echo $! ; wait"], stdout=subprocess.PIPE, text=True)
            assert started.stdout is not None
            _say(connection, {"pids": [started.pid, int(started.stdout.readline())]})
            time.sleep(60)
    return 0


def report() -> dict[str, Any]:
    """Say what this process has been given."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "parent": os.getppid(),
        "environment": dict(os.environ),
        "initial_environment": Path("/proc/self/environ").read_bytes().decode(),
        "files": sorted(str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()),
        "ignored": [int(number) for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, set())],
        "core_bytes": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "file_bytes": resource.getrlimit(resource.RLIMIT_FSIZE)[1],
        "no_new_privileges": status["NoNewPrivs"].strip(),
    }


def _say(connection: socket.socket, facts: dict[str, Any]) -> None:
    connection.sendall(encode(Notice(text=json.dumps(facts))))
