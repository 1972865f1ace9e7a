"""The real worker, whose processes run ``tests.work`` in place of the runner. Its one argument is the folder."""

import sys
from dataclasses import replace
from pathlib import Path

from media_downloader.bootstrap import RunnerContainer, bootstrap_runner
from media_downloader.settings import Settings
from media_downloader.worker.command import Worker
from tests.scripted_zygote import ScriptedZygote
from tests.work import Work


def build(settings: Settings) -> RunnerContainer:
    """Return what runs in each process of the pool; its zygote has nothing to fork."""
    real = bootstrap_runner(settings)
    return replace(real, zygote=ScriptedZygote(settings.data_dir / "zygote"), run=Work(Path(sys.argv[1])))


if __name__ == "__main__":
    Worker(Settings(), build).run()
