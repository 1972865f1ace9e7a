"""One job, from claim to verdict; shared by every engine."""

from media_downloader.runner.runner import Runner, RunnerDeps

__all__ = ["Runner", "RunnerDeps"]
