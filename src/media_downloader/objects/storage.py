"""A bucket as the program sees it: whole files go in, and come out in ranges."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from media_downloader.errors import ConfigurationError, StorageUnavailable
from media_downloader.objects.keys import object_key
from media_downloader.objects.reading import ObjectFacts, Reader, require_obstore
from media_downloader.objects.s3 import S3, NoSuchKey, NoSuchUpload, Part
from media_downloader.objects.signing import Signer
from media_downloader.settings import Settings

#: S3 wants at least 5 MiB in each part but the last, and takes 10,000 of them.
PART_BYTES = 8 * 1024 * 1024
MOST_PARTS = 9_000

_CHANGED = "Object storage: the file changed while it was copied; it is looked at again."

StoredObject = ObjectFacts


@dataclass(frozen=True)
class Upload:
    """An open file to be stored, and what is to be told with it when it is read."""

    file: BinaryIO
    key: str
    content_type: str
    content_disposition: str


#: Called before each part with the bytes that are stored; what it raises ends the upload.
Report = Callable[[int], Awaitable[None]]


class ObjectStorage:
    """One bucket. Whatever fails raises ``StorageUnavailable`` with a sentence for the operator."""

    def __init__(self, settings: Settings) -> None:
        keys = _keys_of(settings)
        endpoint = settings.s3_endpoint or f"https://s3.{settings.s3_region}.amazonaws.com"
        bucket = settings.s3_bucket or ""
        self._prefix = settings.s3_prefix or ""
        self._seconds = settings.s3_presign_seconds
        self.redirects = settings.s3_serve == "redirect"
        self._s3 = S3(endpoint, bucket, Signer(*keys, settings.s3_region))
        self._reader = Reader(endpoint, bucket, settings.s3_region, *keys)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._s3.close()

    def key(self, job_id: str, name: str) -> str:
        """Return the key of a job's file."""
        return object_key(self._prefix, job_id, name)

    async def check(self) -> None:
        """See that files can be stored, as far as that can be told without storing one."""
        await self._s3.check(object_key(self._prefix, "check", "nothing"))

    # --- reading ------------------------------------------------------------------------------------------------

    async def head(self, key: str) -> ObjectFacts | None:
        """Return an object's facts, None when there is none."""
        return await self._reader.head(key)

    def pieces(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a range."""
        return self._reader.pieces(key, start, stop)

    def link(self, method: str, key: str, content_type: str, content_disposition: str) -> str:
        """Return a link for a browser. It is as good as the file: it must not be logged."""
        told = {"response-content-type": content_type, "response-content-disposition": content_disposition}
        return self._s3.link(method, key, self._seconds, told)

    # --- writing ------------------------------------------------------------------------------------------------

    async def store(self, upload: Upload, report: Report) -> None:
        """Store a file, and return when it is proven that the store has all of it.

        What an earlier run has begun is gone on with. Nothing can be seen under the key before all of it is there.
        """
        size, sha256 = await asyncio.to_thread(_measure, upload.file)
        if not await self._has(upload.key, size, sha256):
            if size <= PART_BYTES:
                await report(0)
                body = await asyncio.to_thread(_read, upload.file, 0, size)
                if hashlib.sha256(body).hexdigest() != sha256:
                    raise StorageUnavailable(_CHANGED)
                await self._s3.put(upload.key, body, _told_with(upload, sha256))
            else:
                await self._in_parts(upload, size, sha256, report)
            if not await self._has(upload.key, size, sha256):
                raise StorageUnavailable("Object storage: the object is not what was sent; it is sent again.")
        # Another program, or a run before this one, may have begun the same.
        for upload_id in await self._s3.uploads(upload.key):
            await self._s3.give_up(upload.key, upload_id)

    async def remove(self, key: str) -> None:
        """Delete an object and every unfinished upload of it; what is gone is no matter."""
        for upload_id in await self._s3.uploads(key):
            await self._s3.give_up(key, upload_id)
        await self._s3.delete(key)

    async def _has(self, key: str, size: int, sha256: str) -> bool:
        try:
            found = await self._s3.head(key)
        except NoSuchKey:
            return False
        return (found.size_bytes, found.sha256) == (size, sha256)

    async def _in_parts(self, upload: Upload, size: int, sha256: str, report: Report) -> None:
        file, key = upload.file, upload.key
        length = max(PART_BYTES, -(-size // MOST_PARTS))
        upload_id, known = await self._resume(key)
        # Without a part of this very file an upload may be anybody's, and its object would be told with another hash.
        if upload_id is None or not known or not await self._is_ours(file, length, known):
            if upload_id is not None:
                await self._s3.give_up(key, upload_id)
            upload_id, known = await self._s3.begin(key, _told_with(upload, sha256)), {}
        done: list[Part] = []
        sent = hashlib.sha256()
        for number, start in enumerate(range(0, size, length), start=1):
            await report(start)
            body = await asyncio.to_thread(_read, file, start, min(length, size - start))
            await asyncio.to_thread(sent.update, body)
            part = known.get(number)
            if part is None or not _matches(part, body):
                part = await self._part(key, upload_id, number, body)
            done.append(part)
        if sent.hexdigest() != sha256:
            # It was begun with the hash of something else.
            await self._s3.give_up(key, upload_id)
            raise StorageUnavailable(_CHANGED)
        with suppress(NoSuchUpload):
            await self._s3.finish(key, upload_id, done)

    async def _part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        try:
            return await self._s3.put_part(key, upload_id, number, body)
        except NoSuchUpload:
            raise StorageUnavailable("Object storage: the upload was given up there; it is begun anew.") from None

    async def _resume(self, key: str) -> tuple[str | None, dict[int, Part]]:
        """Return the upload that has most of the file already; the others are given up."""
        begun: list[tuple[int, str, dict[int, Part]]] = []
        for upload_id in await self._s3.uploads(key):
            with suppress(NoSuchUpload):
                parts = {part.number: part for part in await self._s3.parts(key, upload_id)}
                begun.append((len(parts), upload_id, parts))
        begun.sort(key=lambda one: one[:2])
        for _, upload_id, _ in begun[:-1]:
            await self._s3.give_up(key, upload_id)
        return (begun[-1][1], begun[-1][2]) if begun else (None, {})

    @staticmethod
    async def _is_ours(file: BinaryIO, length: int, known: dict[int, Part]) -> bool:
        """Say whether all parts of an upload are of this file; the first that is not, and it is another's."""
        for number, part in known.items():
            if not _matches(part, await asyncio.to_thread(_read, file, (number - 1) * length, length)):
                return False
        return True


def object_storage(settings: Settings) -> ObjectStorage | None:
    """Return the bucket of the settings, None when there is none. Raises ``ConfigurationError``."""
    if settings.s3_bucket is None:
        return None
    require_obstore()
    return ObjectStorage(settings)


def _keys_of(settings: Settings) -> tuple[str, str]:
    access, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if access is None or secret is None:
        raise ConfigurationError(
            "MEDIA_DOWNLOADER_S3_BUCKET needs MEDIA_DOWNLOADER_S3_ACCESS_KEY_ID and "
            "MEDIA_DOWNLOADER_S3_SECRET_ACCESS_KEY."
        )
    return access.get_secret_value(), secret.get_secret_value()


def _told_with(upload: Upload, sha256: str) -> dict[str, str]:
    return {
        "content-type": upload.content_type,
        "content-disposition": upload.content_disposition,
        "x-amz-meta-sha256": sha256,
    }


def _measure(file: BinaryIO) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    file.seek(0)
    while piece := file.read(1024 * 1024):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _matches(part: Part, body: bytes) -> bool:
    return part.size_bytes == len(body) and part.etag == hashlib.md5(body, usedforsecurity=False).hexdigest()
