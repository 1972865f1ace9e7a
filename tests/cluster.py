"""A cluster on this machine: a Redis of the tests' own, API processes and workers as real processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.program import Program, alive, descendants, wait_until
from tests.redis_server import RedisServer

#: A worker imports Celery and yt-dlp; the machine may be busy.
READY_SECONDS = 60.0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class WorkerProcess:
    """One `media-downloader worker` and all that is below it."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        command: Sequence[str] = ("media_downloader", "worker"),
        through: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        #: A command that becomes the worker, elsewhere: nsenter.
        self._through = through
        self._environment = environment
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: set[int] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> Self:
        """Start it; `Cluster.wait_workers` waits until it is ready."""
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._through, sys.executable, "-m", *self._command],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def below_now(self) -> set[int]:
        """Return every process below the worker's own."""
        assert self.process is not None
        return descendants(self.process.pid)

    def below(self) -> set[int]:
        """Return the same and remember them: they must be gone in the end."""
        assert self.process is not None
        found = self.below_now()
        self._seen |= {self.process.pid, *found}
        return found

    def pool_pids(self) -> list[int]:
        """Return the processes of the pool: children of the worker's own process that are Celery's."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def downloads(self) -> set[int]:
        """Return the download processes: what zygotes have forked, and what that has started."""
        zygotes = {pid for pid in self.below() if b"downloader.zygote" in _command(pid)}
        return {below for pid in zygotes for below in descendants(pid)}

    def kill(self, *, with_pool: bool = True) -> None:
        """kill -9 of the worker's own process, and of its pool."""
        assert self.process is not None
        self.below()
        for pid in (self.process.pid, *(self.pool_pids() if with_pool else ())):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    def ask_to_end(self) -> None:
        """SIGTERM, and no waiting."""
        assert self.process is not None
        self.below()
        self.process.send_signal(signal.SIGTERM)

    def terminate(self) -> float:
        """SIGTERM; return the seconds it took."""
        import time

        assert self.process is not None
        self.below()
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return time.monotonic() - began

    @property
    def id(self) -> str:
        """The id under which it is known; "" before it is ready."""
        found = re.search(r'"worker": "([^"]+)"', self.log())
        return found[1] if found else ""

    def log(self) -> str:
        """Return what the worker has logged."""
        path = self.folder / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End it in order and see that nothing is left of it."""
        if self.process is not None and self.process.poll() is None:
            self.terminate()
        self.wait_gone(5)

    def wait_gone(self, seconds: float) -> None:
        """Wait until nothing is left of it."""
        wait_until(lambda: not any(alive(pid) for pid in self._seen), "every process of the worker to be gone", seconds)


class Cluster:
    """Its first API process is used like any other server; more of them and workers come and go."""

    def __init__(
        self, folder: Path, workers: int = 1, slots: int = 2, redis: RedisServer | None = None, **settings: object
    ) -> None:
        self.redis = redis or RedisServer(appendonly="yes", appendfsync="always").start()
        self.folder = folder
        shared = {"downloads": folder / "shared", "mode": "celery", "redis_url": self.redis.tcp_url, **settings}
        self._settings = shared
        self._slots = slots
        self.server = Program(folder / "api-0", **shared)
        self.servers = [self.server]
        self.workers: list[WorkerProcess] = []
        self._first_workers = workers

    def __enter__(self) -> Self:
        self.server.start()
        for _ in range(self._first_workers):
            self.add_worker()
        self.wait_workers(self._first_workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_server(self, **settings: object) -> Program:
        """Start another API process, with settings of its own over those of all."""
        server = Program(self.folder / f"api-{len(self.servers)}", **(self._settings | settings))
        self.servers.append(server)
        server.start()
        return server

    def add_worker(self, through: Sequence[str] = (), **environment: str) -> WorkerProcess:
        """Start another worker."""
        number = len(self.workers)
        chosen = self.server.environment() | {
            "MEDIA_DOWNLOADER_DATA_DIR": str(self.folder / f"worker-{number}" / "data"),
            "CELERY_WORKER_CONCURRENCY": str(self._slots),
            **environment,
        }
        worker = WorkerProcess(self.folder / f"worker-{number}", chosen, through=through).start()
        self.workers.append(worker)
        self.server.elsewhere = lambda: set().union(*map(WorkerProcess.below_now, self.workers))
        return self.workers[-1]

    def wait_workers(self, count: int) -> None:
        """Wait until so many workers live and are known."""
        try:
            wait_until(lambda: len(self.alive_workers()) == count, f"{count} workers", READY_SECONDS)
        except AssertionError as error:
            logs = "\n".join(worker.log()[-3000:] for worker in self.workers)
            raise AssertionError(f"{error}\n{logs}") from None

    def alive_workers(self) -> list[dict[str, object]]:
        """Return the workers that the API says live."""
        workers = self.server.answer(self.server.client.get("/health"))["workers"]
        return [worker for worker in workers if worker["alive"]]

    def assert_no_ghosts(self, *job_ids: str) -> None:
        """Each job was done once, and nothing is left of its runs: no folder, process, lease, wish or mark."""
        log = "\n".join(worker.log() for worker in self.workers)
        for job_id in job_ids:
            verdicts = [line for line in log.splitlines() if job_id in line and '"state": "done"' in line]
            assert len(verdicts) == 1, verdicts
        wait_until(lambda: not self.ghosts(), "nothing to be left of what ran", 15)

    def ghosts(self) -> list[str]:
        """Name what is left of jobs that run or ran."""
        left = [path.name for pattern in ("md*_*", ".md*_*") for path in self.server.downloads.glob(pattern)]
        counts = {"jobs:leased": "ZCARD", "jobs:running": "ZCARD", "jobs:workdirs": "HLEN"}
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is None:
                left += [f"process {pid}" for pid in worker.downloads()]
                counts[f"media_downloader:worker:{worker.id}:jobs"] = "HLEN"
        with self.redis.client() as client:
            left += [key for key in client.scan_iter("job:*:*") if not key.endswith(":children")]
            left += [key for key, command in counts.items() if client.execute_command(command, key) != 0]
        return left

    def close(self) -> None:
        """End everything; nothing may be left."""
        try:
            for worker in self.workers:
                worker.close()
            for server in self.servers:
                server.close()
        finally:
            self.redis.close()
