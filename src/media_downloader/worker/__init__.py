"""The Celery worker: its one task takes a job's id to the same runner as everywhere."""

from media_downloader.worker.command import work

__all__ = ["work"]
