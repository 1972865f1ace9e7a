"""A downloader that takes long to get warm, as yt-dlp does on a small machine."""

import time

from tests.scripted_child import main

__all__ = ["main", "warm"]

WARM_SECONDS = 4.0


def warm() -> None:
    """Take long."""
    time.sleep(WARM_SECONDS)
