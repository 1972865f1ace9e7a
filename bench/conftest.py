"""Fixtures of the measurements: the same real server and origin as in the tests."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import media, origin, program

__all__ = ["figures", "media", "origin", "program"]

_FIGURES: list[str] = []


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a figure; all of them are printed at the end of the run."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    return lambda told: _FIGURES.append(f"{name}: {told}")


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    terminalreporter.section("figures")
    for line in _FIGURES:
        terminalreporter.line(line)


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_seconds(work: Callable[[], object], times: int) -> float:
    """Return the median over several calls."""
    return sorted(seconds_of(work) for _ in range(times))[times // 2]


def rounds(count: int) -> Iterator[int]:
    """Count rounds of a measurement in pairs, so that a busy machine slows both sides."""
    yield from range(count)
