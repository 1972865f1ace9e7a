"""Room on the disk: what is free, what running downloads still need, and whether another one fits."""

import time
from collections.abc import Callable
from dataclasses import dataclass

#: statvfs is asked at most this often.
_FRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Shortage:
    """A download that does not fit."""

    needed_bytes: int
    available_bytes: int


class SpaceLedger:
    """Reserves room for running downloads, so that together they do not fill the disk."""

    def __init__(self, free_bytes: Callable[[], int], min_free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._min_free_bytes = min_free_bytes
        self._reserved: dict[str, int] = {}
        self._seen: tuple[float, int] = (float("-inf"), 0)

    def free_bytes(self) -> int:
        """Return the free bytes, at most a second old."""
        now = time.monotonic()
        if now - self._seen[0] > _FRESH_SECONDS:
            self._seen = (now, self._free_bytes())
        return self._seen[1]

    def is_low(self) -> bool:
        """Say whether less is free than downloads must leave."""
        return self.free_bytes() < self._min_free_bytes

    def reserve(self, job_id: str, needed_bytes: int) -> Shortage | None:
        """Keep room for a job, or return by how much it does not fit beside what is reserved already."""
        self._seen = (float("-inf"), 0)
        others = sum(amount for holder, amount in self._reserved.items() if holder != job_id)
        available = max(0, self.free_bytes() - self._min_free_bytes - others)
        if needed_bytes > available:
            return Shortage(needed_bytes, available)
        self._reserved[job_id] = needed_bytes
        return None

    def update(self, job_id: str, remaining_bytes: int) -> None:
        """Note what a running job still needs; what it has written is no longer free anyway."""
        if job_id in self._reserved:
            self._reserved[job_id] = max(0, remaining_bytes)

    def release(self, job_id: str) -> None:
        """Give back what was kept for a job."""
        self._reserved.pop(job_id, None)
