"""Where jobs live and run: in this server, or in Redis and on workers; decided once, at start, and said aloud."""

from dataclasses import dataclass

import structlog

from media_downloader.bootstrap.cluster import open_cluster_once, until_cluster_opens
from media_downloader.errors import ConfigurationError, StoreUnavailable
from media_downloader.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Choice:
    """The mode, and why it is not the one that was hoped for."""

    celery: bool
    problem: str | None = None

    @property
    def name(self) -> str:
        """The mode's name, as ``/health`` tells it."""
        return "celery" if self.celery else "local"


async def choose_mode(settings: Settings) -> Choice:
    """Decide by the settings and by whether Redis answers.

    The mode "celery" waits for Redis as long as it takes. "auto" falls back to this server alone, and says so in the
    log and in ``/health`` for as long as it runs: jobs that live in Redis are not to be forgotten in silence. A Redis
    that answers and refuses is neither waited for nor fallen back from: ``ConfigurationError``, as for a volume that
    is not the one of the other members.
    """
    if settings.mode == "local":
        return Choice(celery=False)
    if settings.redis_url is None:
        if settings.mode == "celery":
            raise ConfigurationError("MEDIA_DOWNLOADER_MODE=celery needs REDIS_URL: the jobs live there.")
        return Choice(celery=False)
    if settings.mode == "celery":
        await until_cluster_opens(settings)
        return Choice(celery=True)
    try:
        await open_cluster_once(settings)
    except StoreUnavailable as error:
        problem = error.detail
    else:
        return Choice(celery=True)
    log.error("Redis is configured and cannot be used: falling back to this server alone", problem=problem)
    return Choice(
        celery=False,
        problem=f"{problem} Downloads run in this server alone, and jobs that live in Redis are neither shown nor run. "
        "Restart the server when Redis is back, or set MEDIA_DOWNLOADER_MODE=celery to wait for it.",
    )
