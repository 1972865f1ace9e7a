"""The move of jobs as the command does it, which is killed by itself at a chosen step: python -m, with the steps."""

import asyncio
import os
import signal
import sys

from media_downloader.bootstrap.migration import migrate_jobs
from media_downloader.settings import Settings


def main(target: str, step: str, number: int) -> None:
    """Move to the target, and die of SIGKILL when the step is reached for the number-th time."""
    left = number

    def cut(name: str) -> None:
        nonlocal left
        left -= name == step
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    assert target in {"redis", "sqlite"}
    asyncio.run(migrate_jobs(Settings(), "redis" if target == "redis" else "sqlite", dry_run=False, step=cut))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
