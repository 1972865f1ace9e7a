"""Two calls of the kernel that Python does not have: a rename that replaces nothing, and a copy that shares blocks."""

import ctypes
import errno
import fcntl
import os
import sys

# renameat2(2), ioctl_ficlone(2); the numbers are the same on every architecture that Python's wheels are built for.
_RENAME_NOREPLACE = 1
_FICLONE = 0x40049409

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def rename_without_replacing(source: str, target: str, source_folder: int, target_folder: int) -> None:
    """Rename between two open folders. Raises ``FileExistsError`` when the name is taken, by whatever.

    ``OSError`` with EINVAL or ENOSYS says that the filesystem or the kernel cannot do that.
    """
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(source_folder, os.fsencode(source), target_folder, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)


def share_blocks(source: int, target: int) -> bool:
    """Let an empty file have the content of another one, copied when either is written; False where that is not."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
