"""The README's walk over many machines, pasted as it stands into a shell beside a running ``make cluster``."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.cluster import Cluster
from tests.docs.reader import EXAMPLE, Shell, block, walks
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import ROOT, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MEGABYTE = 1_000_000
#: Slow enough for what the first two walks do to one download.
SLOW = "rate=2500000,slowtimes=4"


@pytest.fixture
def cluster(tmp_path: Path, origin: Origin) -> Iterator[Cluster]:
    """Start it; Ctrl-C must end all of it."""
    made = Cluster(tmp_path, origin)
    with made.running:
        yield made
    for api in (made.one, made.two):
        api.close()


def shell_beside(cluster: Cluster) -> Shell:
    here = {
        "http://127.0.0.1:8000": cluster.one.url,
        "http://127.0.0.1:8001": cluster.two.url,
        "data/cluster": str(cluster.folder),
    }
    return Shell(cluster.folder.parent, {"PATH": "/usr/bin:/bin"}, here)


def object_of(printed: str) -> dict[str, object]:
    """Return the last JSON object that was printed over several lines."""
    found: dict[str, object] = json.loads(re.findall(r"\{\n.*?\n\}", printed, re.DOTALL)[-1])
    return found


def test_the_walk_over_many_machines_does_what_it_says(cluster: Cluster, origin: Origin, media: Media) -> None:
    one, two = cluster.one, cluster.two
    assert [worker["alive"] for worker in one.workers()] == [True, True]
    # Whatever loads in the workers' processes is loaded when a job is done: a reader is slower than a test.
    for name in ("small.mp4", "audio.m4a"):
        one.wait_done(str(two.add(origin.url(name))["id"]))
    before, (first, second, third, fourth) = walks(block("one="))
    assert f"url='{EXAMPLE}'" in before
    with shell_beside(cluster) as shell:
        shell.paste(before)
        shell.paste(f"url='{origin.url('big.mp4', SLOW)}'")
        paused = object_of(shell.paste(first))
        assert paused["state"] == "paused"
        job_id = str(paused["id"])
        resumed = two.wait_for(job_id, lambda job: job["progress"]["resumed_from_bytes"] > 0, "a resume")
        kept = paused["progress"]
        assert isinstance(kept, dict)
        assert resumed["progress"]["resumed_from_bytes"] > kept["downloaded_bytes"] - MEGABYTE

        printed = shell.paste(second)
        assert '"alive": true' in printed
        assert object_of(printed)["attempt"] == resumed["attempt"] + 1
        shell.paste(third)
        assert sha256(shell.folder / "big.mp4") == sha256(media.big)
        assert "ended by SIGKILL; it is started again" in cluster.running.log()

        shell.paste(f"url='{origin.url('big.mp4', 'rate=1000000')}'")
        canceled = str(json.loads(shell.paste(fourth).strip().splitlines()[-1])["id"])
        one.wait_state(canceled, "canceled", seconds=5)
    wait_until(lambda: one.work_folders() == [], "the work folder to be gone", 5)
    assert one.published() == ["audio.m4a", "big.mp4", "small.mp4"]

    assert cluster.stop() == 0
    assert list(cluster.folder.glob("*.pid")) == []
    for port in cluster.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_the_folder_of_the_walk_is_that_of_the_command() -> None:
    assert 'default=Path("data/cluster")' in (ROOT / "scripts/cluster.py").read_text()
