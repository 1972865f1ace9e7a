"""The server itself: health, statistics, metrics, the queue as a whole, cleaning up."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from media_downloader import errors
from media_downloader.api.dependencies import Bodiless, Use
from media_downloader.api.error_answers import documented
from media_downloader.api.schemas import (
    CleanupBody,
    CleanupRequest,
    HealthBody,
    LiveBody,
    QueueBody,
    StatsBody,
)

router = APIRouter(tags=["system"])

_WRITE_ERRORS = documented(errors.UnsupportedMediaType, errors.BodyTooLarge)


@router.get("/health", operation_id="health", response_model=HealthBody, responses=documented())
async def health(use: Use) -> Any:
    """Say how the server is: `ok`, or `degraded` with its problems. Always 200 while it can say so."""
    return JSONResponse(HealthBody.model_validate(asdict(await use.overview.health())).model_dump(mode="json"))


@router.get("/health/live", operation_id="live", response_model=LiveBody, responses=documented())
async def live() -> Any:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/health/ready", operation_id="ready", response_model=LiveBody, responses=documented())
async def ready(use: Use) -> Any:
    """Say whether requests should be sent here."""
    problems = await use.overview.ready()
    if problems:
        raise errors.StoreUnavailable(" ".join(problems))
    return JSONResponse({"status": "ok"})


@router.get("/stats", operation_id="stats", response_model=StatsBody, responses=documented())
async def stats(use: Use) -> Any:
    """Count jobs by state, speed, room on the disk."""
    return JSONResponse(StatsBody.model_validate(await use.overview.stats()).model_dump(mode="json"))


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **documented(),
    },
)
async def metrics(use: Use) -> Response:
    """Return counters and gauges for Prometheus."""
    return Response(await use.overview.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/queue", operation_id="getQueue", response_model=QueueBody, responses=documented())
async def get_queue(use: Use) -> Any:
    """Say whether the queue runs."""
    return JSONResponse(QueueBody.of(await use.service.queue_state()).model_dump(mode="json"))


@router.post(
    "/queue/pause",
    operation_id="pauseQueue",
    response_model=QueueBody,
    responses=_WRITE_ERRORS,
    dependencies=[Bodiless],
)
async def pause_queue(use: Use) -> Any:
    """Start no more jobs; what runs goes on. Kept across restarts."""
    return JSONResponse(QueueBody.of(await use.service.pause_queue()).model_dump(mode="json"))


@router.post(
    "/queue/resume",
    operation_id="resumeQueue",
    response_model=QueueBody,
    responses=_WRITE_ERRORS,
    dependencies=[Bodiless],
)
async def resume_queue(use: Use) -> Any:
    """Let jobs start again."""
    return JSONResponse(QueueBody.of(await use.service.resume_queue()).model_dump(mode="json"))


@router.post("/cleanup", operation_id="cleanUp", response_model=CleanupBody, responses=_WRITE_ERRORS)
async def clean_up(use: Use, body: CleanupRequest) -> Any:
    """Remove expired jobs, files past retention, work folders of no job. By default only says what would go."""
    report = await use.reaper.cleanup(dry_run=body.dry_run)
    return JSONResponse(asdict(report))
