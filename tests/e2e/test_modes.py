"""Which mode a server takes, and that it says so."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.origin.server import Origin
from tests.program import Program, free_port
from tests.redis_server import RedisServer

pytestmark = pytest.mark.e2e

Start = Callable[..., Program]


def test_without_an_answer_from_redis_a_server_runs_alone_and_says_so(program: Start, origin: Origin) -> None:
    server = program(redis_url=f"redis://:geheim@127.0.0.1:{free_port()}/0")
    health = server.answer(server.client.get("/health"))
    assert (health["status"], health["mode"]) == ("degraded", "local")
    [problem] = [told for told in health["problems"] if "Redis" in told]
    assert "jobs that live in Redis are neither shown nor run" in problem
    assert "falling back to this server alone" in server.log_file.read_text()
    server.wait_done(server.add(origin.url("small.mp4"))["id"])
    assert "geheim" not in server.log_file.read_text() + str(health)


def test_with_an_answer_jobs_live_in_redis(program: Start, own_redis: RedisServer) -> None:
    server = program(redis_url=own_redis.tcp_url)
    health = server.answer(server.client.get("/health"))
    assert health["mode"] == "celery"
    assert any("No worker runs" in told for told in health["problems"])
    job_id = server.add("http://93.184.216.34/a.mp4", paused=True)["id"]
    with own_redis.client() as client:
        assert client.hget(f"job:{job_id}", "state") == "paused"


def test_a_redis_that_refuses_is_no_reason_to_run_alone(tmp_path: Path) -> None:
    """Jobs would be accepted that nobody else ever sees, because of a wrong word in an address."""
    with RedisServer(requirepass="secret") as locked:
        program = Program(tmp_path / "program", redis_url=locked.tcp_url)
        program.folder.mkdir()
        command = [sys.executable, "-m", "media_downloader", "serve"]
        environment = program.environment()
        ended = subprocess.run(
            command, env=environment, cwd=program.folder, capture_output=True, text=True, check=False, timeout=60
        )
    assert ended.returncode == 2
    assert "Redis asks for a password" in ended.stderr.splitlines()[-1]
