"""Installations that tests share, one after the other: each test finds the one that it is lent as if it were new."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
import pytest

from tests.cluster import Cluster
from tests.program import Program

Lend = Callable[..., Program]

#: For a test that is to hold with downloads in the server and on workers alike: it is lent one, and then the other.
BOTH_MODES = pytest.mark.parametrize(
    "lend", ["local", pytest.param("celery", marks=pytest.mark.xdist_group("cluster"))], indirect=True
)
#: Whoever asks for some of one line's settings is lent an installation that has all of them.
FURNISHINGS: tuple[Mapping[str, object], ...] = (
    {"socket_timeout_seconds": 2, "max_retries": 2},
    {"job_ttl": 0.2, "retention_days": 3},
)
#: Origins are on ports of their own, and come after the installation has started.
LOOPBACK = {"allowed_endpoints": "127.0.0.1/32"}
Key = tuple[str, frozenset[tuple[str, object]]]


class SharedInstallations:
    """Starts each when it is first asked for and ends them all together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[Key, Program | Cluster] = {}
        self._numbers = itertools.count()

    def lend(self, mode: str, asked: Mapping[str, object]) -> Program:
        """Return the server of an installation that has these settings, empty."""
        furnishing = next((known for known in FURNISHINGS if asked.items() <= known.items()), asked)
        key = (mode, frozenset(furnishing.items()))
        if key not in self._started:
            self._started[key] = self._start(mode, {**LOOPBACK, **furnishing})
        return _server(self._started[key])

    def take_back(self, lent: Program) -> None:
        """Empty it for the next test; one that cannot be emptied is ended, so that only this test fails."""
        try:
            lent.clear()
        except (AssertionError, httpx2.HTTPError):
            [key] = [key for key, known in self._started.items() if _server(known) is lent]
            self._started.pop(key).close()
            raise

    def close(self) -> None:
        """End them; nothing may be left."""
        for one in self._started.values():
            one.close()

    def _start(self, mode: str, settings: Mapping[str, object]) -> Program | Cluster:
        folder = self._folder / f"installation-{next(self._numbers)}-{mode}"
        made = Cluster(folder, **settings) if mode == "celery" else Program(folder, **settings)  # type: ignore[arg-type]
        try:
            return made.__enter__()
        except AssertionError:
            made.close()
            raise


def _server(installation: Program | Cluster) -> Program:
    return installation.server if isinstance(installation, Cluster) else installation
