"""A Redis that will not do: at the start it ends who needs it, with a word; later it is a 503 with the same word."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from media_downloader.engines.celery_app import QUEUE, TASK, make_app
from tests.chaos.conftest import MEGABYTE, StartCluster, right, started
from tests.cluster import Cluster
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, Program, wait_until
from tests.redis_server import AncientRedis, RedisServer

pytestmark = pytest.mark.chaos

SECRET = "correct-horse"
WAITED_FOR = {"TLS", "Redis is full", "read-only replica"}
NEWER, FOREIGN = "a" * 32, "f" * 32


@contextmanager
def bad_addresses() -> Iterator[dict[str, str]]:
    """Yield addresses by the words that each must be refused with."""
    with ExitStack() as stack:
        locked, plain, full, replica = (
            stack.enter_context(RedisServer(**settings))
            for settings in ({"requirepass": SECRET}, {}, {"maxmemory": "1"}, {"replicaof": "127.0.0.1 1"})
        )
        with plain.client() as client:
            client.set("jobs:all", "theirs")
        yield {
            "asks for a password": locked.tcp_url,
            "keys of another program": plain.tcp_url,
            "TLS": plain.tcp_url.replace("redis://", "rediss://"),
            "Redis is full": full.tcp_url,
            "read-only replica": replica.tcp_url,
            "5.0.14": stack.enter_context(AncientRedis()).tcp_url,
        }


def begin(folder: Path, command: str, url: str) -> "subprocess.Popen[str]":
    program = Program(folder, mode="celery", redis_url=url)
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "media_downloader", command],
        env=program.environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(("command", "few"), [("serve", False), ("worker", True)])
def test_a_redis_that_will_not_do_is_named_at_the_start(tmp_path: Path, command: str, few: bool) -> None:
    """A worker asks in the very way of a server: few of them show that it does."""
    with bad_addresses() as addresses:
        begun = {
            words: begin(tmp_path / f"{number}", command, url)
            for number, (words, url) in enumerate(addresses.items())
            if not few or words in {"asks for a password", "Redis is full", "TLS"}
        }
        # What may be otherwise tomorrow is waited for, and said. With TLS on one side alone nobody answers.
        for words in WAITED_FOR & set(begun):
            waiting = begun.pop(words)
            assert waiting.stdout is not None
            told = next(line for line in waiting.stdout if "Waiting for Redis" in line)
            assert words in told
            waiting.terminate()
            waiting.communicate(timeout=30)
        for words, process in begun.items():
            told, _ = process.communicate(timeout=60)
            assert process.returncode == 2, told
            assert words in told.splitlines()[-1], told
            assert SECRET not in told
            assert "Traceback" not in told


def refusal(server: Program, origin: Origin) -> str:
    """Return how the server refuses to store a job; "" when it stores it."""
    answer = server.client.post("/jobs", json={"url": origin.url("small.mp4"), "paused": True})
    body: Job = answer.json()
    if answer.status_code == 201:
        server.answer(server.client.delete(f"/jobs/{body['id']}"))
        return ""
    assert (answer.status_code, body["error"]) == (503, "store_unavailable"), body
    return str(body["detail"])


def test_a_redis_that_begins_to_refuse_is_named_and_what_ran_goes_on_later(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster()
    job_id = started(many.server, origin, "rate=3000000,slowtimes=4", MEGABYTE)
    with many.redis.client() as admin:
        admin.config_set("maxmemory", "1")
        _told(many, origin, "Redis is full")
        admin.config_set("maxmemory", "0")
        admin.replicaof("127.0.0.1", "1")
        _told(many, origin, "read-only replica")
        admin.replicaof("NO", "ONE")
        admin.config_set("requirepass", SECRET)
        admin.execute_command("AUTH", SECRET)
        admin.client_kill_filter(_type="normal", skipme=True)
        _told(many, origin, "asks for a password")
        assert many.server.client.get(f"/jobs/{job_id}").status_code == 503
        admin.config_set("requirepass", "")
    wait_until(lambda: not refusal(many.server, origin), "the store to be written again", 15)
    right(many, job_id, media)
    many.wait_workers(1)


def _told(many: Cluster, origin: Origin, words: str) -> None:
    wait_until(lambda: words in refusal(many.server, origin), words, 10)


def test_what_is_not_ours_or_newer_than_we_are_is_left_alone(
    cluster: StartCluster, origin: Origin, media: Media
) -> None:
    many = cluster()
    many.server.client.post("/queue/pause", json={})
    newer = many.server.add(origin.url("small.mp4"), priority=9)["id"]
    with many.redis.client() as client:
        client.hset(f"job:{newer}", mapping={"format": "99", "hibernation": "{}"})
        client.set(f"job:{FOREIGN}", "theirs")
        before = client.hgetall(f"job:{newer}")
        job_id = many.server.add(origin.url("big.mp4"))["id"]
        many.server.client.post("/queue/resume", json={})
        app = make_app(many.redis.tcp_url)
        for one in (newer, FOREIGN):
            app.send_task(TASK, args=[one], queue=QUEUE, ignore_result=True)
        app.close()
        right(many, job_id, media)
        for one in (newer, FOREIGN):
            wait_until(lambda one=one: f'"{one}"' in many.workers[0].log(), "the worker to have looked at it", 10)
        assert client.hgetall(f"job:{newer}") == before
        assert client.get(f"job:{FOREIGN}") == "theirs"
    listed = many.server.answer(many.server.client.get("/jobs"))["jobs"]
    assert [job["id"] for job in listed] == [job_id]
    assert many.server.client.get(f"/jobs/{newer}").json()["error"] == "job_unreadable"
    foreign = many.server.client.get(f"/jobs/{FOREIGN}")
    assert (foreign.status_code, foreign.json()["error"]) == (503, "store_unavailable")
    assert "WRONGTYPE" in foreign.json()["detail"]
