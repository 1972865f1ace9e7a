"""Work folders: one owner at a time, also when the last one cannot be proven dead, and each kind by itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from media_downloader.errors import OptionRejected
from media_downloader.jobs.model import Job, utc_now
from media_downloader.library import SHARED_PREFIX, Library

FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def library(root: Path) -> Iterator[Library]:
    made = Library(root)
    made.open()
    yield made
    made.close()


def a_job(job_id: str, attempt: int) -> Job:
    now = utc_now()
    return Job(
        id=job_id, url="https://example.org", site="example.org", attempt=attempt, created_at=now, updated_at=now
    )


def test_the_work_folder_of_a_known_name_is_had_without_reading_the_downloads_folder(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library of fifty thousand files must not be read for each start."""

    def refuse(*_: object) -> None:
        raise AssertionError("the whole folder is read")

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    first = library.prepare_workdir(FIRST, None)
    (first / "part").write_text("bytes")
    second = library.prepare_workdir(FIRST, first.name)
    assert (second / "part").read_text() == "bytes"
    assert not first.exists()


def test_of_several_folders_of_a_job_the_one_of_the_latest_attempt_is_taken(library: Library) -> None:
    for attempt in (1, 3, 2):
        folder = library.work_dir / f"mdjob_{FIRST}_0000000{attempt}"
        folder.mkdir()
        (folder / "part").write_text(f"attempt {attempt}")
        library.write_job_file(folder, a_job(FIRST, attempt))
    other = library.prepare_workdir(SECOND, None)
    taken = library.prepare_workdir(FIRST, f"mdjob_{FIRST}_ffffffff")
    assert (taken / "part").read_text() == "attempt 3"
    assert library.list_workdirs() == {taken.name: FIRST, other.name: SECOND}


@pytest.mark.parametrize("name", ["films", "..", f"mdjob_{SECOND}_00000000", "/etc"])
def test_a_name_that_is_not_a_folder_of_the_job_is_not_taken_over(library: Library, name: str) -> None:
    for folder in ("films", f"mdjob_{SECOND}_00000000"):
        (library.work_dir / folder).mkdir()
    taken = library.prepare_workdir(FIRST, name)
    assert list(taken.iterdir()) == []
    assert (library.work_dir / "films").is_dir()
    assert (library.work_dir / f"mdjob_{SECOND}_00000000").is_dir()


def test_a_link_in_the_place_of_a_work_folder_is_not_taken_over(library: Library, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("kept")
    name = f"mdjob_{FIRST}_00000000"
    (library.work_dir / name).symlink_to(tmp_path / "mine")
    for proven_dead in (True, False):
        taken = library.prepare_workdir(FIRST, name, proven_dead=proven_dead)
        assert list(taken.iterdir()) == []
    assert (tmp_path / "mine" / "kept").read_text() == "kept"


def a_writer(path: Path) -> subprocess.Popen[str]:
    """Start a program that has the file open, writes once, and writes again when it is told to."""
    program = (
        "import sys; file = open(sys.argv[1], 'ab', buffering=0); file.write(b'old ');"
        "print('ready', flush=True); sys.stdin.readline(); file.write(b'late'); print('done', flush=True)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_a_frozen_writer_that_wakes_up_changes_nothing_of_its_successors_files(library: Library) -> None:
    old = library.prepare_workdir(FIRST, None)
    (old / "work").mkdir()
    (old / "keep").mkdir()
    with a_writer(old / "work" / "media.part") as writer:
        os.kill(writer.pid, signal.SIGSTOP)
        (old / "keep" / "media").hardlink_to(old / "work" / "media.part")
        os.utime(old / "work" / "media.part", (1_700_000_000, 1_700_000_000))
        (old / "work" / "link").symlink_to("/etc/passwd")
        new = library.prepare_workdir(FIRST, old.name, proven_dead=False)
        os.kill(writer.pid, signal.SIGCONT)
        assert writer.stdout is not None and writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "done\n"
    assert (old / "work" / "media.part").read_text() == "old late"
    assert (new / "work" / "media.part").read_text() == "old "
    assert (new / "work" / "media.part").stat().st_mtime == 1_700_000_000
    assert (new / "keep" / "media").samefile(new / "work" / "media.part")
    assert sorted(str(path.relative_to(new)) for path in new.rglob("*")) == [
        "keep", "keep/media", "work", "work/media.part",
    ]  # fmt: skip
    # The old one is the sweep's, once the job is over.
    assert [orphan.name for orphan in library.orphaned_workdirs({new.name})] == [old.name]


def test_a_copy_that_was_cut_off_is_not_taken_for_the_jobs_folder(library: Library) -> None:
    whole = library.prepare_workdir(FIRST, None)
    (whole / "part").write_text("bytes")
    library.write_job_file(whole, a_job(FIRST, 1))
    half = library.work_dir / f"mdjob_{FIRST}_00000000"
    half.mkdir()
    (half / ".copying").touch()
    library.write_job_file(half, a_job(FIRST, 2))
    assert set(library.read_job_files()) == {whole.name}
    for known in (half.name, f"mdjob_{FIRST}_ffffffff"):
        taken = library.prepare_workdir(FIRST, known, proven_dead=False)
        assert (taken / "part").read_text() == "bytes"
        library.remove_workdir(taken.name)
    assert {orphan.name for orphan in library.orphaned_workdirs(())} == {whole.name, half.name}


def test_each_kind_of_work_folder_is_swept_by_its_own_kind_alone(root: Path) -> None:
    local, one, other = Library(root), Library(root, prefix=SHARED_PREFIX), Library(root, prefix=SHARED_PREFIX)
    # No lock keeps apart what shares a store.
    for library in (local, one, other):
        library.open()
    mine, shared = local.prepare_workdir(FIRST, None), one.prepare_workdir(SECOND, None)
    assert shared.name.startswith(f"md_{SECOND}_")
    assert local.list_workdirs() == {mine.name: FIRST}
    assert one.list_workdirs() == other.list_workdirs() == {shared.name: SECOND}
    for library, foreign in ((local, shared), (one, mine)):
        library.remove_workdir(foreign.name)
        assert foreign.is_dir()
        library.close()


def test_what_a_crash_leaves_of_small_writes_goes_and_a_shared_folders_newest_stays(root: Path) -> None:
    Library(root).prepare()
    scraps = [root / ".mdprobe_x", root / ".media-downloader" / "records" / ".a.json.1.new"]

    def leave() -> None:
        scraps[0].mkdir(exist_ok=True)
        scraps[1].write_text("half")

    for prefix, old, stay in ((SHARED_PREFIX, False, True), (SHARED_PREFIX, True, False), ("mdjob_", False, False)):
        leave()
        for path in scraps if old else ():
            os.utime(path, (0, 0))
        library = Library(root, prefix=prefix)
        library.open()
        library.close()
        assert [path.exists() for path in scraps] == [stay, stay]


def unmount(root: Path) -> None:
    subprocess.run(["umount", "--lazy", root], check=True)


def mount(root: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=False).returncode != 0:
        pytest.skip("This machine lets us mount nothing.")


def take_away(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def replace(root: Path) -> None:
    take_away(root)
    root.mkdir()


@pytest.mark.parametrize("vanish", [unmount, take_away, replace])
def test_a_downloads_folder_that_is_gone_is_never_taken_for_an_empty_one(
    root: Path, vanish: Callable[[Path], None]
) -> None:
    if vanish is unmount:
        mount(root)
    library = Library(root)
    library.open()
    assert library.facts().exists
    folder = library.prepare_workdir(FIRST, None)
    vanish(root)
    assert not library.is_present()
    assert not library.facts().exists
    for look in (
        lambda: library.prepare_workdir(FIRST, folder.name),
        lambda: library.orphaned_workdirs(()),
        library.read_job_files,
        lambda: library.published_before(utc_now()),
    ):
        with pytest.raises(OSError, match="gone, or not mounted"):
            look()
    assert not root.exists() or list(root.iterdir()) == []
    library.close()


def test_a_folder_whose_hidden_part_was_removed_is_still_the_folder(library: Library) -> None:
    for path in sorted((library.downloads_dir / ".media-downloader").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert library.is_present()


def test_a_folder_that_leads_through_a_link_or_a_file_is_refused_before_anything_is_fetched(
    library: Library, tmp_path: Path
) -> None:
    (library.downloads_dir / "link").symlink_to(tmp_path)
    (library.downloads_dir / "file").touch()
    (library.downloads_dir / "folder").mkdir()
    for folder in ("link", "link/below", "file", "file/below"):
        with pytest.raises(OptionRejected, match="no folder"):
            library.check_folder(folder)
    library.check_folder("folder/below")
