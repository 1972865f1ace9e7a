"""The calls of S3 that write: uploads in parts that can be found again, as obstore's cannot."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import httpx2

from media_downloader.errors import StorageUnavailable
from media_downloader.objects.problems import explain
from media_downloader.objects.signing import Signer, path_of, query_string

#: A store that takes longer to answer to a part of 8 MiB is away.
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
#: What an error's body is read to.
ERROR_BYTES = 16 * 1024

_NOT_S3 = "Object storage: the endpoint does not answer as S3 does."


class NoSuchUpload(Exception):
    """The upload was finished, given up, or never begun."""


class NoSuchKey(Exception):
    """There is no such object."""


@dataclass(frozen=True)
class Part:
    """A part that the store has."""

    number: int
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Head:
    """What the store says of an object."""

    size_bytes: int
    sha256: str | None


class S3:
    """One bucket. Raises ``StorageUnavailable`` for everything but what is named."""

    def __init__(self, endpoint: str, bucket: str, signer: Signer) -> None:
        self._base = f"{endpoint.rstrip('/')}/{bucket}"
        self._bucket = bucket
        self._signer = signer
        self._client = httpx2.AsyncClient(timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    def link(self, method: str, key: str, seconds: int, more: Mapping[str, str]) -> str:
        """Return a link to an object that works for a while; whoever has it may use it."""
        return self._signer.link(method, f"{self._base}/{path_of(key)}", datetime.now(UTC), seconds, more)

    async def check(self, key: str) -> None:
        """See that the store answers, knows us and has the bucket. The key may exist or not."""
        try:
            await self._call("GET", key, {}, headers={"range": "bytes=0-0"})
        except NoSuchKey:
            return

    async def head(self, key: str) -> Head:
        """Return what the store has under a key. Raises ``NoSuchKey``."""
        try:
            answer = await self._call("HEAD", key, {})
        except (StorageUnavailable, NoSuchKey):
            # An answer without a body does not say why: whether the key is missing or the bucket, who is refused.
            await self.check(key)
            raise
        return Head(_number(answer.headers.get("content-length", "-1")), answer.headers.get("x-amz-meta-sha256"))

    async def put(self, key: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Write a small object in one step."""
        answer = await self._call("PUT", key, {}, body, headers)
        _check_etag(answer, body)

    async def uploads(self, key: str) -> list[str]:
        """Return the unfinished uploads of this very key."""
        answer = await self._call("GET", "", {"uploads": "", "prefix": key, "encoding-type": "url"})
        found = _all(_parse(answer), "Upload")
        return [_text(one, "UploadId") for one in found if key in {_text(one, "Key"), unquote_plus(_text(one, "Key"))}]

    async def begin(self, key: str, headers: Mapping[str, str]) -> str:
        """Begin an upload and return its id."""
        return _text(_parse(await self._call("POST", key, {"uploads": ""}, headers=headers)), "UploadId")

    async def parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that the store has. Raises ``NoSuchUpload``."""
        parts: list[Part] = []
        marker = ""
        while True:
            query = {"uploadId": upload_id} | ({"part-number-marker": marker} if marker else {})
            page = _parse(await self._call("GET", key, query))
            for one in _all(page, "Part"):
                etag = _text(one, "ETag").strip('"')
                parts.append(Part(_number(_text(one, "PartNumber")), _number(_text(one, "Size")), etag))
            marker = _text(page, "NextPartNumberMarker")
            if _text(page, "IsTruncated") != "true" or not marker:
                return parts

    async def put_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """Write one part; the store checks it by its hash. Raises ``NoSuchUpload``."""
        answer = await self._call("PUT", key, {"partNumber": str(number), "uploadId": upload_id}, body)
        _check_etag(answer, body)
        return Part(number, len(body), answer.headers.get("etag", "").strip('"'))

    async def finish(self, key: str, upload_id: str, parts: list[Part]) -> None:
        """Make the object of its parts; before that it cannot be seen. Raises ``NoSuchUpload``."""
        listed = "".join(
            f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{escape(part.etag)}"</ETag></Part>' for part in parts
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        answer = await self._call("POST", key, {"uploadId": upload_id}, body)
        # The one call that may fail with a status of 200.
        if b"<Error>" in answer.content[:ERROR_BYTES]:
            raise self._refused(answer)

    async def give_up(self, key: str, upload_id: str) -> None:
        """Have the store forget the parts; an upload that is gone is no matter."""
        try:
            await self._call("DELETE", key, {"uploadId": upload_id})
        except (NoSuchUpload, NoSuchKey):
            return

    async def delete(self, key: str) -> None:
        """Delete an object; one that is gone is no matter."""
        try:
            await self._call("DELETE", key, {})
        except NoSuchKey:
            return

    async def _call(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        url = f"{self._base}/{path_of(key)}" if key else self._base
        if query:
            url = f"{url}?{query_string(query)}"
        digest, md5 = await asyncio.to_thread(_digests, body)
        extra = dict(headers or {}) | ({"content-md5": md5} if body else {})
        try:
            signed = self._signer.headers(method, url, datetime.now(UTC), digest, extra)
            answer = await self._client.request(method, url, content=body, headers=signed)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise StorageUnavailable(explain(type(error).__name__, self._bucket)) from None
        if answer.is_success or answer.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
            return answer
        raise self._refused(answer)

    def _refused(self, answer: httpx2.Response) -> Exception:
        code = _error_code(answer)
        if code == "NoSuchUpload":
            return NoSuchUpload()
        if code == "NoSuchKey" or (answer.status_code == httpx2.codes.NOT_FOUND and not code):
            return NoSuchKey()
        return StorageUnavailable(explain(code or str(answer.status_code), self._bucket))


def _digests(body: bytes) -> tuple[str, str]:
    return hashlib.sha256(body).hexdigest(), b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _check_etag(answer: httpx2.Response, body: bytes) -> None:
    """An ETag is the MD5 of what arrived, unless the store encrypts with a key of its own."""
    etag = answer.headers.get("etag", "").strip('"')
    encrypted = answer.headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    is_md5 = (
        len(etag) == 32 and not encrypted and "x-amz-server-side-encryption-customer-algorithm" not in answer.headers
    )
    if is_md5 and etag != hashlib.md5(body, usedforsecurity=False).hexdigest():
        raise StorageUnavailable("Object storage: what arrived there is not what was sent; it is sent again.")


def _parse(answer: httpx2.Response) -> ET.Element:
    try:
        # What the operator's own store says; entities of a hostile one are limited by expat.
        return ET.fromstring(answer.content)  # noqa: S314
    except ET.ParseError:
        raise StorageUnavailable(_NOT_S3) from None


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise StorageUnavailable(_NOT_S3) from None


def _error_code(answer: httpx2.Response) -> str:
    try:
        return _text(ET.fromstring(answer.content[:ERROR_BYTES]), "Code")  # noqa: S314 - as above
    except ET.ParseError:
        return ""


def _all(element: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in element if one.tag.rpartition("}")[2] == name]


def _text(element: ET.Element, name: str) -> str:
    return next((one.text or "" for one in _all(element, name)), "")
