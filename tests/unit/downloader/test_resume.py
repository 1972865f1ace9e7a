"""Each state in which a kill can leave a work folder, and what a start makes of it (RELIABILITY of crash points)."""

import os
import time
from pathlib import Path

import pytest

from media_downloader.downloader.pins import PinFile, Source
from media_downloader.downloader.resume import Folders, keep, prepare, wipe

NAME = "media.mp4"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path)
    made.make()
    return made


def pinned(folders: Folders, *, total: int | None = None, fragments: int | None = None) -> PinFile:
    pin_file = PinFile(folders.state / "pins.json")
    pin_file.pins.sources[NAME] = Source(
        format_id="0", ext="mp4", protocol="https", total_bytes=total, fragment_count=fragments, seen=True
    )
    pin_file.save()
    return pin_file


def put(folders: Folders, name: str, data: bytes) -> None:
    (folders.work / name).write_bytes(data)


def left(folders: Folders) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folders.work.iterdir()}


def test_a_partial_file_goes_on_one_byte_before_its_end(folders: Folders) -> None:
    put(folders, f"{NAME}.part", b"abcd")
    assert prepare(folders, pinned(folders, total=10), distrust_tail=False) == 3
    assert left(folders) == {f"{NAME}.part": b"abc"}


@pytest.mark.parametrize(
    "name", ["media.en.vtt.part", "other.mp4.part", f"{NAME}.part-Frag1", f"{NAME}.part-Frag1.part"]
)
def test_what_is_not_pinned_is_not_built_upon(folders: Folders, name: str) -> None:
    """A piece of a subtitle would be continued whatever the server has now."""
    put(folders, name, b"abcd")
    assert prepare(folders, pinned(folders, total=10), distrust_tail=False) == 0
    assert left(folders) == {}


def test_fragments_of_what_is_complete_stay_for_its_proof_and_count_once(folders: Folders) -> None:
    put(folders, f"{NAME}.part-Frag1", b"abcd")
    put(folders, NAME, b"abcd")
    keep(folders, NAME)
    pin_file = pinned(folders, fragments=1)
    pin_file.pins.sources[NAME].assembled_bytes = 4
    assert prepare(folders, pin_file, distrust_tail=False) == 4
    assert set(left(folders)) == {NAME, f"{NAME}.part-Frag1"}


def test_a_kept_stream_whose_fragments_nobody_counted_is_made_again(folders: Folders) -> None:
    put(folders, f"{NAME}.part-Frag1", b"abcd")
    put(folders, NAME, b"abcdabcd")
    keep(folders, NAME)
    prepare(folders, pinned(folders, fragments=1), distrust_tail=False)
    assert set(left(folders)) == {f"{NAME}.part-Frag1"}
    assert list(folders.keep.iterdir()) == []


def test_a_complete_partial_file_does_not_ask_for_a_range_that_is_not_there(folders: Folders) -> None:
    put(folders, f"{NAME}.part", b"abcd")
    prepare(folders, pinned(folders, total=4), distrust_tail=False)
    assert left(folders) == {f"{NAME}.part": b"abc"}


def test_a_file_that_was_renamed_but_not_kept_is_proven_by_its_last_byte(folders: Folders) -> None:
    put(folders, NAME, b"abcd")
    prepare(folders, pinned(folders, total=4), distrust_tail=False)
    assert left(folders) == {f"{NAME}.part": b"abc"}


def test_a_kept_file_comes_back_as_it_was(folders: Folders) -> None:
    put(folders, NAME, b"abcd")
    keep(folders, NAME)
    put(folders, "media.temp.mp4", b"half a merge")
    (folders.work / NAME).unlink()
    assert prepare(folders, pinned(folders, total=4), distrust_tail=False) == 4
    assert left(folders) == {NAME: b"abcd"}


def test_a_kept_file_of_the_wrong_size_is_not_believed(folders: Folders) -> None:
    put(folders, NAME, b"abc")
    keep(folders, NAME)
    (folders.work / NAME).unlink()
    prepare(folders, pinned(folders, total=4), distrust_tail=False)
    assert left(folders) == {}
    assert list(folders.keep.iterdir()) == []


@pytest.mark.parametrize(
    "debris",
    [
        {f"{NAME}.part": b"frag1frag1", f"{NAME}.ytdl": b'{"fragment": 1}'},  # killed between append and journal
        {f"{NAME}.part": b"frag1", f"{NAME}.ytdl": b""},  # killed in the rewrite of the journal
        {f"{NAME}.part": b"frag1"},  # no journal
        {f"{NAME}.part": b"frag1fr", f"{NAME}.ytdl": b'{"fragment": 1}'},  # half an append
        {NAME: b"frag1frag2"},  # all in, journal gone, renamed
        {"media.temp.mp4": b"half", f"{NAME}.ytdl": b"x"},  # killed in the fixup
        {"ffmpeg2pass-0.log": b"x", "media.en.vtt": b"half"},
    ],
)
def test_of_a_stream_only_whole_fragments_are_believed(folders: Folders, debris: dict[str, bytes]) -> None:
    for name, data in debris.items():
        put(folders, name, data)
    put(folders, f"{NAME}.part-Frag1", b"frag1")
    put(folders, f"{NAME}.part-Frag2", b"frag2")
    put(folders, f"{NAME}.part-Frag3.part", b"fra")
    prepare(folders, pinned(folders, fragments=5), distrust_tail=False)
    found = left(folders)
    assert found.pop(f"{NAME}.part-Frag1") == b"frag1"
    assert found.pop(f"{NAME}.part-Frag2") == b"frag2"
    assert set(found) <= {f"{NAME}.part-Frag3.part"}


def test_after_a_power_cut_the_newest_bytes_are_not_believed(folders: Folders) -> None:
    put(folders, f"{NAME}.part", bytes(3 * 1024 * 1024))
    prepare(folders, pinned(folders, total=10**8), distrust_tail=True)
    assert len(left(folders)[f"{NAME}.part"]) == 2 * 1024 * 1024
    put(folders, "other.mp4.part", b"x")
    prepare(folders, pinned(folders, total=10**8), distrust_tail=True)
    assert "other.mp4.part" not in left(folders)


def test_after_a_power_cut_young_fragments_are_not_believed(folders: Folders) -> None:
    for number, age in ((1, 600), (2, 0)):
        put(folders, f"{NAME}.part-Frag{number}", b"x")
        then = time.time() - age
        os.utime(folders.work / f"{NAME}.part-Frag{number}", (then, then))
    prepare(folders, pinned(folders, fragments=5), distrust_tail=True)
    assert set(left(folders)) == {f"{NAME}.part-Frag1"}


def test_preparing_twice_costs_one_byte_more_and_nothing_else(folders: Folders) -> None:
    put(folders, f"{NAME}.part", b"abcd")
    pins = pinned(folders, total=10)
    prepare(folders, pins, distrust_tail=False)
    prepare(folders, pins, distrust_tail=False)
    assert left(folders) == {f"{NAME}.part": b"ab"}


def test_pins_that_cannot_be_read_are_no_pins_and_nothing_is_appended_to_what_they_spoke_of(folders: Folders) -> None:
    (folders.state / "pins.json").write_text("{torn")
    put(folders, NAME, b"abcd")
    pin_file = PinFile(folders.state / "pins.json")
    assert pin_file.pins.sources == {}
    prepare(folders, pin_file, distrust_tail=False)
    assert left(folders) == {}


def test_a_wipe_leaves_nothing(folders: Folders) -> None:
    put(folders, f"{NAME}.part", b"x")
    pins = pinned(folders)
    wipe(folders, pins)
    assert left(folders) == {}
    assert pins.pins.sources == {}
    assert not (folders.state / "pins.json").exists()
