"""What a move of jobs between stores means on disk: a mark that keeps programs out, and work folders' names."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from media_downloader.errors import ConfigurationError
from media_downloader.library.durable import sync_folder, write_atomically
from media_downloader.library.workdirs import LOCAL_PREFIX, SHARED_PREFIX

_MARK = Path(".media-downloader") / "moving"
_WORKDIR = re.compile(rf"^(?:{LOCAL_PREFIX}|{SHARED_PREFIX})(([0-9a-f]{{32}})_[0-9a-f]{{8}})$")


def note_move(downloads_dir: Path, target: str) -> None:
    """Keep every server and worker from starting until the move is finished."""
    mark = downloads_dir / _MARK
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, target)


def unfinished_move(downloads_dir: Path) -> str | None:
    """Return where jobs are being moved to; None when no move was begun or the last one was finished."""
    try:
        return (downloads_dir / _MARK).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def forget_move(downloads_dir: Path) -> None:
    """Let servers and workers start again."""
    (downloads_dir / _MARK).unlink(missing_ok=True)


def refuse_while_moving(downloads_dir: Path) -> None:
    """Raise ``ConfigurationError`` while some jobs may be in two stores: whoever ran them would run them twice."""
    target = unfinished_move(downloads_dir)
    if target is not None:
        raise ConfigurationError(
            f"Jobs are being moved to {target}, or that was cut off. Once no such move runs any more, finish it with: "
            f"media-downloader migrate-jobs --to {target}"
        )


def adopted_name(name: str | None, prefix: str) -> str | None:
    """Return a work folder's name as it is where folders have the prefix."""
    match = _WORKDIR.match(name or "")
    return name if match is None else prefix + match.group(1)


def workdir_owners(work_dir: Path, prefix: str) -> set[str]:
    """Return the ids of the jobs that have a work folder with the prefix."""
    with os.scandir(work_dir) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    matches = (_WORKDIR.match(name) for name in names if name.startswith(prefix))
    return {match.group(2) for match in matches if match is not None}


def adopt_workdirs(work_dir: Path, job_ids: Collection[str], prefix: str) -> int:
    """Give all work folders of jobs the prefix, durably; return how many have it now. Repeating it changes nothing.

    They are found by the job's id, not by the name that the store knows: a crash may have left another one.
    """
    found = 0
    with os.scandir(work_dir) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        match = _WORKDIR.match(name)
        if match is None or match.group(2) not in job_ids:
            continue
        found += 1
        if name != prefix + match.group(1):
            (work_dir / name).rename(work_dir / (prefix + match.group(1)))
    sync_folder(work_dir)
    return found
