"""What is to be copied or deleted is noted until it is done, once however many programs see it."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from media_downloader.library import SHARED_PREFIX, Library
from media_downloader.library.outbox import STALE_SECONDS, Outbox, Pending

JOB = "a" * 32
FILES = [{"name": "a/b.mp4", "type": "video/mp4", "object_key": None}]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path, prefix=SHARED_PREFIX)
    made.open()
    made.begin_outbox()
    return made


def other_program(library: Library) -> Outbox:
    """Return the outbox of another program that shares the folder."""
    other = Library(library.downloads_dir, prefix=SHARED_PREFIX)
    other.begin_outbox()
    assert other.outbox is not None
    return other.outbox


def publish(library: Library, job_id: str = JOB, content: bytes = b"the file") -> Path:
    """Publish a job's one file, with its record."""
    path = library.downloads_dir / "a" / "b.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    library.write_record(job_id, {"files": FILES})
    return path


@pytest.fixture
def outbox(library: Library) -> Outbox:
    assert library.outbox is not None
    return library.outbox


def test_what_is_published_is_to_be_copied(library: Library, outbox: Outbox) -> None:
    assert outbox.pending() == []
    library.write_record(JOB, {"files": FILES})
    assert outbox.pending() == [Pending(JOB, (("a/b.mp4", "video/mp4"),))]
    outbox.drop(outbox.pending()[0])
    assert outbox.pending() == []


def test_what_was_copied_is_noted_and_the_record_does_not_get_younger(library: Library, outbox: Outbox) -> None:
    publish(library)
    record = library.downloads_dir / ".media-downloader" / "records" / f"{JOB}.json"
    os.utime(record, (1000, 1000))
    library.note_copies(JOB, {"a/b.mp4": "key"})
    assert library.copies(JOB) == {"a/b.mp4": "key"}
    assert record.stat().st_mtime == 1000
    assert json.loads(record.read_text())["files"][0]["size_bytes"] == len(b"the file")


@pytest.mark.parametrize("copied", [False, True])
def test_what_is_deleted_is_deleted_there_too(library: Library, outbox: Outbox, copied: bool) -> None:
    library.write_record(JOB, {"files": FILES})
    begun = outbox.pending()[0]
    if copied:
        library.note_copies(JOB, {"a/b.mp4": "key"})
        outbox.drop(begun)
    library.delete_artifacts(JOB, ["a/b.mp4"])
    assert outbox.pending() == [Pending(JOB, (("a/b.mp4", "video/mp4"),), remove=True)]
    # Whoever was copying meanwhile does not take the new note away.
    outbox.drop(begun)
    assert len(outbox.pending()) == 1


def test_what_was_never_copied_needs_no_deletion(library: Library, outbox: Outbox) -> None:
    library.write_record(JOB, {"files": FILES})
    outbox.drop(outbox.pending()[0])
    library.delete_artifacts(JOB, ["a/b.mp4"])
    assert outbox.pending() == []


def test_one_program_does_it_until_it_is_silent_for_long(library: Library, outbox: Outbox) -> None:
    library.write_record(JOB, {"files": FILES})
    other = other_program(library)
    assert outbox.claim(JOB)
    assert not other.claim(JOB)
    outbox.release(JOB)
    assert other.claim(JOB)
    claim = library.downloads_dir / ".media-downloader" / "outbox" / f"{JOB}.claim"
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(claim, (long_ago, long_ago))
    other.keep(JOB)
    assert not outbox.claim(JOB)
    os.utime(claim, (long_ago, long_ago))
    assert outbox.claim(JOB)
    outbox.release(JOB)
    assert sorted(path.name for path in claim.parent.iterdir()) == [f"{JOB}.json"]


def test_a_problem_is_told_to_all(library: Library, outbox: Outbox) -> None:
    outbox.note_problem("away")
    assert other_program(library).problem() == "away"
    outbox.note_problem(None)
    outbox.note_problem(None)
    assert outbox.problem() is None


def test_the_very_file_that_was_published_is_copied_and_then_deleted(library: Library) -> None:
    path = publish(library)
    file = library.open_to_copy(JOB, "a/b.mp4")
    assert file is not None
    with file:
        assert file.read() == b"the file"
    library.delete_copied(JOB)
    assert path.exists(), "nothing was copied yet"
    library.note_copies(JOB, {"a/b.mp4": "key"})
    library.delete_copied(JOB)
    assert not path.exists()
    assert library.copies(JOB) == {"a/b.mp4": "key"}


def _written_over(path: Path, library: Library) -> None:
    path.write_bytes(b"somebody's own")


def _replaced(path: Path, library: Library) -> None:
    path.unlink()
    path.write_bytes(b"the file")


def _of_another_job(path: Path, library: Library) -> None:
    publish(library, "b" * 32)


def _of_another_job_elsewhere(path: Path, library: Library) -> None:
    library.exists("a/b.mp4", JOB)
    publish(Library(library.downloads_dir, prefix=SHARED_PREFIX), "b" * 32)


def _a_link(path: Path, library: Library) -> None:
    outside = library.downloads_dir.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("change", [_written_over, _replaced, _of_another_job, _of_another_job_elsewhere, _a_link])
def test_what_is_another_file_by_now_is_neither_copied_nor_deleted(
    library: Library, change: Callable[[Path, Library], None]
) -> None:
    path = publish(library)
    library.note_copies(JOB, {"a/b.mp4": "key"})
    change(path, library)
    assert library.open_to_copy(JOB, "a/b.mp4") is None
    library.delete_copied(JOB)
    assert path.exists()
