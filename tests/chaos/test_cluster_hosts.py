"""Workers on several hosts, one of which is cut off and healed: each host is a network namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_egress import UNSHARE, why_impossible
from tests.origin.media import Media
from tests.program import ROOT

pytestmark = pytest.mark.chaos


def test_a_host_is_cut_off_and_healed(media: Media, tmp_path: Path) -> None:
    reason = why_impossible()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    command = [*UNSHARE, sys.executable, "-m", "tests.chaos.hosts_world", str(tmp_path / "cluster"), str(media.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
