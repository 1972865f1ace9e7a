"""Moves all jobs from one store to another: copied, compared, and only then removed."""

from media_downloader.migration.moving import Move, MoveReport, Side

__all__ = ["Move", "MoveReport", "Side"]
