"""What is written down of a stream's fragments, and what a file that was made of them must weigh."""

from pathlib import Path
from typing import Any

import pytest

from media_downloader.downloader.fragments import Answers, StreamPlan, check_assembled, seconds_of_playlist
from media_downloader.downloader.pins import PinFile, Source
from media_downloader.downloader.problems import Incomplete
from media_downloader.downloader.resume import Folders
from media_downloader.downloader.validators import Validators

NAME = "media.mp4"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path)
    made.make()
    return made


def assembled(folders: Folders, fragments: list[bytes], whole: bytes, **pinned: Any) -> PinFile:
    for number, data in enumerate(fragments, start=1):
        (folders.work / f"{NAME}.part-Frag{number}").write_bytes(data)
    (folders.work / NAME).write_bytes(whole)
    pin_file = PinFile(folders.state / "pins.json")
    source = Source(format_id="0", ext="mp4", protocol="m3u8_native", fragment_count=3)
    pin_file.pins.sources[NAME] = source.model_copy(update=pinned)
    return pin_file


def test_a_file_of_all_fragments_is_pinned_with_its_size(folders: Folders) -> None:
    pin_file = assembled(folders, [b"one", b"two", b"three"], b"onetwothree")
    check_assembled(folders, pin_file, NAME)
    assert PinFile(folders.state / "pins.json").pins.sources[NAME].assembled_bytes == 11


@pytest.mark.parametrize(
    "fragments, whole",
    [
        ([b"one", b"two"], b"onetwo"),
        ([b"one", b"two", b"three"], b"onetwo"),
        ([b"one", b"two", b"three"], b"onetwothreethree"),
        ([b"one", b"two", b"three", b"four"], b"onetwothreefour"),
    ],
)
def test_a_fragment_too_few_or_too_many_is_found(folders: Folders, fragments: list[bytes], whole: bytes) -> None:
    with pytest.raises(Incomplete):
        check_assembled(folders, assembled(folders, fragments, whole), NAME)


def test_encrypted_fragments_lose_their_padding_and_no_more(folders: Folders) -> None:
    encrypted = [bytes(32)] * 3
    check_assembled(folders, assembled(folders, encrypted, bytes(3 * 20), encrypted=True), NAME)
    with pytest.raises(Incomplete):
        check_assembled(folders, assembled(folders, encrypted, bytes(40), encrypted=True), NAME)
    with pytest.raises(Incomplete):
        check_assembled(folders, assembled(folders, encrypted, bytes(3 * 20)), NAME)


def plan(**changes: Any) -> StreamPlan:
    part = {"frag_index": 1, "url": "https://a.example/x/1.ts?token=1", "byte_range": {"start": 0, "end": 9}}
    return StreamPlan.of([{**part, **changes}], {"__fragment_seconds": [changes.pop("seconds", 1.0)]})


def test_what_changes_with_each_visit_does_not_make_another_stream() -> None:
    other = plan(url="https://b.example/x/1.ts?token=2")
    assert (other.shape, other.paths) == (plan().shape, plan().paths)


@pytest.mark.parametrize(
    "changes",
    [
        {"byte_range": {"start": 0, "end": 10}},
        {"byte_range": {}},
        {"seconds": 1.5},
        {"decrypt_info": {"METHOD": "AES-128", "URI": "https://a.example/key"}},
        {"decrypt_info": {"METHOD": "NONE", "IV": b"\x01"}},
    ],
)
def test_another_shape_is_another_stream(changes: dict[str, Any]) -> None:
    assert plan(**changes).shape != plan().shape


def test_other_paths_are_told_from_the_shape() -> None:
    for changes in ({"url": "https://a.example/y/1.ts"}, {"decrypt_info": {"METHOD": "NONE", "URI": "https://a/k"}}):
        assert plan(**changes).paths != plan().paths
        assert plan(**changes).shape == plan().shape


def test_durations_of_a_playlist() -> None:
    assert seconds_of_playlist(
        "#EXTM3U\n#EXTINF:9.009,\na.ts\n#EXTINF: 3,Title\nb.ts\n#EXTINF:x,\n#EXTINF:1.2.3,\n"
    ) == [
        9.009,
        3.0,
    ]


def test_what_was_said_of_fragments_outlives_the_process_and_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers = Answers(path)
    answers.note(NAME, 1, Validators(etag='"a"', total_bytes=3))
    answers.note(NAME, 1, Validators(etag='"b"', total_bytes=3))
    answers.note("other.mp4", 2, Validators())
    with path.open("ab") as file:
        file.write(b'{"name": "media.mp4", "index": 2, "sa')
    found = Answers(path)
    assert found.of(NAME) == {1: Validators(etag='"b"', total_bytes=3)}
    found.forget(NAME)
    assert Answers(path).of(NAME) == {}
    assert Answers(path).of("other.mp4") == {2: Validators()}


@pytest.mark.parametrize(
    "then, now, same",
    [
        ({"etag": '"a"'}, {"etag": '"a"'}, True),
        ({"etag": '"a"'}, {"etag": '"b"'}, False),
        ({"etag": '"a"', "total_bytes": 1}, {"etag": '"a"', "total_bytes": 2}, False),
        ({"etag": '"a"'}, {}, None),
        ({}, {"etag": '"a"'}, None),
        ({"last_modified": "x"}, {"last_modified": "x"}, True),
        ({"last_modified": "x"}, {"last_modified": "y"}, False),
        ({"total_bytes": 1}, {"total_bytes": 1}, None),
    ],
)
def test_what_two_answers_prove(then: dict[str, Any], now: dict[str, Any], same: bool | None) -> None:
    assert Validators(**then).compare(Validators(**now)) is same
