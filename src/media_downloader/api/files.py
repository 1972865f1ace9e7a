"""The published files of a job, with ranges."""

import os
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from media_downloader import errors
from media_downloader.api.dependencies import KnownId, Use
from media_downloader.api.error_answers import documented
from media_downloader.api.ranged_file import RangedFile, RemoteFile
from media_downloader.jobs.model import Artifact
from media_downloader.library import INLINE_TYPES, OpenFile, content_disposition, inline_type

if TYPE_CHECKING:
    from media_downloader.objects import ObjectStorage

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/jobs", tags=["files"])

_ERRORS = documented(
    errors.JobNotFound,
    errors.JobExpired,
    errors.JobUnreadable,
    errors.NoFileYet,
    errors.FileMissing,
    errors.PathEscapesLibrary,
    errors.RangeNotSatisfiable,
    errors.StorageUnavailable,
)
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_WHOLE = dict.fromkeys(("application/octet-stream", *sorted(INLINE_TYPES)), _BYTES)
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": _WHOLE},
    206: {"description": "A part of it, or several.", "content": _WHOLE | {"multipart/byteranges": _BYTES}},
    307: {"description": "It is in object storage: the client is sent there, if so configured."},
    304: {"description": "The client has it already."},
    **_ERRORS,
}


class PublishedFile(RangedFile):
    """An open file."""

    def __init__(self, opened: OpenFile, headers: dict[str, str], media_type: str) -> None:
        self._descriptor = opened.descriptor
        # The path of the open file itself: whatever happens to its name meanwhile, this one is sent.
        path = f"/dev/fd/{opened.descriptor}"
        super().__init__(path, headers=headers, media_type=media_type, stat_result=os.fstat(opened.descriptor))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and close it whatever happens."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)


@router.get(
    "/{job_id}/file", operation_id="getJobFile", response_class=FileResponse, response_model=None, responses=_ANSWERS
)
@router.head(
    "/{job_id}/file", operation_id="headJobFile", response_class=FileResponse, response_model=None, responses=_ANSWERS
)
async def get_file(
    request: Request,
    use: Use,
    job_id: KnownId,
    index: Annotated[int, Query(ge=0, le=1000, description="Which of the job's artifacts.")] = 0,
    inline: Annotated[bool, Query(description="Show it in place of saving it, where that is safe.")] = False,
) -> Response:
    """Send a file of a job: whole, or in ranges. What is served can never run as a page of this server."""
    job = (await use.service.get(job_id)).job
    if index >= len(job.artifacts):
        raise errors.NoFileYet(f"The job is {job.state} and has {len(job.artifacts)} files.", state=str(job.state))
    artifact = job.artifacts[index]
    try:
        opened = await use.service.open_artifact(job.id, artifact)
    except errors.FileMissing:
        if use.storage is None or artifact.object_key is None:
            raise
        response = await _stored_elsewhere(request, use.storage, artifact, inline=inline)
        if request.method == "GET":
            log.info(f"Job {job_id} - Serving file from object storage: {artifact.name}", status=response.status_code)
        return response
    etag = f'"{opened.inode:x}-{opened.size_bytes:x}-{opened.modified_ns:x}"'
    response = PublishedFile(opened, _headers(artifact, etag, inline=inline), _type(artifact))
    try:
        if _has_it(request, etag, response.headers["last-modified"]):
            os.close(opened.descriptor)
            return _not_modified(response)
        response.check_range(request.headers.get("range"), request.headers.get("if-range"))
    except errors.RangeNotSatisfiable:
        os.close(opened.descriptor)
        raise
    if request.method == "GET":
        log.info(f"Job {job_id} - Serving file: {artifact.name}", range=request.headers.get("range"))
    return response


async def _stored_elsewhere(
    request: Request, storage: "ObjectStorage", artifact: Artifact, *, inline: bool
) -> Response:
    """Answer with the copy in object storage: pass it on, or send the client there."""
    assert artifact.object_key is not None
    if storage.redirects:
        headers = _headers(artifact, "", inline=inline)
        told = headers["Content-Disposition"]
        link = storage.link(request.method, artifact.object_key, _type(artifact), told)
        return Response(status_code=307, headers={"Location": link, "Cache-Control": "private, no-store"})
    facts = await storage.head(artifact.object_key)
    if facts is None:
        raise errors.FileMissing("The file is neither in its folder nor in object storage.", file=artifact.name)
    response = RemoteFile(
        storage, artifact.object_key, facts, _headers(artifact, facts.etag, inline=inline), _type(artifact)
    )
    if _has_it(request, facts.etag, response.headers["last-modified"]):
        return _not_modified(response)
    response.check_range(request.headers.get("range"), request.headers.get("if-range"))
    return response


def _not_modified(response: Response) -> Response:
    kept = ("etag", "last-modified", "cache-control", "content-security-policy")
    return Response(status_code=304, headers={name: response.headers[name] for name in kept})


def _headers(artifact: Artifact, etag: str, *, inline: bool) -> dict[str, str]:
    shown = inline and inline_type(artifact.type)
    return {
        "ETag": etag,
        "Content-Disposition": content_disposition(artifact.name, inline=shown),
        "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _type(artifact: Artifact) -> str:
    """Tell the type only where it is one that can be shown: anything else is bytes to be saved."""
    return artifact.type if inline_type(artifact.type) else "application/octet-stream"


def _has_it(request: Request, etag: str, modified: str) -> bool:
    """Say whether a conditional request is answered with 304 (RFC 9110 section 13.2.2)."""
    wanted = request.headers.get("if-none-match")
    if wanted is not None:
        return wanted.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in wanted.split(",")}
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (ValueError, TypeError, OverflowError):
        return False
