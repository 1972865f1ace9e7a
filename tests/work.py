"""What an engine runs in its tests, in this process or in a worker: it waits to be let go and notes what it does."""

import asyncio
import os
from pathlib import Path
from uuid import uuid4

#: Between two looks at what another process may have written.
LOOK_SECONDS = 0.005


class Work:
    """Runs ids until each is let go. Whoever has the same folder sees what has happened, and lets go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._ids: list[str] = []

    async def __call__(self, job_id: str) -> None:
        """Be the runner."""
        self._note("started", job_id)
        try:
            while not self._path("let-go", job_id).exists():  # noqa: ASYNC110 - another process may do it
                await asyncio.sleep(LOOK_SECONDS)
            if self._path("broken", job_id).exists():
                raise RuntimeError("a mistake in a runner")
        finally:
            self._note("ended", job_id)

    # --- for the tests ------------------------------------------------------------------------------------------

    def new(self, *, broken: bool = False) -> str:
        """Return the id of a job; a broken one raises when it is let go."""
        self._ids.append(uuid4().hex)
        if broken:
            self._path("broken", self._ids[-1]).touch()
        return self._ids[-1]

    def let_go(self, *ids: str) -> None:
        """Let these end, or all; those of them that begin later end at once."""
        for job_id in ids or self._ids:
            self._path("let-go", job_id).touch()

    @property
    def started(self) -> list[str]:
        """The ids of this test that have begun, in order, each as often as it has."""
        return self._noted("started")

    @property
    def ended(self) -> list[str]:
        """Those that are over."""
        return self._noted("ended")

    def _note(self, what: str, job_id: str) -> None:
        # One write in append mode: several processes write here.
        descriptor = os.open(self._folder / what, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{job_id}\n".encode())
        os.close(descriptor)

    def _noted(self, what: str) -> list[str]:
        path = self._folder / what
        lines = path.read_text().split() if path.exists() else []
        return [line for line in lines if line in self._ids]

    def _path(self, what: str, job_id: str) -> Path:
        return self._folder / f"{job_id}.{what}"
