"""Tells whether the machine went down without warning since the last run."""

import json
import os
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class PowerRecord:
    """A small file that says in which boot of the machine the program ran, and whether it ended in order.

    After a power cut the kernel may not have written what yt-dlp wrote last (yt-dlp never syncs), so the newest
    bytes of work folders are not to be trusted. A crash of the program alone loses nothing that was written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> bool:
        """Note that the program runs; return True when an earlier run was cut off together with the machine."""
        boot_id = _current_boot_id()
        try:
            before = json.loads(self._path.read_text(encoding="utf-8"))
            lost_power = before["boot_id"] != boot_id and not before["ended"]
        except FileNotFoundError:
            lost_power = False
        except (ValueError, KeyError, TypeError):
            lost_power = True
        self._write(boot_id, ended=False)
        return lost_power

    def end(self) -> None:
        """Note that the program ended in order."""
        self._write(_current_boot_id(), ended=True)

    def _write(self, boot_id: str, *, ended: bool) -> None:
        # On the disk before anything else happens: what a power cut takes back would tell of an end in order.
        part = self._path.with_suffix(".new")
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"boot_id": boot_id, "ended": ended}))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _current_boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
