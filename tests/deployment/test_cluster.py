"""``make cluster``: two servers, two workers and a Redis, from one command to the last process of them."""

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deployment.cluster import Cluster
from tests.deployment.processes import Running
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MEGABYTE = 1_000_000


@pytest.fixture
def clusters() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(clusters: ExitStack, folder: Path, origin: Origin, **environment: str) -> Cluster:
    cluster = Cluster(folder, origin, **environment)
    clusters.enter_context(cluster.running)
    for api in (cluster.one, cluster.two):
        clusters.callback(api.close)
    return cluster


def test_jobs_outlive_it_and_go_on_with_the_next_start(
    tmp_path: Path, clusters: ExitStack, origin: Origin, media: Media
) -> None:
    cluster = start(clusters, tmp_path, origin)
    kept = str(cluster.one.add(origin.url("small.mp4"), paused=True)["id"])
    done = cluster.two.wait_done(str(cluster.one.add(origin.url("audio.m4a"))["id"]))
    assert cluster.stop() == 0

    again = start(clusters, tmp_path, origin)
    assert again.two.get(str(done["id"]))["state"] == "done"
    assert again.two.get(kept)["state"] == "paused"
    again.one.act(kept, "resume")
    assert sha256(again.one.file_of(again.two.wait_done(kept))) == sha256(media.small)
    assert again.stop() == 0


def test_a_kill_9_of_the_whole_cluster_leaves_no_process(tmp_path: Path, clusters: ExitStack, origin: Origin) -> None:
    cluster = start(clusters, tmp_path, origin)
    cluster.one.wait_bytes(str(cluster.one.add(origin.url("big.mp4", "rate=1000000"))["id"]), MEGABYTE)
    assert cluster.running.end(signal.SIGKILL) == -signal.SIGKILL


def test_taken_ports_are_replaced_and_said(tmp_path: Path, clusters: ExitStack, origin: Origin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        port = str(taken.getsockname()[1])
        command = [sys.executable, str(ROOT / "scripts/cluster.py"), "--folder", str(tmp_path / "c"), "--ports", port]
        with Running(command, keep, tmp_path, "cluster") as running:
            shown = re.search(r"API +http://127\.0\.0\.1:(\d+)", running.wait_for("  stop  "))
            assert shown is not None
            assert shown.group(1) != port
            assert running.end(signal.SIGINT) == 0
