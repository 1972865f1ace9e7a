"""Media made by ffmpeg for the origin to serve, each kind once for a whole test run."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from media_downloader.settings import Settings
from media_downloader.tools import Tools

#: 50 MB and a little: what kills and pauses are tried on.
BIG_BYTES = 50_000_000
HLS_SECONDS = 12
AES_KEY = bytes(range(16))


def ffmpeg() -> str:
    """Return the ffmpeg that the program itself would use."""
    path = Tools(Settings()).ffmpeg.path
    assert path is not None, "ffmpeg comes with the package"
    return path


def _run(*arguments: str | Path) -> None:
    command = [ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=110)


@dataclass(frozen=True)
class Media:
    """Where each kind of media is. Files are read only: tests compare with them."""

    folder: Path

    @property
    def small(self) -> Path:
        """MP4, some seconds, H.264 and AAC."""
        return self.folder / "small.mp4"

    @property
    def other(self) -> Path:
        """Another MP4 than ``small``, of another length."""
        return self.folder / "other.mp4"

    @property
    def big(self) -> Path:
        """MP4 of more than ``BIG_BYTES``."""
        return self.folder / "big.mp4"

    @property
    def audio(self) -> Path:
        """M4A."""
        return self.folder / "audio.m4a"

    @property
    def hls(self) -> Path:
        """Playlist of transport stream segments."""
        return self.folder / "hls" / "index.m3u8"

    @property
    def hls_aes(self) -> Path:
        """The same, encrypted with AES-128."""
        return self.folder / "hls-aes" / "index.m3u8"

    @property
    def dash(self) -> Path:
        """Manifest with separate audio and video."""
        return self.folder / "dash" / "index.mpd"

    @property
    def hls_source(self) -> Path:
        """What HLS and DASH were cut from: the frames that must come out."""
        return self.folder / "stream.mp4"

    @property
    def other_source(self) -> Path:
        """Other pictures and the same sound, as long as ``hls_source`` and cut in the same places."""
        return self.folder / "stream-other.mp4"

    @property
    def hls_other(self) -> Path:
        """Playlist of ``other_source``: the same names, durations and count as in ``hls``."""
        return self.folder / "hls-other" / "index.m3u8"

    @property
    def dash_other(self) -> Path:
        """Manifest of ``other_source``."""
        return self.folder / "dash-other" / "index.mpd"


def make(folder: Path) -> Media:
    """Make everything; some seconds of work."""
    media = Media(folder)
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
    h264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")
    aac = ("-c:a", "aac", "-b:a", "96k", "-shortest", "-movflags", "+faststart", "-bitexact")
    picture = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25")
    _run(*picture, *tone, "-t", "4", *h264, *aac, media.small)
    _run(*picture, *tone, "-t", "6", "-vf", "negate", *h264, *aac, media.other)
    _run(*tone, "-t", "5", "-vn", *aac, media.audio)
    _run(*picture, *tone, "-t", str(HLS_SECONDS), "-b:v", "1500k", *h264, *aac, media.hls_source)
    negative = ("-vf", "negate", "-b:v", "1500k", *h264, "-c:a", "copy", "-bitexact")
    _run("-i", media.hls_source, *negative, media.other_source)
    _make_big(media, tone, aac)
    _make_hls(media)
    _make_dash(media.hls_source, media.dash)
    _make_dash(media.other_source, media.dash_other)
    return media


def _make_big(media: Media, tone: tuple[str, ...], aac: tuple[str, ...]) -> None:
    """Noise cannot be compressed, so few frames make many bytes."""
    noise = ("-f", "lavfi", "-i", "color=gray:size=640x360:rate=25,noise=alls=100:allf=t")
    lossless = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv420p")
    _run(*noise, *tone, "-t", "4.2", *lossless, *aac, media.big)
    assert media.big.stat().st_size > BIG_BYTES, media.big.stat().st_size


def _make_hls(media: Media) -> None:
    cut = ("-i", media.hls_source, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")
    for playlist in (media.hls, media.hls_aes):
        playlist.parent.mkdir()
    _run(*cut, "-hls_segment_filename", media.hls.with_name("seg%03d.ts"), media.hls)
    media.hls_other.parent.mkdir()
    other = ("-i", media.other_source, *cut[2:])
    _run(*other, "-hls_segment_filename", media.hls_other.with_name("seg%03d.ts"), media.hls_other)
    key = media.hls_aes.with_name("key.bin")
    key.write_bytes(AES_KEY)
    about = media.hls_aes.with_name("key.info")
    about.write_text(f"key.bin\n{key}\n{'0' * 31}1\n")
    names = media.hls_aes.with_name("seg%03d.ts")
    _run(*cut, "-hls_key_info_file", about, "-hls_segment_filename", names, media.hls_aes)
    about.unlink()


def _make_dash(source: Path, manifest: Path) -> None:
    manifest.parent.mkdir()
    sets = ("-adaptation_sets", "id=0,streams=v id=1,streams=a", "-seg_duration", "1", "-use_template", "1")
    _run("-i", source, "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "dash", *sets, manifest)
