"""How an attempt of a job can end."""

from collections.abc import Sequence
from dataclasses import dataclass

from media_downloader.downloader.protocol import Failed
from media_downloader.ports import Change


@dataclass(frozen=True)
class Ending:
    """A change to write, a failure to judge, a process that died without a last word, or none that could be started."""

    change: Change | None = None
    failed: Failed | None = None
    crashed: bool = False
    #: Why no process could be started: the server's fault, which no job is to pay for.
    not_started: str | None = None
    last_lines: Sequence[str] = ()
