"""Servers that will not do: each is told in words at the start, or by a 503 that names the cause."""

import asyncio
import ssl
import time

import pytest
import redis
import structlog

from media_downloader.errors import ConfigurationError, StoreTooNew, StoreUnavailable
from media_downloader.jobs.model import Progress
from media_downloader.jobs.state import Signal, State
from media_downloader.ports import Change, NewJobs
from media_downloader.stores.redis import RedisJobStore
from tests.redis_server import AncientRedis, RedisServer
from tests.unit.stores.jobs import CLAIM, a_job

SECRET = "correct-horse"


async def refusal(url: str) -> Exception:
    """Return why the store cannot be opened; that is known in good time."""
    began = time.monotonic()
    store = RedisJobStore(url)
    with pytest.raises((ConfigurationError, StoreUnavailable, StoreTooNew)) as refused:
        await store.open()
    assert time.monotonic() - began < 5
    return refused.value


async def test_a_missing_and_a_wrong_password_are_told_without_it() -> None:
    with RedisServer(requirepass=SECRET) as server:
        missing = await refusal(server.tcp_url)
        wrong = await refusal(server.tcp_url.replace("//", f"//:not-{SECRET}@"))
        right = RedisJobStore(server.tcp_url.replace("//", f"//:{SECRET}@"))
        await right.open()
        await right.close()
    assert isinstance(missing, ConfigurationError)
    assert "asks for a password" in str(missing)
    assert isinstance(wrong, ConfigurationError)
    assert "refuses the user or the password" in str(wrong)
    assert SECRET not in str(wrong)


@pytest.mark.parametrize("url", [f"http://:{SECRET}@localhost", "localhost:6379", f"redis://:{SECRET}@localhost:x"])
async def test_an_address_that_is_none_is_told_without_its_password(url: str) -> None:
    told = await refusal(url)
    assert isinstance(told, ConfigurationError)
    assert SECRET not in str(told)
    assert told.__cause__ is None


async def test_tls_on_one_side_alone_is_told(redis_server: RedisServer) -> None:
    assert "TLS" in str(await refusal(redis_server.tcp_url.replace("redis://", "rediss://")))

    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    # Without a certificate: a client that speaks no TLS is sent away before one would be shown.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with await asyncio.start_server(never, "127.0.0.1", 0, ssl=context) as with_tls:
        port = with_tls.sockets[0].getsockname()[1]
        assert "TLS" in str(await refusal(f"redis://127.0.0.1:{port}/0"))


async def test_something_that_is_no_redis_is_told() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        assert isinstance(await refusal(f"redis://127.0.0.1:{port}/0"), ConfigurationError)


async def test_version_5_is_told() -> None:
    with AncientRedis() as server:
        told = await refusal(server.tcp_url)
    assert isinstance(told, ConfigurationError)
    assert "5.0.14" in str(told)


async def test_a_replica_is_told_at_the_start_and_when_it_becomes_one(own_redis: RedisServer, redis_url: str) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    with own_redis.client() as other:
        other.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match="read-only replica"):
        await store.add(NewJobs([a_job()]))
    assert "read-only replica" in str(await refusal(own_redis.url))
    with own_redis.client() as other:
        other.replicaof("NO", "ONE")
    await store.add(NewJobs([a_job()]))
    await store.close()


async def test_a_full_redis_is_told_and_running_jobs_can_still_end(own_redis: RedisServer) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    await store.add(NewJobs([a_job()]))
    job = await store.claim(a_job().id, CLAIM)
    with own_redis.client() as other:
        other.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="full"):
            await store.add(NewJobs([a_job(2)]))
        assert (await store.counts())[State.QUEUED] == 0
        ended = await store.change(job.id, Change(State.DONE, attempt=job.attempt))
        assert ended.state is State.DONE
        other.config_set("maxmemory", "0")
    await store.add(NewJobs([a_job(2)]))
    await store.close()
    with RedisServer(maxmemory="1") as full:
        assert "full" in str(await refusal(full.url))


async def test_a_full_redis_ends_nothing_that_runs_and_takes_nothing_new(own_redis: RedisServer) -> None:
    store = RedisJobStore(own_redis.url)
    await store.open()
    parent = a_job(9, is_playlist=True)
    await store.add(NewJobs([a_job(1), a_job(2), a_job(3), parent, a_job(4, parent_id=parent.id)]))
    running = await store.claim(a_job(1).id, CLAIM)
    with own_redis.client() as other:
        other.set("theirs", "x" * 2_000_000)
        other.config_set("maxmemory", "1500000")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            other.set("theirs", "y")
        await store.change(running.id, Change(State.DOWNLOADING, {"workdir": "md_1"}, attempt=1))
        assert await store.renew(running.id, 1, 60) is None
        await store.save_progress(running.id, 1, Progress(downloaded_bytes=7))
        await store._flush()
        assert '"downloaded_bytes":7' in str(other.hget(f"job:{running.id}", "progress"))
        await store.send_signal(running.id, Signal.CANCEL)
        assert await store.renew(running.id, 1, 60) is Signal.CANCEL
        await store.change_many({a_job(2).id: Change(State.PAUSED), a_job(4).id: Change(State.PAUSED)})
        await store.move([a_job(3).id], None)
        await store.change(running.id, Change(State.CANCELED, {"workdir": None}, attempt=1))
        # Neither a job alone, nor one whose playlist is there and changes with it; nor is anything left of them.
        before = set(other.scan_iter())
        for new in (NewJobs([a_job(5)]), NewJobs([a_job(6, parent_id=parent.id)]), NewJobs([a_job(7)], "key", "x")):
            with pytest.raises(StoreUnavailable, match="full"):
                await store.add(new)
        assert set(other.scan_iter()) == before
        assert (await store.get(parent.id)).children == {State.PAUSED: 1}
        other.config_set("maxmemory", "0")
    await store.add(NewJobs([a_job(5)]))
    await store.close()


@pytest.mark.parametrize("key", ["jobs:all", "jobs:queue", "media_downloader:schema"])
async def test_keys_of_somebody_else_are_told_and_left_alone(
    redis_server: RedisServer, redis_url: str, key: str
) -> None:
    with redis_server.client() as other:
        other.hset(key, "theirs", "1")
        assert isinstance(await refusal(redis_url), ConfigurationError)
        assert other.keys() == [key]
        assert other.hgetall(key) == {"theirs": "1"}


async def test_keys_beside_ours_are_left_alone(redis_server: RedisServer, redis_url: str) -> None:
    with redis_server.client() as other:
        other.set("theirs", "1")
        store = RedisJobStore(redis_url)
        await store.open()
        await store.add(NewJobs([a_job()]))
        await store.remove(a_job().id)
        await store.close()
        assert other.get("theirs") == "1"


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(redis_server: RedisServer, redis_url: str) -> None:
    with redis_server.client() as other:
        other.set("media_downloader:schema", "999")
        assert isinstance(await refusal(redis_url), StoreTooNew)
        assert other.keys() == ["media_downloader:schema"]


async def test_a_newer_version_that_takes_over_meanwhile_is_not_written_over(
    store: RedisJobStore, redis_server: RedisServer
) -> None:
    await store.add(NewJobs([a_job()]))
    with redis_server.client() as other:
        other.set("media_downloader:schema", "999")
        before = other.hgetall(f"job:{a_job().id}")
        with pytest.raises(StoreTooNew):
            await store.change(a_job().id, Change(State.PAUSED))
        assert other.hgetall(f"job:{a_job().id}") == before


async def test_a_policy_that_throws_jobs_away_is_warned_of() -> None:
    with RedisServer(**{"maxmemory-policy": "allkeys-lru"}) as server, structlog.testing.capture_logs() as logs:
        store = RedisJobStore(server.url)
        await store.open()
        await store.close()
    assert any(entry.get("policy") == "allkeys-lru" and entry["log_level"] == "warning" for entry in logs)
