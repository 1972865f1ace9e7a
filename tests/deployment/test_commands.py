"""The very commands, environments and health checks of compose.yaml, run as processes of this machine.

Where the machine lets us, they run as in their containers: without any capability, and with nothing to write to but
their volumes. What is put in the place of a container's own are addresses, ports and the places of the volumes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.images import BIN, services, stages
from tests.deployment.processes import Api, Running, answers
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import ROOT, free_port, wait_until
from tests.redis_server import program as redis_program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MEGABYTE = 1_000_000
#: No capability can be got back, and every file that is not below the folder is read-only.
CONFINE = (
    'mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / && cd "$1" && shift && '
    'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"'
)


def confined(folder: Path, command: Sequence[str]) -> list[str]:
    """Return the command as the container would have it."""
    prefix = ["unshare", "--mount", "sh", "-c", CONFINE, "confine", str(folder)]
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
        return [*prefix, *command]
    return list(command)


class Containers:
    """The services of compose.yaml without an engine."""

    def __init__(self, folder: Path, origin: Origin, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.redis_port, self.api_port = free_port(), free_port()
        self.operators = {
            "MEDIA_DOWNLOADER_ALLOWED_ENDPOINTS": origin.endpoint,
            "MEDIA_DOWNLOADER_MIN_FREE_BYTES": "0",
            "MEDIA_DOWNLOADER_LEASE_SECONDS": "3",
        }
        self.downloads = folder / "volumes/downloads"
        self.url = f"http://127.0.0.1:{self.api_port}"

    def here(self, value: str, name: str) -> str:
        """Return a value of a container as it is on this machine."""
        value = value.replace("media-downloader-redis:6379", f"127.0.0.1:{self.redis_port}")
        value = value.replace("/app/downloads", str(self.downloads))
        return value.replace("/app/", f"{self.folder / name}/app/").replace("0.0.0.0", "127.0.0.1")

    def environment(self, service: str, name: str) -> dict[str, str]:
        """Return the environment of the image with that of the service over it."""
        chosen = {**stages(ROOT / "Dockerfile")[-1].environment(), **self.operators}
        chosen |= services()[service]["environment"]
        told = {key: self.here(str(value), name) for key, value in chosen.items()}
        if service == "media-downloader-api":
            told["MEDIA_DOWNLOADER_PORT"] = str(self.api_port)
        temporary = self.folder / name / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return told | {"PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(temporary)}

    def start(self, service: str, name: str) -> Running:
        """Start a service as its image and compose.yaml say."""
        entrypoint: list[str] = json.loads(stages(ROOT / "Dockerfile")[-1].last("ENTRYPOINT"))
        # Without the init, which is only one as a container's first process.
        assert entrypoint[:2] == ["/usr/bin/tini", "--"]
        command = [*entrypoint[2:], *services()[service]["command"]]
        for place in (self.folder / name / "app/data", self.downloads):
            place.mkdir(parents=True, exist_ok=True)
        environment = self.environment(service, name)
        return self.stack.enter_context(Running(confined(self.folder, command), environment, self.folder, name))

    def start_redis(self) -> Running:
        """Start Redis with the flags of compose.yaml."""
        server, *flags = services()["media-downloader-redis"]["command"]
        assert server == "redis-server"
        data = self.folder / "volumes/redis"
        data.mkdir(parents=True, exist_ok=True)
        place = ["--bind", "127.0.0.1", "--port", str(self.redis_port), "--dir", str(data)]
        command = confined(self.folder, [redis_program(), *flags, *place])
        return self.stack.enter_context(Running(command, {}, self.folder, "redis"))

    def check(self, service: str, name: str) -> subprocess.CompletedProcess[str]:
        """Run the health check of a service."""
        own: dict[str, Any] | None = services()[service].get("healthcheck")
        text = stages(ROOT / "Dockerfile")[-1].last("HEALTHCHECK").partition("CMD ")[2]
        command = own["test"][1:] if own else json.loads(text)
        environment = self.environment(service, name)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=15)


@pytest.fixture
def containers(tmp_path: Path, origin: Origin) -> Iterator[Containers]:
    with ExitStack() as stack:
        yield Containers(tmp_path, origin, stack)


def grace(service: str) -> float:
    return float(services()[service]["stop_grace_period"].removesuffix("s"))


def test_they_download_heal_and_end_in_their_time(containers: Containers, origin: Origin, media: Media) -> None:
    unwell = containers.check("media-downloader-api", "api")
    assert (unwell.returncode, unwell.stdout) == (1, "")
    assert unwell.stderr.startswith(f"No server answers at 127.0.0.1:{containers.api_port}")
    redis = containers.start_redis()
    first = containers.start("media-downloader-worker", "worker-1")
    server = containers.start("media-downloader-api", "api")
    wait_until(lambda: answers(containers.url), "the server to answer", 60)
    api = Api(containers.url, containers.downloads, server, containers.folder)
    containers.stack.callback(api.close)
    wait_until(lambda: any(worker["alive"] for worker in api.workers()), "the worker to be heard of", 60)
    for service, name in (("media-downloader-api", "api"), ("media-downloader-worker", "worker-1")):
        well = containers.check(service, name)
        assert (well.returncode, well.stdout, well.stderr) == (0, "ok\n", "")

    done = api.wait_done(str(api.add(origin.url("small.mp4"))["id"]))
    assert sha256(api.file_of(done)) == sha256(media.small)

    # kill -9 of the only worker: its check says so, and another one goes on from its bytes.
    job_id = str(api.add(origin.url("big.mp4", "rate=8000000"))["id"])
    api.wait_bytes(job_id, 4 * MEGABYTE)
    first.end(signal.SIGKILL)
    wait_until(lambda: not any(worker["alive"] for worker in api.workers()), "the worker to be missed", 15)
    unwell = containers.check("media-downloader-worker", "worker-1")
    assert unwell.returncode == 1
    assert unwell.stderr.startswith("No worker of this host")
    second = containers.start("media-downloader-worker", "worker-2")
    done = api.wait_done(job_id, 90)
    assert any(seen.range is not None and seen.status == 206 for seen in origin.requests("big.mp4"))
    assert sha256(api.file_of(done)) == sha256(media.big)
    assert api.published() == ["big.mp4", "small.mp4"]

    # In the middle of a download: each ends long before its engine would kill it, and the job is not lost.
    job_id = str(api.add(origin.url("big.mp4", "rate=1000000"), options={"output_template": "again"})["id"])
    api.wait_bytes(job_id, MEGABYTE)
    for running, service in ((second, "media-downloader-worker"), (server, "media-downloader-api")):
        began = time.monotonic()
        running.end(signal.SIGTERM)
        assert time.monotonic() - began < grace(service) / 2
        if running is second:
            assert api.get(job_id)["state"] == "queued"
    unwell = containers.check("media-downloader-worker", "worker-2")
    assert unwell.returncode == 1
    assert redis.end(signal.SIGTERM) == 0
    unwell = containers.check("media-downloader-worker", "worker-2")
    assert unwell.returncode == 1
    assert "Redis cannot be reached" in unwell.stderr


def test_redis_takes_the_flags_and_its_health_check_asks_it(containers: Containers) -> None:
    import redis

    running = containers.start_redis()
    running.wait_for("Ready to accept connections")
    with redis.Redis(port=containers.redis_port, decode_responses=True) as client:
        memory, kept = client.info("memory"), client.info("persistence")
        assert memory["maxmemory"] == 400 * 1024 * 1024
        assert memory["maxmemory_policy"] == "noeviction"
        assert kept["aof_enabled"] == 1
        for command in (["FLUSHALL"], ["FLUSHDB"], ["CONFIG", "GET", "*"], ["SHUTDOWN"], ["REPLICAOF", "NO", "ONE"]):
            with pytest.raises(redis.ResponseError, match="unknown command"):
                client.execute_command(*command)
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not here: install redis-tools")
    kind, text = services()["media-downloader-redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    ask = ["sh", "-c", text.replace("redis-cli", f"redis-cli -p {containers.redis_port}")]
    assert subprocess.run(ask, check=False).returncode == 0
    running.end(signal.SIGKILL)
    assert subprocess.run(ask, capture_output=True, check=False).returncode != 0


def test_celerys_own_tools_see_the_workers(containers: Containers, origin: Origin) -> None:
    containers.start_redis().wait_for("Ready to accept connections")
    worker = containers.start("media-downloader-worker", "worker-1")
    worker.wait_for("Worker is ready")
    environment = containers.environment("media-downloader-worker", "worker-1")

    def celery(*arguments: str) -> str:
        command = [sys.executable, "-B", "-m", "celery", *arguments, "--json", "--timeout", "5"]
        return subprocess.run(
            command, cwd=ROOT / "deploy", env=environment, capture_output=True, text=True, check=True
        ).stdout

    [answer] = json.loads(celery("inspect", "stats")).values()
    assert answer["pool"]["max-concurrency"] == 3
    assert answer["pool"]["implementation"] == "celery.concurrency.prefork:TaskPool"
    [tasks] = json.loads(celery("inspect", "registered")).values()
    assert "media_downloader.download" in tasks
