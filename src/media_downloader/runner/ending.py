"""How an attempt of a job can end."""

from collections.abc import Sequence
from dataclasses import dataclass

from media_downloader.downloader.protocol import Failed
from media_downloader.ports import Change


@dataclass(frozen=True)
class Ending:
    """A change to write, a failure to judge, or a process that died without a last word."""

    change: Change | None = None
    failed: Failed | None = None
    crashed: bool = False
    last_lines: Sequence[str] = ()
