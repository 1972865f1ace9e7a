"""A verdict is worth something only when what it tells of survives a power cut."""

import os
import stat
from itertools import count
from pathlib import Path

import pytest

from media_downloader.library import Library
from tests.unit.library.cuts import FILES, NAMES, a_workdir, cut_off


def test_a_verdict_is_believed_only_while_all_of_it_is_there(root: Path, work: Path, way: str) -> None:
    library = Library(root, work)
    library.prepare()
    workdir = a_workdir(work, f"mdjob_{'a' * 32}_00000000")
    files = [{"path": file.path, "size_bytes": (workdir / file.path).stat().st_size} for file in FILES]
    library.keep_verdict(workdir, {"files": files, "name": "A/Title"})
    assert library.read_verdict(workdir) == {"files": files, "name": "A/Title"}
    # Also while its files are on their way to their names, and when they are there.
    for fail_at in count(1):
        step = cut_off(root, workdir, fail_at)
        assert library.read_verdict(workdir) == {"files": files, "name": "A/Title"}, step
        if step is None:
            break
    (root / NAMES[0]).write_text("another video")
    (workdir / "work" / "media.mp4").unlink(missing_ok=True)
    assert library.read_verdict(workdir) is None


def test_a_verdict_is_written_after_its_files_are_durable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workdir = a_workdir(root)
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        assert not (workdir / "verdict.json").exists() or stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files = [{"path": file.path, "size_bytes": (workdir / file.path).stat().st_size} for file in FILES]
    Library(root).keep_verdict(workdir, {"files": files})
    assert {(workdir / file.path).stat().st_ino for file in FILES} <= set(synced)
    assert (workdir / "work").stat().st_ino in synced


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": []}', '{"verdict": {"files": []}}', '{"durable": true, "verdict": {"files": [{}]}}',
             '{"durable": true, "verdict": {"files": [{"path": "../../etc/passwd", "size_bytes": 1}]}}']
)  # fmt: skip
def test_a_verdict_that_is_damaged_or_not_known_to_be_durable_is_none(root: Path, text: str) -> None:
    workdir = a_workdir(root)
    (workdir / "verdict.json").write_text(text)
    assert Library(root).read_verdict(workdir) is None
