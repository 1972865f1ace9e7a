"""A publish that is cut off at any step goes on, never replaces a file, and never makes a second copy."""

import contextlib
import os
import subprocess
from itertools import count
from pathlib import Path, PurePosixPath

import pytest

from media_downloader.errors import DiskFull, PathEscapesLibrary
from media_downloader.library import Library
from media_downloader.library.publishing import Publisher, PublishPlan, SourceFile
from tests.unit.library.cuts import NAMES, a_workdir, cut_off, everything, plan


def visible(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).parts[0].startswith(("mdjob_", ".media"))
    }


def test_a_publish_cut_off_at_every_step_ends_the_same(root: Path, work: Path, way: str) -> None:
    """The loop of SQLite's own tests: fail at step 1, 2, 3... until nothing fails any more; and then twice in one."""
    seen = []
    for fail_at in count(1):
        workdir = a_workdir(work, f"mdjob_{fail_at}")
        seen.append(cut_off(root, workdir, fail_at))
        cut_off(root, workdir, 2)
        names = Publisher(root, workdir).publish(plan("films"))
        assert names == NAMES
        assert {name: (root / name).read_text() for name in names} == dict(
            zip(NAMES, ["video", "video text"], strict=True)
        )
        assert everything(root) == set(NAMES)
        # The store did not learn of it: once more, and nothing new comes of it.
        assert Publisher(root, workdir).publish(plan("films")) == names
        assert everything(root) == set(NAMES)
        for name in names:
            (root / name).unlink()
        if seen[-1] is None:
            break
    expected = {"rename": "_by_rename", "link": "_by_link", "placeholder": "replace"}[way]
    assert {expected, "placed", "sync", "intent"} <= set(seen)
    assert ("copied" in seen) is (work != root)


def test_a_job_that_is_given_up_in_the_middle_of_a_publish_leaves_nothing(root: Path, work: Path, way: str) -> None:
    """A cut publish whose work folder is removed: no copy, no empty file and no name is left of it."""
    library = Library(root, work)
    library.prepare()
    bystander = root / "films" / "A⧸Title.en.vtt.txt"
    bystander.parent.mkdir()
    bystander.write_text("")
    for fail_at in count(1):
        workdir = a_workdir(work, f"mdjob_{'a' * 32}_{fail_at:08x}")
        step = cut_off(root, workdir, fail_at)
        if step is None:
            break
        library.remove_workdir(workdir.name)
        assert everything(root) == {"films/A⧸Title.en.vtt.txt"}, step
    assert fail_at > 5


def test_a_job_that_is_done_keeps_its_files_when_its_work_folder_goes(root: Path, work: Path, way: str) -> None:
    library = Library(root, work)
    library.prepare()
    workdir = a_workdir(work, f"mdjob_{'a' * 32}_00000000")
    names = library.publish(workdir, plan("films"))
    library.write_record("a" * 32, {"files": [{"name": name} for name in names]})
    library.remove_workdir(workdir.name)
    assert not workdir.exists()
    assert [(root / name).exists() for name in names] == [True, True]


def test_a_result_that_was_made_anew_after_a_cut_publish_replaces_the_old_one(root: Path, work: Path, way: str) -> None:
    """The verdict was not believed and the job ran again: its first result is nobody's file, and does not stay."""
    for fail_at in count(1):
        workdir = a_workdir(work, f"mdjob_{fail_at}")
        step = cut_off(root, workdir, fail_at)
        for path in (workdir / "work").iterdir():
            path.unlink()
        for name in ("media.mp4", "media.en.vtt"):
            (workdir / "work" / name).write_text("a second result")
        names = Publisher(root, workdir).publish(plan("films"))
        assert names == NAMES
        assert {(root / name).read_text() for name in names} == {"a second result"}
        assert everything(root) == set(NAMES)
        for name in names:
            (root / name).unlink()
        if step is None:
            break


def test_a_name_that_somebody_takes_meanwhile_is_not_ours(root: Path, work: Path, way: str) -> None:
    """Whichever of the names, and whenever: theirs stays as it is, and ours go elsewhere together."""
    for stolen in NAMES:
        for fail_at in count(1):
            workdir = a_workdir(work, f"mdjob_{NAMES.index(stolen)}_{fail_at}")
            number = 0

            def step(_: str) -> None:
                nonlocal number
                number += 1
                if number == fail_at and not (root / stolen).exists():  # noqa: B023 - called within this round
                    (root / stolen).write_text("somebody's")  # noqa: B023

            names = Publisher(root, workdir, step).publish(plan("films"))
            assert [(root / name).read_text() for name in names] == ["video", "video text"]
            theirs = {name for name in NAMES if (root / name).exists() and name not in names}
            assert {(root / name).read_text() for name in theirs} <= {"somebody's"}
            assert everything(root) == {*names, *theirs}
            for name in everything(root):
                (root / name).unlink()
            if number < fail_at:
                break


def test_a_link_that_was_swapped_in_is_not_published(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    workdir = a_workdir(root)
    (workdir / "work" / "media.mp4").unlink()
    (workdir / "work" / "media.mp4").symlink_to(tmp_path / "secret")
    with pytest.raises(PathEscapesLibrary):
        Publisher(root, workdir).publish(plan())
    (workdir / "elsewhere").mkdir()
    (workdir / "elsewhere" / "media.mp4").write_text("x")
    for file in (workdir / "work").iterdir():
        file.unlink()
    (workdir / "work").rmdir()
    (workdir / "work").symlink_to(workdir / "elsewhere")
    with pytest.raises(PathEscapesLibrary):
        Publisher(root, workdir).publish(plan())
    outside = PublishPlan((SourceFile("../secret", "mp4"),), "x", PurePosixPath())
    with pytest.raises(PathEscapesLibrary):
        Publisher(root, workdir).publish(outside)
    assert everything(root) == set()


def test_a_folder_swapped_for_a_link_while_publishing_leads_nowhere(root: Path, work: Path, tmp_path: Path) -> None:
    """A file under a name that was asked for, or a refusal: never anything outside."""
    (tmp_path / "outside").mkdir()
    for fail_at in count(1):
        workdir = a_workdir(work, f"mdjob_{fail_at}")
        number = 0

        def step(_: str) -> None:
            nonlocal number
            number += 1
            if number == fail_at:  # noqa: B023 - called within this round
                (root / "films").rename(root / f"moved-{number}")
                (root / "films").symlink_to(tmp_path / "outside")

        with contextlib.suppress(PathEscapesLibrary):
            Publisher(root, workdir, step).publish(plan("films"))
        assert list((tmp_path / "outside").iterdir()) == []
        if number < fail_at:
            break
        (root / "films").unlink()


def test_a_copy_that_does_not_fit_leaves_no_half_of_it(root: Path, tmp_path: Path) -> None:
    """Half a copy on a full disk would keep it full."""
    disk = root / "films"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode != 0:
        pytest.skip("This machine lets us mount nothing.")
    try:
        workdir = a_workdir(root, content="v" * 3_000_000)
        with pytest.raises(DiskFull):
            Publisher(root, workdir).publish(plan("films"))
        assert everything(root) == set()
        (workdir / "work" / "media.mp4").write_text("v" * 100_000)
        (workdir / "work" / "media.en.vtt").write_text("text")
        assert Publisher(root, workdir).publish(plan("films")) == NAMES
        assert (disk / "A⧸Title.mp4").stat().st_size == 100_000
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_everything_is_on_the_disk_before_anybody_is_told(
    root: Path, work: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order: the file's bytes, the intent, the name, the folder of the name."""
    told: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        told.append(("sync", os.fstat(descriptor).st_ino))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    workdir = a_workdir(work)
    source = (workdir / "work" / "media.mp4").stat().st_ino
    (name, *_) = Publisher(root, workdir, lambda step: told.append((step, 0))).publish(plan("films"))
    folder = (root / "films").stat().st_ino
    order = [("sync", root.stat().st_ino), ("sync", source), ("intent", 0), ("placed", 0), ("sync", folder)]
    if work != root:
        order.insert(3, ("sync", (root / name).stat().st_ino))
    places = [told.index(order[0])]
    for one in order[1:]:
        places.append(told.index(one, places[-1]))
    assert told[-1][0] == "sync"


def test_two_files_of_one_job_never_have_one_name(root: Path) -> None:
    workdir = a_workdir(root)
    for name in ("a", "b", "c"):
        (workdir / name).write_text(name)
    sources = (SourceFile("a", "vtt", "en"), SourceFile("b", "VTT", "EN"), SourceFile("c", "vtt", "en"))
    names = Publisher(root, workdir).publish(PublishPlan(sources, "T", PurePosixPath()))
    assert [(root / name).read_text() for name in names] == ["a", "b", "c"]
    assert names[0] == "T.en.vtt"


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
            library.open_artifact(name, "0" * 32)
        assert not library.exists(name, "0" * 32)


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
