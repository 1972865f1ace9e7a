"""Tells one volume from another: an empty file on it, whose name is the volume's id. No locks, so NFS will do."""

import contextlib
import os
import re
from pathlib import Path
from uuid import uuid4

#: Whoever has the volume open touches its mark more often than that.
IN_USE_SECONDS = 15.0
_MARK = re.compile(r"^volume-([0-9a-f]{32})$")


class VolumeMark:
    """The mark that a folder must bear, once it is known which."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The id of the volume that the folder must be; None before anybody has said so.
        self.expected: str | None = None

    def is_there(self) -> bool:
        """Say whether the folder is the volume that it must be."""
        try:
            # Asked for by its name: a list of the folder may be an old one on NFS.
            return self._folder.is_dir() if self.expected is None else self._path(self.expected).is_file()
        except OSError:
            return False

    def make(self) -> str:
        """Mark the folder with a new id, and return that."""
        volume_id = uuid4().hex
        self._path(volume_id).touch(exist_ok=False)
        return volume_id

    def found(self) -> list[str]:
        """Return the ids of all marks in the folder, as far as it can be looked into."""
        try:
            return sorted(match[1] for path in self._folder.iterdir() if (match := _MARK.match(path.name)))
        except OSError:
            return []

    def keep_only(self, volume_id: str) -> None:
        """Remove all other marks: a store that was tied to one of them must not take the folder for its own."""
        for other in self.found():
            if other != volume_id:
                self._path(other).unlink(missing_ok=True)

    def touch(self) -> None:
        """Show everybody that the volume is in use."""
        if self.expected is not None:
            # Another member's user may own the file.
            with contextlib.suppress(OSError):
                os.utime(self._path(self.expected))

    def is_in_use(self) -> bool:
        """Say whether somebody has the folder open by one of its marks."""
        # Clocks of machines differ: that of the volume tells how old a mark is.
        probe = self._folder / f".mdprobe_{uuid4().hex}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return any(abs(now - self._touched_at(one)) < IN_USE_SECONDS for one in self.found())

    def _touched_at(self, volume_id: str) -> float:
        try:
            # An open file is never told of from NFS' memory.
            with self._path(volume_id).open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return 0.0

    def _path(self, volume_id: str) -> Path:
        return self._folder / f"volume-{volume_id}"
