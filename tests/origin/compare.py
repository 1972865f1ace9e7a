"""Says whether two media files are the same: by their bytes, or by every frame that they decode to."""

import hashlib
import subprocess
from pathlib import Path

from tests.origin.media import ffmpeg


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def frames(path: Path, stream: str) -> list[str]:
    """Return a digest of every decoded frame of a stream ("v" or "a"), without its time."""
    kind = ("-c:v", "rawvideo") if stream == "v" else ("-c:a", "pcm_s16le")
    command = [
        ffmpeg(),
        "-v",
        "error",
        "-nostdin",
        "-i",
        str(path),
        "-map",
        f"0:{stream}",
        *kind,
        "-f",
        "framehash",
        "-",
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [line.rsplit(",", 1)[1].strip() for line in told.splitlines() if line and not line.startswith("#")]


def samples(path: Path) -> bytes:
    """Return the decoded sound: frames of sound are cut differently by each container, samples are not."""
    command = [ffmpeg(), "-v", "error", "-nostdin", "-i", str(path), "-map", "0:a", "-f", "s16le", "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def assert_same_media(found: Path, expected: Path) -> None:
    """Both decode to the very same pictures, and to the same sound but for an encoder's delay at its ends."""
    assert frames(found, "v") == frames(expected, "v")
    sound, wanted = samples(found), samples(expected)
    # Containers differ in whether they tell the padding of AAC (1,024 samples a frame): the middle must be there whole.
    middle = wanted[len(wanted) // 4 : len(wanted) * 3 // 4]
    assert middle in sound
    assert abs(len(sound) - len(wanted)) <= 4 * 2 * 2048, (len(sound), len(wanted))
