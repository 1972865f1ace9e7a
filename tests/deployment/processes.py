"""What runs outside of the test's own server: started in a folder, with its output in a file, and seen to its end."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.program import Program, alive, descendants, wait_until


class Running:
    """One process and everything below it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, name: str) -> None:
        self.log_file = folder / f"{name}.log"
        self._seen: set[int] = set()
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end()

    def note_processes(self) -> set[int]:
        """Remember every process that belongs to it now."""
        self._seen |= {self.process.pid, *descendants(self.process.pid)}
        return self._seen

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; return the exit code once nothing is left of it."""
        self.note_processes()
        self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"It did not end:\n{self.log()[-4000:]}") from None
        wait_until(lambda: not any(alive(pid) for pid in self._seen), "every process of it to be gone", 10)
        return code

    def wait_for(self, text: str, seconds: float = 60.0) -> str:
        """Return its output once that contains the text; fail when it ends before."""

        def told() -> bool:
            assert text in self.log() or self.process.poll() is None, self.log()[-4000:]
            return text in self.log()

        try:
            wait_until(told, f"{text!r} in the output", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None
        return self.log()

    def log(self) -> str:
        """Return what it has printed."""
        return self.log_file.read_text(errors="replace")


class Api(Program):
    """A server that something else has started, asked through HTTP as usual."""

    def __init__(self, url: str, downloads: Path, server: Running, folder: Path) -> None:
        super().__init__(folder, downloads=downloads)
        self.client.close()
        self.url = url
        self.log_file = server.log_file
        self.open_client()

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that it knows."""
        found: list[dict[str, Any]] = self.answer(self.client.get("/health"))["workers"]
        return found

    def close(self) -> None:
        """Let go of it; its end is somebody else's matter."""
        self.client.close()

    def work_folders(self) -> list[Path]:
        """Return the work folders that exist, of whichever mode."""
        return sorted([*self.downloads.glob("mdjob_*"), *self.downloads.glob("md_*")])


def answers(url: str) -> bool:
    """Say whether something answers there."""
    try:
        return httpx2.get(f"{url}/health/live", timeout=5, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
