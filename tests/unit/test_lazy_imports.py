"""The server process stays light: what is heavy is imported by the process that needs it."""

import subprocess
import sys


def test_the_api_process_imports_no_yt_dlp_celery_or_redis() -> None:
    program = (
        "import sys, media_downloader.api.server, media_downloader.bootstrap;"
        "print([name for name in ('yt_dlp', 'celery', 'redis', 'imageio_ffmpeg') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


def test_the_command_line_starts_without_the_server() -> None:
    program = "import sys, media_downloader.cli; print('fastapi' in sys.modules, 'yt_dlp' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False False"
