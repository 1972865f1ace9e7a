"""What is asked of a Redis before jobs are put into it: version, rights, room, and that it holds nobody else's keys."""

from typing import Any

import structlog

from media_downloader.errors import ConfigurationError, StoreTooNew, StoreUnavailable
from media_downloader.redis_client import READ_ONLY, Redis, RedisError, explain, is_refusal
from media_downloader.stores.redis_keys import KEY_TYPES, SCHEMA, SCHEMA_VERSION
from media_downloader.stores.redis_link import script

log = structlog.get_logger(__name__)

OLDEST = (6, 2)


async def inspect(client: Redis) -> None:
    """Raise ``ConfigurationError`` for a server that will never do, ``StoreUnavailable`` for one that cannot now."""
    try:
        info: dict[str, Any] = await client.info()
    except RedisError as error:
        if is_refusal(error):
            raise ConfigurationError(explain(error)) from None
        raise
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise ConfigurationError(f"Redis is version {version}: 6.2 or newer is needed, or Valkey.")
    if info.get("cluster_enabled"):
        raise ConfigurationError("Redis is a cluster: one server is needed, with or without replicas.")
    if info.get("role") == "slave":
        raise StoreUnavailable(READ_ONLY)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        log.warning("Redis may throw jobs away when it is full: set maxmemory-policy to noeviction", policy=policy)
    if not info.get("aof_enabled"):
        log.warning("Redis forgets the newest jobs when it is restarted: set appendonly to yes")


async def claim_keys(client: Redis) -> None:
    """Make sure that the keys are ours; where there are none, the store begins."""
    names = [SCHEMA, *KEY_TYPES]
    # In one transaction: another server may be opening the same empty database now.
    async with client.pipeline(transaction=True) as pipeline:
        for name in names:
            pipeline.type(name)
        types = dict(zip(names, await pipeline.execute(), strict=True))
    is_ours = types[SCHEMA] != "none"
    foreign = [
        name for name, kind in KEY_TYPES.items() if types[name] != "none" and (not is_ours or types[name] != kind)
    ]
    if foreign or types[SCHEMA] not in {"none", "string"}:
        raise ConfigurationError(
            f"Redis holds keys of another program under our names ({', '.join(foreign[:3]) or SCHEMA}). "
            "Choose another database: the number at the end of REDIS_URL."
        )
    _check_version(str(await client.register_script(script("begin"))(args=[SCHEMA_VERSION])))


def _check_version(found: str) -> None:
    if not (found.isascii() and found.isdecimal()):
        raise ConfigurationError(f"Redis holds a key {SCHEMA} that is not ours. Choose another database in REDIS_URL.")
    if int(found) > SCHEMA_VERSION:
        raise StoreTooNew(
            f"The jobs in Redis were written by a newer version of Media Downloader (format {found}, this one knows "
            f"{SCHEMA_VERSION}). Install the newer version again, or choose another database in REDIS_URL.",
            found=int(found),
            known=SCHEMA_VERSION,
        )
