"""A publish that is cut off at any step goes on, never replaces a file, and never makes a second copy."""

from pathlib import Path, PurePosixPath

import pytest

from media_downloader.errors import PathEscapesLibrary
from media_downloader.library import Library
from media_downloader.library.publishing import Publisher, PublishPlan, SourceFile

FILES = (SourceFile("work/media.mp4", "mp4"), SourceFile("work/media.en.vtt", "vtt", "en"))


class Cut(Exception):
    """The power went."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads"


def a_workdir(root: Path, name: str = "mdjob_a", content: str = "video") -> Path:
    workdir = root / name
    (workdir / "work").mkdir(parents=True)
    (workdir / "work" / "media.mp4").write_text(content)
    (workdir / "work" / "media.en.vtt").write_text(f"{content} text")
    return workdir


def plan(folder: str = "") -> PublishPlan:
    return PublishPlan(FILES, "A/Title", PurePosixPath(folder))


def visible(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).parts[0].startswith(("mdjob_", ".media"))
    }


def test_a_publish_cut_off_at_every_step_ends_the_same(root: Path, tmp_path: Path) -> None:
    """The loop of SQLite's own tests: fail at step 1, 2, 3... until nothing fails any more."""
    fail_at = 1
    while True:
        workdir = a_workdir(root, f"mdjob_{fail_at}")
        steps = 0

        def step(_: str) -> None:
            nonlocal steps
            steps += 1
            if steps == fail_at:  # noqa: B023 - called within this round
                raise Cut

        try:
            names = Publisher(root, workdir, step).publish(plan())
            cut = False
        except Cut:
            cut = True
            names = Publisher(root, workdir).publish(plan())
        assert visible(root) == {"A⧸Title.mp4": "video", "A⧸Title.en.vtt": "video text"}
        assert names == ["A⧸Title.mp4", "A⧸Title.en.vtt"]
        assert Publisher(root, workdir).publish(plan()) == names
        for name in names:
            (root / name).unlink()
        if not cut:
            break
        fail_at += 1
    assert fail_at > 4


def test_another_jobs_file_is_never_replaced(root: Path) -> None:
    first = Publisher(root, a_workdir(root, "mdjob_a", "one")).publish(plan())
    second = Publisher(root, a_workdir(root, "mdjob_b", "two")).publish(plan())
    assert first == ["A⧸Title.mp4", "A⧸Title.en.vtt"]
    assert second == ["A⧸Title (2).mp4", "A⧸Title (2).en.vtt"]
    assert visible(root)["A⧸Title.mp4"] == "one"
    assert visible(root)["A⧸Title (2).mp4"] == "two"


def test_a_name_that_is_half_taken_is_not_used_and_nothing_of_it_stays(root: Path) -> None:
    (root / "A⧸Title.en.vtt").write_text("somebody's")
    names = Publisher(root, a_workdir(root)).publish(plan())
    assert names == ["A⧸Title (2).mp4", "A⧸Title (2).en.vtt"]
    assert visible(root)["A⧸Title.en.vtt"] == "somebody's"
    assert "A⧸Title.mp4" not in visible(root)


def test_a_folder_that_is_a_link_out_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "films").symlink_to(tmp_path / "outside")
    with pytest.raises(PathEscapesLibrary):
        Publisher(root, a_workdir(root)).publish(plan("films"))
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_published_file_that_is_a_link_is_not_served(root: Path, tmp_path: Path) -> None:
    library = Library(root)
    (tmp_path / "secret").write_text("secret")
    (root / "link.mp4").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    for name in ("link.mp4", "folder/secret", "../secret", "/etc/passwd", "a/../../secret"):
        with pytest.raises(PathEscapesLibrary):
            library.open_artifact(name)
        assert not library.exists(name)


def test_a_work_folder_moves_to_a_new_name_with_each_attempt(root: Path) -> None:
    library = Library(root)
    job_id = "a" * 32
    first = library.prepare_workdir(job_id, None)
    (first / "part").write_text("bytes")
    second = library.prepare_workdir(job_id, first.name)
    assert second != first
    assert not first.exists()
    assert (second / "part").read_text() == "bytes"
    # The store did not learn of the new name: the folder is found by the job's id.
    third = library.prepare_workdir(job_id, first.name)
    assert (third / "part").read_text() == "bytes"
    library.remove_workdir(third.name)
    assert library.list_workdirs() == {}
    assert [path.name for path in root.iterdir()] == []


def test_only_work_folders_can_be_removed_as_such(root: Path) -> None:
    library = Library(root)
    (root / "films").mkdir()
    for name in ("films", "../downloads", ".", "mdjob_x", ""):
        library.remove_workdir(name)
    assert (root / "films").is_dir()
