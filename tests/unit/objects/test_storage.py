"""Files go into a bucket whole or not at all, and an upload that was cut off is gone on with."""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from media_downloader.errors import ConfigurationError, StorageUnavailable
from media_downloader.objects.storage import PART_BYTES, ObjectStorage, Upload, object_storage
from media_downloader.settings import Settings
from tests.s3_server import BUCKET, S3Server

NAME = "job/ünï # 100% [x] (2)'&+=.mp4"
SIZE = 4 * PART_BYTES + 1234


def content(path: Path) -> bytes:
    return path.read_bytes()


def fill(path: Path) -> None:
    path.write_bytes(os.urandom(SIZE))


class CutOff(Exception):
    """What ends an upload in a test."""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def s3(server: S3Server) -> S3Server:
    """The server with an empty bucket."""
    for key in server.object_keys():
        server.client.delete_object(Bucket=BUCKET, Key=key)
    for one in server.unfinished():
        server.client.abort_multipart_upload(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"])
    return server


def settings(s3: S3Server, **more: object) -> Settings:
    return Settings.model_validate(s3.settings(**more))


@pytest.fixture
async def storage(s3: S3Server) -> AsyncIterator[ObjectStorage]:
    made = ObjectStorage(settings(s3))
    yield made
    await made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that takes five parts."""
    made = tmp_path / "big"
    made.write_bytes(os.urandom(SIZE))
    return made


@pytest.fixture
def upload(path: Path) -> Iterator[Upload]:
    with path.open("rb") as file:
        yield Upload(file, NAME, "video/mp4", 'attachment; filename="b  c.mp4"')


async def go_on(_: int) -> None:
    """Nothing ends the upload."""


def cut_at(start: int) -> object:
    async def report(stored: int) -> None:
        if stored >= start:
            raise CutOff

    return report


async def cut_off(storage: ObjectStorage, upload: Upload, start: int) -> None:
    with pytest.raises(CutOff):
        await storage.store(upload, cut_at(start))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, SIZE])
async def test_a_file_of_any_size_arrives_whole(
    s3: S3Server, storage: ObjectStorage, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with path.open("rb") as file:
        await storage.store(Upload(file, NAME, "video/mp4", "attachment"), go_on)
    assert s3.body(NAME) == content(path)
    told = s3.client.head_object(Bucket=BUCKET, Key=NAME)
    assert told["ContentType"] == "video/mp4"
    assert told["ContentDisposition"] == "attachment"
    assert told["Metadata"]["sha256"] == hashlib.sha256(content(path)).hexdigest()
    assert s3.unfinished() == []


async def test_what_was_cut_off_is_gone_on_with(
    s3: S3Server, storage: ObjectStorage, upload: Upload, path: Path
) -> None:
    await cut_off(storage, upload, 3 * PART_BYTES)
    assert s3.object_keys() == []
    assert s3.parts() == 3
    before = s3.line.sent_bytes
    await storage.store(upload, go_on)
    assert s3.line.sent_bytes - before < 2 * PART_BYTES
    assert s3.body(NAME) == content(path)
    assert s3.unfinished() == []


async def test_what_is_there_is_not_sent_again(s3: S3Server, storage: ObjectStorage, upload: Upload) -> None:
    await storage.store(upload, go_on)
    before = s3.line.sent_bytes
    await storage.store(upload, go_on)
    assert s3.line.sent_bytes - before < 10_000


async def test_an_upload_of_another_content_is_given_up(
    s3: S3Server, storage: ObjectStorage, upload: Upload, path: Path
) -> None:
    await cut_off(storage, upload, 2 * PART_BYTES)
    fill(path)
    await storage.store(upload, go_on)
    assert s3.body(NAME) == content(path)
    assert s3.unfinished() == []


async def test_a_file_that_changes_meanwhile_is_not_stored_under_its_old_hash(
    s3: S3Server, storage: ObjectStorage, upload: Upload, path: Path
) -> None:
    async def report(stored: int) -> None:
        if stored == 2 * PART_BYTES:
            fill(path)

    with pytest.raises(StorageUnavailable, match="changed while"):
        await storage.store(upload, report)
    assert s3.object_keys() == []
    await storage.store(upload, go_on)
    assert s3.body(NAME) == content(path)
    assert s3.unfinished() == []


async def test_the_environment_of_other_programs_changes_nothing(
    s3: S3Server, storage: ObjectStorage, upload: Upload, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.store(upload, go_on)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "somebody-elses")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fresh = ObjectStorage(settings(s3))
    assert await fresh.head(NAME) is not None
    assert b"".join([piece async for piece in fresh.pieces(NAME, 0, 100)]) == content(path)[:100]
    await fresh.close()


async def test_many_begun_uploads_end_as_one_object(
    s3: S3Server, storage: ObjectStorage, upload: Upload, path: Path
) -> None:
    for _ in range(3):
        s3.client.create_multipart_upload(Bucket=BUCKET, Key=NAME)
    other = s3.client.create_multipart_upload(Bucket=BUCKET, Key=f"{NAME}.of-somebody-else")
    await storage.store(upload, go_on)
    await storage.store(upload, go_on)
    assert s3.body(NAME) == content(path)
    assert [one["UploadId"] for one in s3.unfinished()] == [other["UploadId"]]


async def test_a_part_that_arrives_damaged_is_noticed(
    s3: S3Server, storage: ObjectStorage, upload: Upload, path: Path
) -> None:
    await cut_off(storage, upload, PART_BYTES)
    s3.line.spoil_longer_than = 60_000
    with pytest.raises(StorageUnavailable):
        await storage.store(upload, go_on)
    assert s3.line.spoil_longer_than is None
    assert s3.object_keys() == []
    await storage.store(upload, go_on)
    assert s3.body(NAME) == content(path)


async def test_a_removal_takes_the_object_and_what_was_begun(
    s3: S3Server, storage: ObjectStorage, upload: Upload
) -> None:
    await storage.store(upload, go_on)
    s3.client.create_multipart_upload(Bucket=BUCKET, Key=NAME)
    s3.client.put_object(Bucket=BUCKET, Key=f"{NAME}2", Body=b"not ours")
    await storage.remove(NAME)
    await storage.remove(NAME)
    assert s3.object_keys() == [f"{NAME}2"]
    assert s3.unfinished() == []


async def test_ranges_are_read_and_what_is_gone_is_told(storage: ObjectStorage, upload: Upload, path: Path) -> None:
    await storage.store(upload, go_on)
    facts = await storage.head(NAME)
    assert facts is not None
    assert facts.size_bytes == SIZE
    assert facts.etag.startswith('"')
    got = b"".join([piece async for piece in storage.pieces(NAME, 1000, 3_000_000)])
    assert got == content(path)[1000:3_000_000]
    assert await storage.head("job/nothing") is None
    with pytest.raises(StorageUnavailable, match="gone"):
        _ = [piece async for piece in storage.pieces("job/nothing", 0, 10)]


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"s3_access_key_id": "AKIAWRONG"}, "does not know the access key"),
        ({"s3_secret_access_key": "not-the-secret"}, "refuses the secret key"),
        ({"s3_bucket": "no-such-bucket"}, 'no bucket "no-such-bucket"'),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
async def test_what_is_wrong_is_told_without_secrets(
    s3: S3Server, upload: Upload, wrong: dict[str, object], told: str
) -> None:
    storage = ObjectStorage(settings(s3, **wrong))

    async def read() -> None:
        await storage.head(NAME)
        _ = [piece async for piece in storage.pieces(NAME, 0, 10)]

    sentences = []
    for call in (storage.check, lambda: storage.store(upload, go_on), lambda: storage.remove(NAME), read):
        with pytest.raises(StorageUnavailable) as caught:
            await call()
        sentences.append(caught.value.detail)
    assert [sentence for sentence in sentences[:3] if told not in sentence] == []
    for secret in (s3.secret_access_key, "not-the-secret", "AKIAWRONG", s3.access_key_id):
        assert secret not in " ".join(sentences)
    assert s3.object_keys() == []
    await storage.close()


async def test_all_is_well_with_an_empty_bucket(storage: ObjectStorage) -> None:
    await storage.check()


def test_a_bucket_without_keys_is_refused(s3: S3Server) -> None:
    with pytest.raises(ConfigurationError, match="S3_ACCESS_KEY_ID"):
        object_storage(settings(s3, s3_access_key_id=None))
    assert object_storage(Settings()) is None
