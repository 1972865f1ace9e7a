"""POST /info: what is behind a link, without downloading it."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from media_downloader import errors
from media_downloader.api.dependencies import Use
from media_downloader.api.error_answers import documented
from media_downloader.api.schemas import InfoBody, ProbeRequest

router = APIRouter(tags=["info"])


@router.post(
    "/info",
    operation_id="probe",
    response_model=InfoBody,
    responses=documented(
        errors.InvalidUrl,
        errors.UrlBlocked,
        errors.OptionRejected,
        errors.ProbeFailed,
        errors.ProbeBusy,
        errors.BodyTooLarge,
        errors.UnsupportedMediaType,
        errors.DownloaderUnavailable,
    ),
)
async def probe(request: Request, use: Use, body: ProbeRequest) -> Any:
    """Look at a link: title, duration, formats, entries of a playlist. Ending the request ends the work."""
    looking = asyncio.create_task(use.service.probe(body.url, body.options))
    try:
        while not looking.done():
            await asyncio.wait({looking}, timeout=0.5)
            if not looking.done() and await request.is_disconnected():
                raise errors.ProbeFailed("The client went away.", kind="canceled")
        return JSONResponse(looking.result())
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
