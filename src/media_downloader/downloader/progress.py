"""Adds up what yt-dlp's hooks say about each file into one figure for the job."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from media_downloader.downloader.problems import TooLarge
from media_downloader.jobs.model import Phase, Progress

#: At most four messages a second.
INTERVAL_SECONDS = 0.25
#: The speed is the mean over about this time.
SMOOTH_SECONDS = 3.0
#: Stands for whatever a live recorder writes, until it says that it has finished.
_RECORDING = ""


class ProgressMeter:
    """Follows all sources of a job. ``say`` is called at most four times a second, and at each change of phase."""

    def __init__(self, say: Callable[[Progress], None], *, max_size_bytes: int | None) -> None:
        self._say = say
        self._max_size_bytes = max_size_bytes
        self._sizes: dict[str, int | None] = {}
        self._phases: dict[str, Phase] = {}
        self._estimates: set[str] = set()
        self._done: dict[str, int] = {}
        self._said_at = float("-inf")
        self._resumed_from = 0
        self._speed: float | None = None
        self._measured: tuple[float, int] | None = None
        self._fragment: tuple[int | None, int | None] = (None, None)
        self._phase: Phase | None = None

    def plan(self, sources: Sequence[tuple[str, int | None, Phase]], present_bytes: int) -> None:
        """Begin with the sources that are about to come: name, announced size, phase; and what is there already."""
        self._sizes = {name: size for name, size, _ in sources}
        self._phases = {name: phase for name, _, phase in sources}
        self._resumed_from = present_bytes

    def resize(self, name: str, size_bytes: int) -> None:
        """Take the exact size of one source."""
        self._sizes[name] = size_bytes
        self._estimates.discard(name)

    def total_bytes(self) -> int | None:
        """Return the size of everything, None while a part of it is unknown."""
        if not self._sizes or any(size is None for size in self._sizes.values()):
            return None
        return sum(size for size in self._sizes.values() if size is not None)

    def received(self, name: str, status: Mapping[str, Any]) -> None:
        """Take a hook's word about one source. Raises ``TooLarge`` once more has come in than may."""
        done = int(status.get("downloaded_bytes") or 0)
        exact, estimate = status.get("total_bytes"), status.get("total_bytes_estimate")
        if exact:
            self._sizes[name] = int(exact)
            self._estimates.discard(name)
        elif estimate:
            self._sizes[name] = max(int(estimate), done)
            self._estimates.add(name)
        if status.get("status") == "finished":
            done = done or int(exact or self._sizes.get(name) or 0)
            self._sizes[name] = done or self._sizes.get(name)
            self._estimates.discard(name)
        was_recorded = self._done.pop(_RECORDING, None) is not None
        self._done[name] = done
        self._fragment = (status.get("fragment_index"), status.get("fragment_count"))
        total = sum(self._done.values())
        if self._max_size_bytes is not None and total > self._max_size_bytes and not was_recorded:
            raise TooLarge(f"More than the allowed {self._max_size_bytes} bytes came in.")
        self._enter(self._phases.get(name))
        self._measure(total)
        self._tell()

    def recorded(self, work_bytes: int) -> None:
        """Take how large a live recording has grown; nobody knows how large it will be."""
        self._sizes = dict.fromkeys(self._sizes)
        self._done = {_RECORDING: work_bytes}
        self._enter(Phase.VIDEO)
        self._measure(work_bytes)
        self._tell()

    def phase(self, phase: Phase) -> None:
        """Note that something else begins, and say so at once."""
        self._enter(phase)
        self._speed, self._measured, self._fragment = None, None, (None, None)
        self._said_at = float("-inf")
        self._tell()

    def _enter(self, phase: Phase | None) -> None:
        if phase is not self._phase:
            self._phase = phase
            self._said_at = float("-inf")

    def _measure(self, total: int) -> None:
        now = time.monotonic()
        if self._measured is None or total < self._measured[1]:
            self._measured = (now, total)
            return
        passed = now - self._measured[0]
        if passed < INTERVAL_SECONDS:
            return
        speed = (total - self._measured[1]) / passed
        weight = min(1.0, passed / SMOOTH_SECONDS)
        self._speed = speed if self._speed is None else self._speed + weight * (speed - self._speed)
        self._measured = (now, total)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._said_at < INTERVAL_SECONDS:
            return
        self._said_at = now
        done, total = sum(self._done.values()), self.total_bytes()
        left = None if total is None else max(0, total - done)
        self._say(
            Progress(
                phase=self._phase,
                percent=None if not total else round(min(100.0, 100.0 * done / total), 2),
                downloaded_bytes=done,
                total_bytes=total,
                total_is_estimate=bool(self._estimates),
                speed_bytes_per_second=None if self._speed is None else round(self._speed, 1),
                eta_seconds=round(left / self._speed, 1) if left is not None and self._speed else None,
                fragment_index=self._fragment[0],
                fragment_count=self._fragment[1],
                resumed_from_bytes=self._resumed_from,
            )
        )
