"""Moves all jobs between the database of one server and Redis, and says what it did."""

import asyncio
from typing import TYPE_CHECKING

import typer

from media_downloader.bootstrap.migration import Target, migrate_jobs
from media_downloader.settings import Settings

if TYPE_CHECKING:
    from media_downloader.migration import MoveReport

_NEXT = {
    "redis": "Start servers and workers with this REDIS_URL and MEDIA_DOWNLOADER_MODE=celery.",
    "sqlite": "Start the server with MEDIA_DOWNLOADER_MODE=local, or without REDIS_URL.",
}


def migrate(settings: Settings, target: Target, *, dry_run: bool) -> int:
    """Move the jobs and print a report."""
    report = asyncio.run(migrate_jobs(settings, target, dry_run=dry_run))
    for line in _lines(report):
        typer.echo(line)
    return 0


def _lines(report: "MoveReport") -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.jobs.items()))
    total = sum(report.jobs.values())
    begin = "Would move" if report.dry_run else "Moved"
    lines = [f"{begin} {total} jobs to {report.target}" + (f": {states}." if states else ".")]
    if report.work_folders:
        lines.append(f"{report.work_folders} work folders go with them.")
    if report.released:
        lines.append(f"{report.released} of them were left by a runner that is gone and go back to the queue.")
    if report.queue_paused:
        lines.append("The queue is paused, and stays so.")
    if not report.dry_run:
        lines.append(_NEXT[report.target])
    return lines
