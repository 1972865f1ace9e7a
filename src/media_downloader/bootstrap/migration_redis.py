"""What a move of jobs asks of Redis itself: that nobody of ours uses it, and that it keeps what it was given."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from media_downloader.engines.worker_registry import WorkerRegistry
from media_downloader.errors import ConfigurationError, StoreUnavailable
from media_downloader.redis_client import Redis, RedisError, connect, explain, is_refusal

log = structlog.get_logger(__name__)

#: Redis writes its log through to the disk once a second.
SYNC_SECONDS = 10.0
#: How long Redis may take to write everything down when it keeps no log.
SAVE_SECONDS = 60.0


@contextlib.asynccontextmanager
async def _client(url: str, seconds: float) -> AsyncIterator[Redis]:
    """Lend a connection. Raises ``StoreUnavailable`` when Redis does not answer in time."""
    client = connect(url, connections=1)
    try:
        async with asyncio.timeout(seconds):
            yield client
    except TimeoutError:
        raise StoreUnavailable(explain(None)) from None
    except RedisError as error:
        if is_refusal(error):
            raise ConfigurationError(explain(error)) from None
        raise StoreUnavailable(explain(error)) from None
    finally:
        await client.aclose(close_connection_pool=True)


async def refuse_while_connected(url: str) -> None:
    """Raise ``ConfigurationError`` while workers live or other programs of ours are connected."""
    async with _client(url, SYNC_SECONDS) as client:
        alive = [worker for worker in await WorkerRegistry(lambda: client).workers() if worker.alive]
        if alive:
            raise ConfigurationError(
                f"Workers are running ({', '.join(sorted(worker.host for worker in alive))}). Stop all of them and all "
                "servers, move the jobs, and start them again; one that was killed is forgotten within 15 seconds."
            )
        others = await _others(client)
        if others:
            raise ConfigurationError(
                f"Servers or workers are connected to Redis (from {', '.join(others)}). Stop all of them, move the "
                "jobs, and start them again. Jobs are not moved while anything may change them."
            )


async def _others(client: Redis) -> list[str]:
    """Return from where other programs of ours are connected."""
    try:
        ours = await client.client_id()
        lines = await client.client_list()
    except RedisError as error:
        if not is_refusal(error):
            raise
        log.warning("Redis does not tell who is connected: see to it that no server runs", problem=explain(error))
        return []
    ours_by_name = [line for line in lines if line.get("name") == "media-downloader" and int(line["id"]) != ours]
    return sorted({str(line["addr"]).rpartition(":")[0] or "here" for line in ours_by_name})


async def flush_to_disk(url: str) -> None:
    """Have Redis write down what it was given, so that not even a power cut takes it back.

    Raises ``ConfigurationError`` when it cannot, and ``StoreUnavailable``.
    """
    async with _client(url, SAVE_SECONDS) as client:
        kept = await client.info("persistence")
        if kept.get("aof_enabled"):
            await _sync_log(client)
        else:
            await client.save()


async def _sync_log(client: Redis) -> None:
    try:
        # Not on the connection that wrote: one write more here, and the wait for it covers all that came before.
        await client.set("media_downloader:synced", "1", ex=60)
        synced, _ = await client.waitaof(1, 0, int(SYNC_SECONDS * 1000))
    except RedisError as error:
        if not is_refusal(error):
            raise
        # Before Redis 7.2: the log goes to the disk each second.
        await asyncio.sleep(2.0)
        kept = await client.info("persistence")
        synced = int(not kept.get("aof_pending_bio_fsync"))
    if not synced:
        raise StoreUnavailable("Redis does not get its log onto the disk. Nothing was removed; run this again.")
