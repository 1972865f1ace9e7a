"""The cluster that ``make cluster`` starts, and both of its servers."""

import os
import signal
import sys
from pathlib import Path

from tests.deployment.processes import Api, Running
from tests.origin.server import Origin
from tests.program import ROOT, free_port


class Cluster:
    """The program that a reader starts, and both of its servers."""

    def __init__(self, folder: Path, origin: Origin, **environment: str) -> None:
        self.folder = folder / "cluster"
        self.ports = [free_port(), free_port()]
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        settings = {
            "MEDIA_DOWNLOADER_ALLOWED_ENDPOINTS": origin.endpoint,
            "MEDIA_DOWNLOADER_MIN_FREE_BYTES": "0",
            "MEDIA_DOWNLOADER_LEASE_SECONDS": "3",
        }
        ports = [str(port) for port in self.ports]
        command = [sys.executable, str(ROOT / "scripts/cluster.py"), "--folder", str(self.folder), "--ports", *ports]
        self.running = Running(command, keep | settings | environment, folder, "cluster")
        self.guide = self.running.wait_for("  stop  ", 90)
        urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.one, self.two = (Api(url, self.folder / "downloads", self.running, folder) for url in urls)

    def pid(self, member: str) -> int:
        """Return the process id of a member."""
        return int((self.folder / f"{member}.pid").read_text())

    def stop(self) -> int:
        """Press Ctrl-C."""
        return self.running.end(signal.SIGINT)
