"""Jobs: add, list, look at, act on, change, remove."""

import asyncio
import hashlib
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from media_downloader import errors
from media_downloader.api.dependencies import Bodiless, KnownId, Use
from media_downloader.api.error_answers import documented
from media_downloader.api.rendering import job_response, jobs_response
from media_downloader.api.schemas import AddedBody, AddJobs, DeletedBody, JobBody, JobList, PatchJob, RejectedBody
from media_downloader.jobs.state import Action, State
from media_downloader.netguard import redact_url
from media_downloader.ports import JobQuery
from media_downloader.service import AddOutcome, AddRequest, JobPatch, Rejected

router = APIRouter(prefix="/jobs", tags=["jobs"])

#: A rejected link is named, but not at length.
MAX_NAMED_URL_CHARS = 500

_ADD_ERRORS = documented(
    errors.InvalidUrl,
    errors.UrlBlocked,
    errors.OptionRejected,
    errors.AllRejected,
    errors.IdempotencyConflict,
    errors.JobExpired,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.DownloaderUnavailable,
)
_JOB_ERRORS = documented(errors.JobNotFound, errors.JobExpired, errors.JobUnreadable)
_ACT_ERRORS = documented(
    errors.JobNotFound,
    errors.JobExpired,
    errors.JobUnreadable,
    errors.InvalidTransition,
    errors.UnsupportedMediaType,
    errors.BodyTooLarge,
)

_ACTION: dict[str, Any] = {"response_model": JobBody, "responses": _ACT_ERRORS, "dependencies": [Bodiless]}


class JobsQuery(BaseModel):
    """Which jobs, in which order."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = Field(default=[], max_length=len(State))
    site: Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    q: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = Field(
        default=None, description="Words that title or link contain."
    )
    parent_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    sort: Literal["created_at", "-created_at", "finished_at", "-finished_at", "position", "-position"] = "-created_at"
    limit: int = Field(default=50, ge=1, le=500)
    cursor: Annotated[str, Field(max_length=500)] | None = None


@router.post(
    "",
    operation_id="addJobs",
    status_code=201,
    response_model=JobBody | AddedBody,
    responses=_ADD_ERRORS,
)
async def add_jobs(
    use: Use,
    body: AddJobs,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[!-~]+$",
            description="Asking again with the same key and body gives the same jobs and adds none.",
        ),
    ] = None,
) -> Any:
    """Add one link (`url`: the answer is the job) or many (`urls`: the answer names jobs and rejected links)."""
    urls = [body.url] if body.url is not None else list(body.urls or [])
    limit = use.settings.max_urls_per_request
    if len(urls) > limit:
        raise errors.RequestError(f"One request may have {limit} links.")
    request = AddRequest(
        urls=urls,
        options=body.options,
        priority=body.priority,
        not_before=body.not_before,
        paused=body.paused,
        idempotency_key=idempotency_key,
        request_digest=await asyncio.to_thread(_digest, body) if idempotency_key is not None else None,
    )
    outcome = await use.service.add(request)
    if body.url is not None:
        return job_response(await use.service.view(outcome.jobs[0]), 201)
    return await _batch(use, outcome)


async def _batch(use: Use, outcome: AddOutcome) -> Response:
    rejected = [_rejected(entry) for entry in outcome.rejected]
    if not outcome.jobs:
        raise errors.AllRejected(
            "None of the links was accepted.", rejected=[entry.model_dump() for entry in rejected[:100]]
        )
    return await jobs_response(await use.service.views(outcome.jobs), {"rejected": rejected}, 201)


def _rejected(entry: Rejected) -> RejectedBody:
    url = redact_url(entry.url[:MAX_NAMED_URL_CHARS])
    shown = "".join(char if char.isprintable() else "\ufffd" for char in url)
    return RejectedBody(url=shown, error=entry.code, detail=entry.detail)


def _digest(body: AddJobs) -> str:
    return hashlib.sha256(json.dumps(body.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


@router.get("", operation_id="listJobs", response_model=JobList, responses=documented(errors.InvalidCursor))
async def list_jobs(use: Use, query: Annotated[JobsQuery, Query()]) -> Any:
    """List jobs, newest first unless asked otherwise. `next_cursor` leads to the next page."""
    wanted = JobQuery(
        states=query.state,
        site=query.site,
        text=query.q,
        parent_id=query.parent_id,
        sort=query.sort,
        limit=query.limit,
        cursor=query.cursor,
    )
    views, cursor = await use.service.find(wanted)
    counts = dict(await use.service.counts())
    return await jobs_response(views, {"next_cursor": cursor, "counts": counts})


@router.get("/{job_id}", operation_id="getJob", response_model=JobBody, responses=_JOB_ERRORS)
async def get_job(use: Use, job_id: KnownId) -> Any:
    """Return a job."""
    return job_response(await use.service.get(job_id))


async def _act(use: Use, job_id: str, action: Action) -> Response:
    return job_response(await use.service.act(job_id, action))


@router.post("/{job_id}/pause", operation_id="pauseJob", **_ACTION)
async def pause_job(use: Use, job_id: KnownId) -> Any:
    """Stop a job and keep its bytes. A running one has `signal: pause` until its runner has obeyed, within a second."""
    return await _act(use, job_id, Action.PAUSE)


@router.post("/{job_id}/resume", operation_id="resumeJob", **_ACTION)
async def resume_job(use: Use, job_id: KnownId) -> Any:
    """Let a paused job go on from the bytes on disk."""
    return await _act(use, job_id, Action.RESUME)


@router.post("/{job_id}/cancel", operation_id="cancelJob", **_ACTION)
async def cancel_job(use: Use, job_id: KnownId) -> Any:
    """Give a job up; its work folder goes."""
    return await _act(use, job_id, Action.CANCEL)


@router.post("/{job_id}/retry", operation_id="retryJob", **_ACTION)
async def retry_job(use: Use, job_id: KnownId) -> Any:
    """Try a failed job again from its bytes, a canceled one from the start, a done one when its file is gone."""
    return await _act(use, job_id, Action.RETRY)


@router.patch("/{job_id}", operation_id="changeJob", response_model=JobBody, responses=_ACT_ERRORS)
async def change_job(use: Use, job_id: KnownId, body: PatchJob) -> Any:
    """Change a job's priority, its time, or its place in the queue."""
    given = body.model_fields_set
    patch = JobPatch(
        priority=body.priority,
        not_before=body.not_before,
        clear_not_before="not_before" in given and body.not_before is None,
        before=body.before,
        to_front=body.to_front,
    )
    return job_response(await use.service.update(job_id, patch))


@router.delete(
    "/{job_id}",
    operation_id="removeJob",
    response_model=DeletedBody,
    responses=_ACT_ERRORS,
    dependencies=[Bodiless],
)
async def remove_job(
    use: Use,
    job_id: KnownId,
    files: Annotated[bool, Query(description="Delete the published files too.")] = False,
) -> Any:
    """Take a job off the list; a running one is canceled first. Its files stay unless asked."""
    await use.service.remove(job_id, files=files)
    return JSONResponse({"id": job_id})


@router.get(
    "/{job_id}/log",
    operation_id="getJobLog",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "The last 64 KiB.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **_JOB_ERRORS,
    },
)
async def get_log(use: Use, job_id: KnownId) -> PlainTextResponse:
    """Return the end of a job's log."""
    return PlainTextResponse(await use.service.log(job_id))
