"""Several hosts: workers in network namespaces of their own, each on a line that can be cut; run in one by the test.

The servers and Redis are in the outer namespace. Only the volume is shared, as a mount would be.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.conftest import right, started
from tests.cluster import Cluster, WorkerProcess
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import wait_until
from tests.redis_server import RedisServer

#: Long enough for a busy machine to end a process within it.
LEASE_SECONDS = 6
#: The address of everything that is in the outer namespace.
CENTRE = "10.77.0.1"
_SLEEP = "import socket, sys, time; socket.sethostname(sys.argv[1]); print(flush=True); time.sleep(1000)"


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Host:
    """A host with a name, an address, and one line."""

    def __init__(self, number: int) -> None:
        self.name = f"host-{number}"
        self._line = f"line{number}"
        command = ["unshare", "--net", "--uts", sys.executable, "-c", _SLEEP, self.name]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        spaces = [f"--{kind}=/proc/{self._process.pid}/ns/{kind}" for kind in ("net", "uts")]
        #: A command put behind it runs on this host.
        self.through = ["nsenter", *spaces, "--"]
        run("ip", "link", "add", self._line, "type", "veth", "peer", "name", "out", "netns", str(self._process.pid))
        run("ip", "address", "add", f"10.77.{number}.1/24", "dev", self._line)
        run("ip", "link", "set", self._line, "up")
        for what in (
            "link set lo up",
            f"address add 10.77.{number}.2/24 dev out",
            "link set out up",
            f"route add default via 10.77.{number}.1",
        ):
            run(*self.through, "ip", *what.split())

    def cut(self) -> None:
        """Let nothing through; nobody is told."""
        run("ip", "link", "set", self._line, "down")

    def heal(self) -> None:
        """Let everything through again."""
        run("ip", "link", "set", self._line, "up")

    def close(self) -> None:
        """End the host; what ran there has ended."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{CENTRE}/32", "dev", "lo")
    with ExitStack() as stack:
        made = [Host(number) for number in range(1, count + 1)]
        for host in made:
            stack.callback(host.close)
        yield made


def scenario(folder: Path, media: Media) -> None:
    """One of two hosts is cut off in the middle of a download and comes back after another has finished it."""
    redis = RedisServer(bind="0.0.0.0", appendonly="yes", **{"protected-mode": "no"}).start()
    with Origin(media, listen=("0.0.0.0", 0)) as origin, hosts(2) as (first, second):
        origin.address = CENTRE
        url = f"redis://{CENTRE}:{redis.port}/0"
        settings = {"redis_url": url, "allowed_endpoints": origin.endpoint, "lease_seconds": LEASE_SECONDS}
        with Cluster(folder, 0, 1, redis, **settings) as many:
            workers = {host.name: many.add_worker(host.through) for host in (first, second)}
            many.wait_workers(2)
            assert {str(worker["host"]) for worker in many.alive_workers()} == set(workers)
            job_id = started(many.server, origin, "rate=4000000,slowtimes=2")
            cut = next(host for host in (first, second) if _runs(workers[host.name], job_id))
            downloading = workers[cut.name].downloads()
            cut.cut()
            began = time.monotonic()
            wait_until(lambda: not downloading & workers[cut.name].downloads(), "its process to end", LEASE_SECONDS)
            many.wait_workers(1)
            assert time.monotonic() - began < 15, "a silent worker is noticed within 15 seconds"
            assert many.server.wait_done(job_id)["attempt"] == 2
            assert not _runs(workers[cut.name], job_id, attempt=2)
            cut.heal()
            many.wait_workers(2)
            right(many, job_id, media)
            _both_work(many, origin)


def _both_work(many: Cluster, origin: Origin) -> None:
    ids = [many.server.add(origin.url("small.mp4", f"rate=150000,{name}"))["id"] for name in ("a", "b")]
    for job_id in ids:
        many.server.wait_done(job_id)
    assert all(any(_runs(worker, job_id) for job_id in ids) for worker in many.workers)


def _runs(worker: WorkerProcess, job_id: str, attempt: int = 1) -> bool:
    return any(
        f"Starting job {job_id}" in line and f'"attempt": {attempt}' in line for line in worker.log().splitlines()
    )


if __name__ == "__main__":
    scenario(Path(sys.argv[1]), Media(Path(sys.argv[2])))
