"""Writing so that what is there is whole, also after a power cut."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4


def write_atomically(path: Path, text: str, *, modified_ns: int | None = None) -> None:
    """Write a small private file so that it is whole or not there, also after a power cut.

    With ``modified_ns`` nobody ever sees it with another time than that.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.new")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if modified_ns is not None:
                os.utime(file.fileno(), ns=(modified_ns, modified_ns))
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def total_bytes(paths: Iterable[Path]) -> int:
    """Return the bytes that files take; one that is gone takes none."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
