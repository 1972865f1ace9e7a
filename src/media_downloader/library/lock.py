"""Says whose a folder is: a lock that goes with its process, whatever ended that."""

import errno
import fcntl
import os
from pathlib import Path


class FolderLock:
    """One lock file. No process that is started from here inherits it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock if nobody has it; say whether it is ours now."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EACCES}:
                os.close(descriptor)
                return False
            # A filesystem without locks keeps nobody from working; it only cannot tell two programs apart.
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    def holder(self) -> str:
        """Return " (process 12)" for whoever has the lock, or nothing when it cannot be told."""
        try:
            text = self._path.read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""
        return f" (process {text})" if text.isdigit() else ""

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
