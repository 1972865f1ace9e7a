"""ffmpeg takes a downloaded file for a container of media, and never for a list of other files."""

import errno
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.postprocessor import FFmpegMergerPP
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor, FFmpegPostProcessorError

from media_downloader.downloader.containers import CONTAINERS, guard_local_files, whitelist
from media_downloader.downloader.problems import describe
from media_downloader.jobs.model import FailureKind
from tests.origin.media import ffmpeg

MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"'
    ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"


def make(path: Path, *options: str) -> None:
    sources = ("-f", "lavfi", "-i", "testsrc=size=64x64:duration=1", "-f", "lavfi", "-i", "sine=duration=1")
    subprocess.run([ffmpeg(), "-v", "error", "-nostdin", "-y", *sources, *options, str(path)], check=True, timeout=60)


def copy(source: Path, target: Path, *options: str) -> bool:
    return run(source, options, "-c", "copy", str(target))


def run(source: Path, options: Iterable[str], *output: str) -> bool:
    command = [ffmpeg(), "-v", "error", "-nostdin", "-y", *options, "-i", f"file:{source}", *output]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Somebody else's film."""
    path = tmp_path / "others" / "film.mp4"
    path.parent.mkdir()
    make(path, "-shortest", "-movflags", "frag_keyframe+empty_moov+default_base_moof")
    return path


def traps(folder: Path, other: Path) -> list[Path]:
    texts = {
        "dash.mp4": MPD.format(f"file://{other}"),
        "relative.mp4": MPD.format("others/film.mp4"),
        "concat.mp4": "ffconcat version 1.0\nfile others/film.mp4\n",
        "hls.m3u8": HLS.format("others/film.mp4"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def test_a_file_that_names_others_is_not_followed(tmp_path: Path, other: Path) -> None:
    for trap in traps(tmp_path, other):
        assert copy(trap, tmp_path / "out.mkv"), "without the list it is, or this test is worth nothing"
        (tmp_path / "out.mkv").unlink()
        assert not copy(trap, tmp_path / "out.mkv", *whitelist()), trap.name


def test_the_postprocessors_of_yt_dlp_do_not_follow_it_either(tmp_path: Path, other: Path) -> None:
    program = """
import sys
from yt_dlp import YoutubeDL
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
from yt_dlp.utils import PostProcessingError
from media_downloader.downloader.containers import guard_local_files
guard_local_files()
ffmpeg, good, out, *traps = sys.argv[1:]
with YoutubeDL({"quiet": True, "ffmpeg_location": ffmpeg}) as ydl:
    processor = FFmpegPostProcessor(ydl)
    processor.run_ffmpeg(good, out, ["-c", "copy"])
    processor.concat_files([good, good], out)
    for trap in traps:
        try:
            processor.run_ffmpeg(trap, out, ["-c", "copy"])
        except PostProcessingError:
            continue
        raise AssertionError(trap)
"""
    paths = [str(path) for path in (other, tmp_path / "out.mkv", *traps(tmp_path, other))]
    subprocess.run([sys.executable, "-c", program, ffmpeg(), *paths], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v.mp4", ()),
        ("v.mkv", ()),
        ("v.webm", ("-c:v", "libvpx", "-c:a", "libopus")),
        ("v.ts", ()),
        ("v.flv", ("-c:v", "flv1", "-c:a", "libmp3lame", "-ar", "44100")),
        ("v.avi", ()),
        ("v.mpg", ()),
        ("v.wmv", ()),
        ("v.ogv", ("-c:v", "libtheora", "-c:a", "libvorbis")),
        ("a.mp3", ("-vn",)),
        ("a.m4a", ("-vn",)),
        ("a.aac", ("-vn",)),
        ("a.opus", ("-vn", "-c:a", "libopus")),
        ("a.flac", ("-vn",)),
        ("a.wav", ("-vn",)),
        ("p.jpg", ("-an", "-frames:v", "1")),
        ("p.png", ("-an", "-frames:v", "1")),
        ("p.webp", ("-an", "-frames:v", "1")),
        ("p.gif", ("-an",)),
    ],
)
def test_media_of_every_common_kind_is_taken(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    source = tmp_path / name
    make(source, "-shortest", *options)
    assert run(source, whitelist(), "-f", "null", "-"), name


@pytest.mark.parametrize("name", ["srt", "vtt", "ass"])
def test_subtitles_are_taken(tmp_path: Path, name: str) -> None:
    plain = tmp_path / "s.srt"
    plain.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n\n")
    source = tmp_path / f"t.{name}"
    subprocess.run([ffmpeg(), "-v", "error", "-y", "-i", str(plain), str(source)], check=True, timeout=60)
    assert copy(source, tmp_path / "out.mkv", *whitelist())


def test_nothing_that_opens_other_files_is_in_the_list() -> None:
    assert len(CONTAINERS.split(",")) == len(set(CONTAINERS.split(",")))
    dangerous = {
        "dash",
        "hls",
        "concat",
        "imf",
        "sdp",
        "rtsp",
        "webm_dash_manifest",
        "avisynth",
        "vapoursynth",
        "lavfi",
    }
    assert dangerous & set(CONTAINERS.split(",")) == set()


def test_a_full_disk_during_a_merge_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Path
) -> None:
    """ffmpeg's last line seldom says so; a stand-in says what ffmpeg does when its disk is full."""
    monkeypatch.setattr(FFmpegPostProcessor, "real_run_ffmpeg", FFmpegPostProcessor.real_run_ffmpeg)
    guard_local_files()
    program = tmp_path / "ffmpeg"
    words = "echo 'av_interleaved_write_frame(): No space left on device' >&2; echo 'Conversion failed!' >&2; exit 1"
    program.write_text(f'#!/bin/sh\ncase "$*" in *-bsfs*) echo "ffmpeg version 7.0"; exit 0;; esac\n{words}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with YoutubeDL({"quiet": True, "cachedir": False, "ffmpeg_location": str(program)}) as ydl:
        merger = FFmpegMergerPP(ydl)
        info = {
            "filepath": str(tmp_path / "out.mp4"),
            "__files_to_merge": [str(other)],
            "requested_formats": [{"protocol": "https"}],
        }
        with pytest.raises(OSError, match="No space left") as caught:
            merger.run(info)
        assert caught.value.errno == errno.ENOSPC
        assert describe(caught.value).kind is FailureKind.DISK_FULL
        program.write_text(program.read_text().replace("No space left on device", "Invalid argument"))
        with pytest.raises(FFmpegPostProcessorError):
            merger.run(info)
