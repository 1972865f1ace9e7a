"""The whole program as a user runs it: a real server process, seen through HTTP and /proc."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

ROOT = Path(__file__).parents[1]
#: Generous: the machine may be busy with other tests.
START_SECONDS = 60.0

Job = dict[str, Any]


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes below ``pid``."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            found.add(child)
            todo.append(child)
    return found


def alive(pid: int) -> bool:
    """Say whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def command_line(pid: int) -> bytes:
    """Return what a process was started with; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Program:
    """One installation: its folders stay while its server is started, killed and started again."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.downloads = Path(str(settings.pop("downloads", folder / "downloads")))
        self.data = folder / "data"
        self.log_file = folder / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings
        #: Whether downloads run below this server and end with it; in a cluster they run below the workers.
        self.runs_jobs = settings.get("mode") != "celery"
        #: How the names of its work folders begin.
        self.work_prefix = "mdjob_" if self.runs_jobs else "md_"
        #: Returns the processes of this installation that are not below its server.
        self.elsewhere: Callable[[], set[int]] = set
        self.process: subprocess.Popen[bytes] | None = None
        self.open_client()
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open_client(self) -> None:
        """Connect anew, as a page does that was closed and opened again."""
        self.client = httpx2.Client(base_url=self.url, timeout=30.0, trust_env=False)

    # --- the process --------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Return a clean environment with this installation's settings."""
        keep = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "VIRTUAL_ENV")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        settings = {
            "PORT": self.port,
            "DATA_DIR": self.data,
            "MIN_FREE_BYTES": 0,
            "RETRY_DELAY_SECONDS": 0.2,
            "LOG_FORMAT": "json",
            **{name.upper(): value for name, value in self.settings.items()},
        }
        environment["YTDLP_OUTPUT_PATH"] = str(self.downloads)
        environment |= {f"MEDIA_DOWNLOADER_{name}": str(value) for name, value in settings.items()}
        return environment

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "media_downloader", "serve"],
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"The server ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            try:
                if self.client.get("/health/ready").status_code == 200:
                    self.note_processes()
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"The server did not start:\n{self.log()[-4000:]}")

    def note_processes(self) -> set[int]:
        """Remember every process that belongs to the server now; return the download processes and their helpers."""
        assert self.process is not None
        below = descendants(self.process.pid)
        self._seen |= {self.process.pid, *below}
        return below

    def download_processes(self) -> set[int]:
        """Return what runs jobs and links now, on workers too: everything below a zygote."""
        zygotes = {pid for pid in self.note_processes() | self.elsewhere() if b".zygote" in command_line(pid)}
        return set().union(*(descendants(pid) for pid in zygotes))

    def kill(self) -> None:
        """kill -9 of the server alone, as a crash would; its port and processes must vanish by themselves."""
        assert self.process is not None
        self.note_processes()
        self.process.kill()
        self.process.wait(timeout=10)

    def terminate(self) -> float:
        """SIGTERM; return the seconds that the server took to end."""
        assert self.process is not None
        self.note_processes()
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return time.monotonic() - began

    def restart(self) -> None:
        """kill -9 and start again."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End the server in order and see that nothing is left of it."""
        if self.process is not None and self.process.poll() is None:
            self.terminate()
        self.client.close()
        self.assert_nothing_left()

    def leftovers(self) -> set[int]:
        """Return processes of the server that are still alive."""
        return {pid for pid in self._seen if alive(pid)}

    def assert_nothing_left(self) -> None:
        """No process outlives the server by more than a moment, and nobody holds its port."""
        wait_until(lambda: not self.leftovers(), "every process of the server to be gone", 5.0)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self.port))

    def log(self) -> str:
        """Return what the server has logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # --- what a user does ---------------------------------------------------------------------------------------

    def add(self, url: str, **more: object) -> Job:
        """POST /jobs with one link."""
        return self.answer(self.client.post("/jobs", json={"url": url, **more}), 201)

    def get(self, job_id: str) -> Job:
        """GET /jobs/{id}."""
        return self.answer(self.client.get(f"/jobs/{job_id}"))

    def act(self, job_id: str, action: str) -> Job:
        """POST /jobs/{id}/{action}."""
        return self.answer(self.client.post(f"/jobs/{job_id}/{action}", json={}))

    @staticmethod
    def answer(response: httpx2.Response, status: int = 200) -> Job:
        """Return the JSON of an answer that has the status that was expected."""
        assert response.status_code == status, f"{response.status_code}: {response.text[:1000]}"
        found: Job = response.json()
        return found

    def wait_for(self, job_id: str, check: Callable[[Job], object], what: str, seconds: float = 60.0) -> Job:
        """Return the job as soon as ``check`` likes it."""
        found: Job = {}

        def look() -> object:
            nonlocal found
            found = self.get(job_id)
            return check(found)

        try:
            wait_until(look, what, seconds)
        except AssertionError as error:
            log = self.client.get(f"/jobs/{job_id}/log").text
            told = json.dumps(found, indent=1)[:3000]
            raise AssertionError(f"{error}\njob: {told}\nlog: {log[-3000:]}\nserver: {self.log()[-2000:]}") from None
        return found

    def wait_state(self, job_id: str, *states: str, seconds: float = 60.0) -> Job:
        """Return the job once it is in one of the states."""
        return self.wait_for(job_id, lambda job: job["state"] in states, f"state {states}", seconds)

    def wait_done(self, job_id: str, seconds: float = 60.0) -> Job:
        """Return the job once it is done; an end in another state fails at once."""
        job = self.wait_state(job_id, "done", "error", "canceled", seconds=seconds)
        assert job["state"] == "done", f"{job['failure']}\n{self.client.get(f'/jobs/{job_id}/log').text[-3000:]}"
        return job

    def wait_bytes(self, job_id: str, at_least: int, seconds: float = 60.0) -> Job:
        """Return the job once it has so many bytes on disk."""
        return self.wait_for(
            job_id,
            lambda job: job["progress"]["downloaded_bytes"] >= at_least or job["state"] in {"done", "error"},
            f"{at_least} bytes",
            seconds,
        )

    def clear(self) -> None:
        """Remove every job with its files, and see that nothing else is left: the next test finds it as it was."""
        self.answer(self.client.post("/queue/resume", json={}))
        while jobs := self.answer(self.client.get("/jobs", params={"limit": 500}))["jobs"]:
            for job in (one for one in jobs if one["parent_id"] is None):
                self.answer(self.client.delete(f"/jobs/{job['id']}", params={"files": True}))
        wait_until(lambda: not self.download_processes(), "every download process to be gone", 5.0)
        assert self.work_folders() == []
        assert self.process is not None
        # Numbers of processes come round again: those that are gone are forgotten, once they are.
        self._seen = {self.process.pid, *descendants(self.process.pid)}
        for path in self.downloads.iterdir():
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif path.name != ".media-downloader":
                shutil.rmtree(path)
        for path in self.downloads.glob(".media-downloader/records/*"):
            path.unlink()

    def file_of(self, job: Job, index: int = 0) -> Path:
        """Return the published file."""
        return self.downloads / str(job["artifacts"][index]["name"])

    def work_folders(self) -> list[Path]:
        """Return the work folders that exist."""
        return sorted(self.downloads.glob(f"{self.work_prefix}*")) if self.downloads.is_dir() else []

    def published(self) -> list[str]:
        """Return the names of all published files."""
        files = (path.relative_to(self.downloads) for path in self.downloads.rglob("*") if path.is_file())
        return sorted(str(path) for path in files if not path.parts[0].startswith((".", self.work_prefix)))

    def events(self, **headers: str) -> Iterator[tuple[str, str, Any]]:
        """Yield (id, event, data) from GET /events until the stream ends."""
        with self.client.stream("GET", "/events", headers=headers) as response:
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line == "" and fields:
                    if "data" in fields:
                        yield fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])
                    fields = {}
                elif line and not line.startswith(":"):
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")


def wait_until(check: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Return once ``check`` is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds:g} s in vain for {what}")
        time.sleep(0.05)
