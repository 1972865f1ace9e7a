"""Settings to what runs: the only package that picks implementations."""

from media_downloader.bootstrap.cluster import (
    RunnerContainer,
    StationContainer,
    bootstrap_runner,
    bootstrap_station,
    look_at_redis,
    shared_library,
    until_cluster_opens,
)
from media_downloader.bootstrap.container import DATABASE_NAME, Container, bootstrap
from media_downloader.bootstrap.mode import Choice, choose_mode
from media_downloader.bootstrap.objects import storage_of

__all__ = [
    "DATABASE_NAME",
    "Choice",
    "Container",
    "RunnerContainer",
    "StationContainer",
    "bootstrap",
    "bootstrap_runner",
    "bootstrap_station",
    "choose_mode",
    "look_at_redis",
    "shared_library",
    "storage_of",
    "until_cluster_opens",
]
