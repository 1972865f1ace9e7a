"""Log files: how much they keep."""

import json
import subprocess
import sys
from pathlib import Path

LINES = 3000
#: A program of its own: how a process logs is set up once.
TALKATIVE = f"""
import structlog
from media_downloader.logs import configure_logging
from media_downloader.settings import Settings
configure_logging(Settings())
for number in range({LINES}):
    structlog.get_logger("media_downloader.test").debug("Something happened", number=number, padding="x" * 100)
"""


def test_log_files_are_rotated(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    environment = {
        "MEDIA_DOWNLOADER_LOG_DIR": str(folder),
        "MEDIA_DOWNLOADER_LOG_FILE_BYTES": "65536",
        "MEDIA_DOWNLOADER_LOG_FILES": "2",
        "MEDIA_DOWNLOADER_LOG_LEVEL": "debug",
        "MEDIA_DOWNLOADER_LOG_FORMAT": "json",
    }
    subprocess.run(
        [sys.executable, "-c", TALKATIVE], env=environment, stderr=subprocess.DEVNULL, check=True, timeout=60
    )
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(texts) == ["media-downloader.log", "media-downloader.log.1", "media-downloader.log.2"]
    assert all(0 < len(text) <= 65536 for text in texts.values())
    # The newest lines are there, without a gap.
    lines = "".join(texts[name] for name in sorted(texts, reverse=True)).splitlines()
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == list(range(numbers[0], LINES))


def test_each_role_has_a_file_of_its_own(tmp_path: Path) -> None:
    program = TALKATIVE.replace("configure_logging(Settings())", 'configure_logging(Settings(), "worker-2")')
    environment = {"MEDIA_DOWNLOADER_LOG_DIR": str(tmp_path), "MEDIA_DOWNLOADER_LOG_LEVEL": "debug"}
    subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL, check=True, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["media-downloader-worker-2.log"]
