"""Deleting a job's files deletes the files that it published, and nothing that came in their place."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest

from media_downloader.errors import FileMissing
from media_downloader.library import Library, PublishPlan, SourceFile

FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def library(root: Path) -> Library:
    made = Library(root)
    made.prepare()
    return made


def publish(library: Library, job_id: str, content: str, folder: str = "") -> Path:
    """Publish one file as ``Same.mp4``, with its record."""
    workdir = library.prepare_workdir(job_id, None)
    (workdir / "m.mp4").write_text(content)
    # As yt-dlp does: the time is the server's, the same for the same link.
    os.utime(workdir / "m.mp4", (1_700_000_000, 1_700_000_000))
    plan = PublishPlan((SourceFile("m.mp4", "mp4"),), "Same", PurePosixPath(folder))
    (name,) = library.publish(workdir, plan)
    library.write_record(job_id, {"files": [{"name": name, "size_bytes": len(content)}]})
    library.remove_workdir(workdir.name)
    return library.downloads_dir / name


def names_of(library: Library, path: Path) -> list[str]:
    return [str(path.relative_to(library.downloads_dir))]


def old_jobs(library: Library) -> dict[str, list[str]]:
    later = datetime.now(UTC) + timedelta(days=1)
    return {old.job_id: old.names for old in library.published_before(later)}


def test_the_file_that_was_published_goes_and_its_record_too(library: Library) -> None:
    path = publish(library, FIRST, "one")
    assert old_jobs(library) == {FIRST: names_of(library, path)}
    library.delete_artifacts(FIRST, names_of(library, path))
    assert not path.exists()
    assert old_jobs(library) == {}


@pytest.mark.parametrize("wish", ["serve", "delete"])
def test_what_another_process_publishes_is_known_before_a_file_is_served_or_deleted(root: Path, wish: str) -> None:
    """A worker, or `mdl get`, in the same folder; a mere look may be a second late."""
    ours, others = Library(root), Library(root)
    ours.prepare()
    path = publish(ours, FIRST, "one")
    (name,) = names_of(ours, path)
    assert ours.exists(name, FIRST)
    kept = path.rename(path.with_name("kept.mp4"))
    assert publish(others, SECOND, "one") == path
    # The same inode, as if it had been given out again.
    kept.rename(path)
    if wish == "serve":
        with pytest.raises(FileMissing):
            ours.open_artifact(name, FIRST)
    else:
        ours.delete_artifacts(FIRST, [name])
        assert path.exists()


@pytest.mark.parametrize("content", ["another video", "one"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_another_job_published_under_the_name_stays(
    library: Library, content: str, restarted: bool
) -> None:
    """Also when it is the same link again: then size and time are equal, and the inode may be given out again."""
    path = publish(library, FIRST, "one")
    path.unlink()
    assert publish(library, SECOND, content) == path
    if restarted:
        # A new program has only the records to know it from.
        library = Library(library.downloads_dir)
    assert old_jobs(library)[FIRST] == []
    library.delete_artifacts(FIRST, names_of(library, path))
    assert path.read_text() == content
    assert old_jobs(library) == {SECOND: names_of(library, path)}
    library.delete_artifacts(SECOND, names_of(library, path))
    assert not path.exists()


def test_another_jobs_file_with_everything_equal_is_known_by_its_newer_record(library: Library) -> None:
    path = publish(library, FIRST, "one")
    name = names_of(library, path)[0]
    library.write_record(SECOND, {"files": [{"name": name.upper(), "size_bytes": 3}, {"name": name, "size_bytes": 3}]})
    library.delete_artifacts(FIRST, [name])
    assert path.read_text() == "one"
    library.delete_artifacts(SECOND, [name])
    assert not path.exists()


@pytest.mark.parametrize("change", ["written", "replaced", "link", "folder", "gone"])
def test_what_the_user_put_in_its_place_stays(library: Library, tmp_path: Path, change: str) -> None:
    path = publish(library, FIRST, "one")
    mine = tmp_path / "mine"
    mine.write_text("two")
    if change == "written":
        path.write_text("two")
    else:
        path.unlink()
    if change == "replaced":
        mine.rename(path)
    elif change == "link":
        path.symlink_to(mine)
    elif change == "folder":
        path.mkdir()
    before = os.path.lexists(path)
    library.delete_artifacts(FIRST, names_of(library, path))
    assert os.path.lexists(path) is before
    assert old_jobs(library) == {}


def test_without_a_record_nothing_is_deleted(library: Library) -> None:
    path = publish(library, FIRST, "one")
    (library.downloads_dir / ".media-downloader" / "records" / f"{FIRST}.json").unlink()
    library.delete_artifacts(FIRST, names_of(library, path))
    assert path.read_text() == "one"


def test_names_that_lead_out_delete_nothing(library: Library, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("one")
    name = "../mine"
    library.write_record(FIRST, {"files": [{"name": name, "size_bytes": 3}]})
    library.delete_artifacts(FIRST, [name])
    assert (tmp_path / "mine").exists()


def test_a_record_stays_while_the_disk_of_its_file_is_not_mounted(library: Library) -> None:
    """The file is not gone, so a retention must not forget it; it goes when the disk is there again."""
    disk, folder = library.downloads_dir.parent / "disk", library.downloads_dir / "films"
    disk.mkdir()
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=False).returncode != 0:
        pytest.skip("This machine lets us mount nothing.")
    try:
        subprocess.run(["mount", "--bind", disk, folder], check=True)
        path = publish(library, FIRST, "one", "films")
        subprocess.run(["umount", folder], check=True)
        assert not path.exists()
        assert old_jobs(library) == {}
        subprocess.run(["mount", "--bind", disk, folder], check=True)
        assert old_jobs(library) == {FIRST: names_of(library, path)}
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)
        subprocess.run(["umount", "--lazy", disk], check=True)
