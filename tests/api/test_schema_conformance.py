"""Schemathesis, on the real server, from the server's own description of itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.origin.server import Origin
from tests.program import ROOT, Program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

HERE = Path(__file__).parent
#: All four phases together take most of a minute on two slow cores.
LONGEST_SECONDS = 170


def test_the_server_does_what_its_schema_says(program: Callable[..., Program], origin: Origin) -> None:
    """Examples, edge cases, random data right and wrong, and chains of requests: every answer is as documented.

    Links never leave loopback: the hooks replace each one just before it is sent. Were one to slip through, the jobs
    would show it.
    """
    server = program(max_retries=0, max_concurrent_downloads=1)
    link = origin.url("small.mp4")
    server.wait_done(server.add(link)["id"])
    # What is added by the hundred waits; chains of requests still let some of it run.
    server.answer(server.client.post("/queue/pause", json={}))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(server.folder),
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_LINK": link,
        "NO_COLOR": "1",
    }
    ran = subprocess.run(
        [*command, "run", f"{server.url}/openapi.json"],
        check=False,
        env=environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2000:]
    assert "22 selected / 23 total" in ran.stdout, ran.stdout[:2000]
    assert "Traceback" not in server.log()
    jobs = server.answer(server.client.get("/jobs", params={"limit": 500}))["jobs"]
    assert jobs
    assert {job["url"] for job in jobs} == {link}
