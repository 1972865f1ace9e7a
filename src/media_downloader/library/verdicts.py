"""A verified result, noted so that a restart only publishes it; believed only when all of it was made durable."""

import json
import os
from pathlib import Path
from typing import Any

from media_downloader.library.durable import write_atomically
from media_downloader.library.intent import facts_below, is_placed, opened

VERDICT_NAME = "verdict.json"


def keep_verdict(workdir: Path, verdict: dict[str, Any]) -> None:
    """Make the result's files durable, then their names, and only then the note that they are verified.

    So a verdict that is there after a power cut tells of files that are there too, byte for byte.
    """
    for file in verdict["files"]:
        with opened(workdir, file["path"]) as at:
            descriptor = os.open(at.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at.folder)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.fsync(at.folder)
    write_atomically(workdir / VERDICT_NAME, json.dumps({"durable": True, "verdict": verdict}))


def read_verdict(root: Path, workdir: Path) -> dict[str, Any] | None:
    """Return what was noted, if each file is where it was made, or under the name that a publish gave it."""
    try:
        told = json.loads((workdir / VERDICT_NAME).read_text(encoding="utf-8"))
        verdict: dict[str, Any] = told["verdict"]
        sound = told["durable"] is True and all(_is_there(root, workdir, file) for file in verdict["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verdict if sound else None


def _is_there(root: Path, workdir: Path, file: dict[str, Any]) -> bool:
    facts = facts_below(workdir, str(file["path"]))
    if facts is None:
        return is_placed(root, workdir, str(file["path"]))
    size_bytes: int = file["size_bytes"]
    return facts.st_size == size_bytes
