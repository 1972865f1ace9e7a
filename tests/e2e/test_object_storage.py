"""Finished files are copied to object storage, served from there and deleted there, whatever dies on the way."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.command import one_line, run
from tests.cluster import Cluster
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Job, Program, wait_until
from tests.s3_server import BUCKET, S3Server

pytestmark = pytest.mark.e2e

Start = Callable[..., Program]
MEBIBYTE = 1024 * 1024
SAME = ("content-length", "content-type", "content-disposition", "content-security-policy", "accept-ranges")
SAME_TOO = ("x-content-type-options", "cache-control", "content-range")


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def copied(server: Program, job_id: str) -> Job:
    """Return the job once its files are in object storage."""
    return server.wait_for(job_id, lambda job: all(one["object_key"] for one in job["artifacts"]), "the copy", 90)


def finished(server: Program, url: str) -> Job:
    """Return a job that is done and copied."""
    job_id = server.add(url)["id"]
    server.wait_done(job_id)
    return copied(server, job_id)


def answer(server: Program, job: Job, method: str = "GET", **headers: str) -> httpx2.Response:
    return server.client.request(method, f"/jobs/{job['id']}/file", headers=headers)


def problems(server: Program) -> str:
    health = server.answer(server.client.get("/health"))
    assert (health["status"] == "degraded") == bool(health["problems"])
    return " ".join(health["problems"])


def test_a_finished_file_is_copied_and_stays(program: Start, origin: Origin, media: Media, s3: S3Server) -> None:
    server = program(**s3.settings(s3_prefix="media"))
    job = finished(server, origin.url("small.mp4"))
    key = f"media/{job['id']}/small.mp4"
    assert job["artifacts"][0]["object_key"] == key
    assert s3.object_keys() == [key]
    assert s3.body(key) == media.small.read_bytes()
    assert sha256(server.file_of(job)) == sha256(media.small)
    assert problems(server) == ""
    assert s3.secret_access_key not in server.log()


def test_what_is_served_from_there_is_served_as_from_here(
    program: Start, origin: Origin, media: Media, s3: S3Server
) -> None:
    server = program(**s3.settings())
    job = finished(server, origin.url("big.mp4"))
    size = media.big.stat().st_size
    asked = [
        {},
        {"range": "bytes=0-0"},
        {"range": "bytes=1000000-9999999"},
        {"range": "bytes=-500"},
        {"range": f"bytes={size - 10}-"},
        {"range": "bytes=5-4"},
        {"range": f"bytes={size}-"},
        {"range": "lines=1-2"},
        {"if-range": '"another"', "range": "bytes=0-9"},
    ]
    methods = ("GET", "HEAD")
    here = [answer(server, job, method, **headers) for headers in asked for method in methods]
    server.file_of(job).unlink()
    assert server.get(job["id"])["allowed_actions"] == []
    there = [answer(server, job, method, **headers) for headers in asked for method in methods]
    for local, remote in zip(here, there, strict=True):
        assert remote.status_code == local.status_code
        assert remote.content == local.content
        for name in (*SAME, *SAME_TOO):
            assert remote.headers.get(name) == local.headers.get(name), name
    assert [one.status_code for one in there[::2]] == [200, 206, 206, 206, 206, 200, 416, 200, 200]
    assert hashlib.sha256(there[0].content).hexdigest() == sha256(media.big)

    several = answer(server, job, range="bytes=0-9,100-109")
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert media.big.read_bytes()[100:110] in several.content
    etag = there[0].headers["etag"]
    assert answer(server, job, **{"if-none-match": etag}).status_code == 304
    assert answer(server, job, **{"if-modified-since": there[0].headers["last-modified"]}).status_code == 304
    assert answer(server, job, **{"if-range": etag, "range": "bytes=0-9"}).content == media.big.read_bytes()[:10]


def test_a_client_may_be_sent_there(program: Start, origin: Origin, media: Media) -> None:
    # This server of the tests knows no signed links, so it asks for no signatures; they are proven elsewhere.
    with S3Server(signed=False) as s3:
        server = program(**s3.settings(s3_serve="redirect", s3_keep_local=False))
        job = finished(server, origin.url("small.mp4"))
        wait_until(lambda: not server.file_of(job).exists(), "the local file to go")
        sent = answer(server, job)
        assert sent.status_code == 307
        assert sent.headers["cache-control"] == "private, no-store"
        link = sent.headers["location"]
        assert link.startswith(f"{s3.endpoint}/{BUCKET}/{job['id']}/small.mp4?")
        got = httpx2.get(link, headers={"range": "bytes=100-199"}, trust_env=False)
        assert got.status_code == 206
        assert got.content == media.small.read_bytes()[100:200]
        assert got.headers["content-disposition"].startswith("attachment; filename=")
        assert "X-Amz-Signature" not in server.log()


def test_files_need_not_be_kept_here(program: Start, origin: Origin, media: Media, s3: S3Server) -> None:
    server = program(**s3.settings(s3_keep_local=False))
    job = finished(server, origin.url("small.mp4"))
    wait_until(lambda: server.published() == [], "the local file to go")
    assert answer(server, job).content == media.small.read_bytes()
    server.restart()
    assert answer(server, job).content == media.small.read_bytes()
    assert server.get(job["id"])["state"] == "done"


def test_deleting_a_job_with_its_files_deletes_the_copies_and_no_others(
    program: Start, origin: Origin, s3: S3Server
) -> None:
    server = program(**s3.settings())
    kept = finished(server, origin.url("small.mp4", "one"))
    job = finished(server, origin.url("small.mp4", "two"))
    s3.client.put_object(Bucket=BUCKET, Key="somebody/else.mp4", Body=b"theirs")
    others = sorted([kept["artifacts"][0]["object_key"], "somebody/else.mp4"])
    s3.line.is_down = True
    server.client.delete(f"/jobs/{job['id']}?files=true")
    server.restart()
    s3.line.is_down = False
    wait_until(lambda: s3.object_keys() == others, "the copy to go", 30)
    wait_until(lambda: list((server.downloads / ".media-downloader" / "outbox").glob("*.json")) == [], "the end of it")
    assert server.client.delete(f"/jobs/{kept['id']}").is_success
    # Without the wish nothing is noted, so nothing can happen later either.
    assert list((server.downloads / ".media-downloader" / "outbox").glob("*.json")) == []
    assert s3.object_keys() == others


def test_retention_reaches_the_copies(program: Start, origin: Origin, s3: S3Server) -> None:
    server = program(**s3.settings(s3_keep_local=False, retention_days=1))
    job = finished(server, origin.url("small.mp4"))
    wait_until(lambda: server.published() == [], "the local file to go")
    record = server.downloads / ".media-downloader" / "records" / f"{job['id']}.json"
    long_ago = time.time() - 3 * 86_400
    os.utime(record, (long_ago, long_ago))
    server.answer(server.client.post("/cleanup", json={"dry_run": False}))
    wait_until(lambda: s3.object_keys() == [], "the copy to go", 30)
    assert not record.exists()
    server.wait_for(job["id"], lambda job: job["artifacts"][0]["object_key"] is None, "the job to tell")
    assert server.get(job["id"])["allowed_actions"] == ["retry"]


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_told_and_waited_for(
    program: Start, origin: Origin, media: Media, s3: S3Server
) -> None:
    s3.line.is_down = True
    server = program(**s3.settings(s3_keep_local=False), retry_max_delay_seconds=1)
    job_id = server.add(origin.url("small.mp4"))["id"]
    server.wait_done(job_id)
    server.wait_for(job_id, lambda job: "cannot be reached" in "".join(job["notices"]), "a notice")
    assert "cannot be reached" in problems(server)
    assert server.published() == ["small.mp4"]
    s3.line.is_down = False
    job = copied(server, job_id)
    assert job["notices"] == []
    wait_until(lambda: problems(server) == "", "health to be good again")
    assert s3.body(job["artifacts"][0]["object_key"]) == media.small.read_bytes()


def test_a_file_that_the_store_does_not_take_keeps_no_other_from_it(
    program: Start, origin: Origin, s3: S3Server
) -> None:
    s3.line.refused = b"/small.mp4 HTTP/"
    server = program(**s3.settings(), retry_max_delay_seconds=1)
    first = server.add(origin.url("small.mp4", "one"))["id"]
    server.wait_done(first)
    server.wait_for(first, lambda job: "Not in object storage" in "".join(job["notices"]), "a notice")
    second = finished(server, origin.url("small.mp4", "two"))
    assert second["artifacts"][0]["name"] == "small (2).mp4"
    assert "cannot be reached" in problems(server)
    s3.line.refused = None
    assert copied(server, first)["notices"] == []
    wait_until(lambda: problems(server) == "", "health to be good again")


def doctors_finding(place: Program, **environment: str) -> dict[str, object]:
    told = run(place, "doctor", "--json", environment=environment)
    assert "Traceback" not in told.stderr
    finding: dict[str, object] = {one["name"]: one for one in json.loads(told.stdout)}["object storage"]
    assert told.returncode == (0 if finding["ok"] else 1)
    return finding


def test_the_doctor_tells_what_is_wrong_with_the_bucket(tmp_path: Path, s3: S3Server) -> None:
    def told(name: str, **settings: object) -> str:
        place = Program(tmp_path / name, **settings)
        place.folder.mkdir()
        finding = doctors_finding(place)
        assert finding["ok"] == (name in {"none", "right"})
        assert s3.secret_access_key not in str(finding)
        return str(finding["detail"])

    assert "No bucket is set" in told("none")
    assert told("right", **s3.settings()) == f'the bucket "{BUCKET}" answers'
    assert "refuses the secret key" in told("secret", **s3.settings(s3_secret_access_key="not-it"))
    assert "no bucket" in told("bucket", **s3.settings(s3_bucket="no-such-bucket"))
    assert "MEDIA_DOWNLOADER_S3_ACCESS_KEY_ID" in told("keys", s3_bucket=BUCKET)


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"s3_secret_access_key": "not-the-secret"}, "refuses the secret key"),
        ({"s3_access_key_id": "AKIAWRONG"}, "does not know the access key"),
        ({"s3_bucket": "no-such-bucket"}, "no bucket"),
    ],
)
def test_wrong_settings_lose_no_file_and_are_told(
    program: Start, origin: Origin, media: Media, s3: S3Server, wrong: dict[str, object], told: str
) -> None:
    server = program(**s3.settings(s3_keep_local=False, **wrong))
    wait_until(lambda: told in problems(server), "health to say it before there is any file")
    job_id = server.add(origin.url("small.mp4"))["id"]
    job = server.wait_done(job_id)
    server.wait_for(job_id, lambda job: told in "".join(job["notices"]), "a notice")
    assert sha256(server.file_of(job)) == sha256(media.small)
    assert s3.object_keys() == []
    assert "not-the-secret" not in server.log()


@pytest.mark.chaos
@pytest.mark.parametrize("mebibytes", [3, 10, 22, 38])
def test_a_kill_in_the_middle_of_an_upload_loses_nothing_and_leaves_nothing(
    program: Start, origin: Origin, media: Media, s3: S3Server, mebibytes: int
) -> None:
    s3.line.budget = mebibytes * MEBIBYTE
    server = program(**s3.settings(s3_keep_local=False))
    job_id = server.add(origin.url("big.mp4"))["id"]
    server.wait_done(job_id)
    parts = mebibytes // 8
    wait_until(lambda: (s3.line.budget or 0) <= 0 and s3.parts() >= parts, "the upload to be half done")
    server.kill()
    assert s3.object_keys() == []
    assert server.published() == ["big.mp4"]
    s3.line.cut()
    s3.line.budget, s3.line.is_down, before = None, False, s3.line.sent_bytes
    server.start()
    job = copied(server, job_id)
    assert s3.body(job["artifacts"][0]["object_key"]) == media.big.read_bytes()
    assert s3.unfinished() == []
    assert s3.line.sent_bytes - before < media.big.stat().st_size - (parts * 8 - 1) * MEBIBYTE
    wait_until(lambda: server.published() == [], "the local file to go")


def test_what_is_deleted_while_it_is_uploaded_leaves_nothing(program: Start, origin: Origin, s3: S3Server) -> None:
    s3.line.budget = 12 * MEBIBYTE
    server = program(**s3.settings())
    job_id = server.add(origin.url("big.mp4"))["id"]
    server.wait_done(job_id)
    wait_until(lambda: s3.parts() == 1, "the upload to have begun")
    assert server.client.delete(f"/jobs/{job_id}?files=true").is_success
    s3.line.budget = None
    outbox = server.downloads / ".media-downloader" / "outbox"
    wait_until(lambda: list(outbox.glob("*.json")) == [], "everything to be done")
    assert s3.object_keys() == []
    assert s3.unfinished() == []


def test_a_cluster_copies_each_file_once_and_serves_it(
    tmp_path: Path, origin: Origin, media: Media, s3: S3Server
) -> None:
    settings = {**s3.settings(s3_keep_local=False), "allowed_endpoints": origin.endpoint}
    with Cluster(tmp_path / "cluster", workers=2, **settings) as many:
        job = finished(many.server, origin.url("big.mp4"))
        wait_until(lambda: many.server.published() == [], "the local file to go")
        assert answer(many.server, job).content == media.big.read_bytes()
        assert s3.line.sent_bytes < 1.2 * media.big.stat().st_size
        many.server.client.delete(f"/jobs/{job['id']}?files=true")
        wait_until(lambda: s3.object_keys() == [], "the copy to go", 30)


@pytest.fixture
def without_obstore(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that does not have the extra."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['obstore'] = None\n")
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_without_the_extra_a_bucket_is_refused_at_the_start(
    tmp_path: Path, without_obstore: dict[str, str], command: str
) -> None:
    place = Program(tmp_path / "place", s3_bucket="bucket", s3_access_key_id="a", s3_secret_access_key="secret-b")
    place.folder.mkdir()
    environment = without_obstore | {"REDIS_URL": "redis://127.0.0.1:9/0", "MEDIA_DOWNLOADER_MODE": "local"}
    told = run(place, command, environment=environment)
    assert told.returncode == 2
    assert 'pip install "media-downloader[s3]"' in told.stderr
    assert "Traceback" not in told.stderr
    assert "secret-b" not in told.stderr


def test_the_doctor_tells_that_the_extra_is_missing(tmp_path: Path, without_obstore: dict[str, str]) -> None:
    place = Program(tmp_path / "place", s3_bucket="bucket", s3_access_key_id="a", s3_secret_access_key="secret-b")
    place.folder.mkdir()
    assert 'pip install "media-downloader[s3]"' in str(doctors_finding(place, **without_obstore)["detail"])


def test_a_bucket_without_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    place = Program(tmp_path / "place", s3_bucket="bucket")
    place.folder.mkdir()
    assert "MEDIA_DOWNLOADER_S3_ACCESS_KEY_ID" in one_line(run(place, "serve"), 2)
