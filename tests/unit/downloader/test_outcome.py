"""What is said of a result is true, also after a power cut."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
from yt_dlp import YoutubeDL

from media_downloader.downloader.outcome import Outcome
from media_downloader.downloader.pins import Pins, Source
from media_downloader.downloader.problems import Incomplete
from media_downloader.downloader.protocol import Spec, Task
from media_downloader.downloader.resume import Folders
from media_downloader.downloader.verify import Lengths, check_media
from media_downloader.downloader.voice import Voice
from tests.origin.media import ffmpeg


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds."""
    path = tmp_path_factory.mktemp("film") / "media.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=10")
    subprocess.run([ffmpeg(), "-v", "error", "-nostdin", *picture, str(path)], check=True, timeout=60)
    return path


@pytest.mark.parametrize(
    "lengths, fits",
    [
        (Lengths(), True),
        (Lengths(least=10, most=10), True),
        (Lengths(least=11.9, most=8.1), True),
        (Lengths(least=12.5), False),
        (Lengths(most=7.5), False),
        (Lengths(most=5), False),
    ],
)
def test_a_file_plays_neither_much_shorter_nor_much_longer_than_it_should(
    film: Path, lengths: Lengths, fits: bool
) -> None:
    if fits:
        check_media(film, ffmpeg(), lengths)
    else:
        with pytest.raises(Incomplete):
            check_media(film, ffmpeg(), lengths)


@pytest.fixture
def folders(tmp_path: Path, film: Path) -> Folders:
    made = Folders(tmp_path)
    made.make()
    for folder in (made.work, made.keep):
        (folder / "media.mp4").write_bytes(film.read_bytes())
    return made


def conclude(folders: Folders, source: Source, **info: object) -> None:
    ours, theirs = socket.socketpair()
    spec = Spec(task=Task.DOWNLOAD, workdir=str(folders.root), ffmpeg=ffmpeg())
    with ours, theirs, YoutubeDL({"quiet": True, "cachedir": False}) as ydl:
        told = {"id": "x", "title": "x", "ext": "mp4", "filepath": str(folders.work / "media.mp4"), **info}
        Outcome(spec, folders, Voice(theirs)).of_download(told, Pins(sources={"media.mp4": source}), ydl)


def stream(folders: Folders, **pinned: object) -> Source:
    size = (folders.keep / "media.mp4").stat().st_size
    source = Source(format_id="0", ext="mp4", protocol="m3u8_native", fragment_count=5, assembled_bytes=size)
    return source.model_copy(update=pinned)


def test_what_was_made_is_on_the_disk_before_it_is_told_of(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    conclude(folders, stream(folders), duration=10)
    assert synced == [folders.work / "media.mp4", folders.work]


def test_a_stream_that_plays_longer_than_its_manifest_says_is_not_whole(folders: Folders) -> None:
    conclude(folders, stream(folders, media_seconds=10.0), duration=6)
    with pytest.raises(Incomplete):
        conclude(folders, stream(folders, media_seconds=5.0), duration=6)


@pytest.mark.parametrize("info", [{"was_live": True}, {"live_status": "was_live"}, {"live_status": "post_live"}])
def test_nobody_knows_how_long_a_recording_of_a_live_stream_is(folders: Folders, info: dict[str, object]) -> None:
    conclude(folders, stream(folders, media_seconds=5.0), duration=60, **info)


def test_a_file_that_came_in_one_piece_may_play_longer_than_its_page_says(folders: Folders) -> None:
    size = (folders.keep / "media.mp4").stat().st_size
    conclude(folders, Source(format_id="0", ext="mp4", protocol="https", total_bytes=size, seen=True), duration=5)


def test_a_stream_whose_fragments_nobody_counted_is_not_whole(folders: Folders) -> None:
    with pytest.raises(Incomplete):
        conclude(folders, stream(folders, assembled_bytes=None), duration=10)
    with pytest.raises(Incomplete):
        conclude(folders, stream(folders, assembled_bytes=1), duration=10)
