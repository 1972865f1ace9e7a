"""Long answers, written down job by job, so that no other request waits for them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json

from media_downloader.api.schemas import JobBody
from media_downloader.service import JobView

#: Jobs that are written down before others get their turn: a millisecond or two.
PIECE = 20


def job_response(view: JobView, status: int = 200) -> Response:
    """Answer with one job."""
    return Response(JobBody.of(view).model_dump_json(), status, media_type="application/json")


async def jobs_response(views: Sequence[JobView], beside: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with ``{"jobs": [...], ...}``: the jobs, and what is told beside them."""
    written: list[str] = []
    for start in range(0, len(views), PIECE):
        written.extend(JobBody.of(view).model_dump_json() for view in views[start : start + PIECE])
        await asyncio.sleep(0)
    rest = to_json(beside).removeprefix(b"{")
    body = b"".join((b'{"jobs":[', ",".join(written).encode(), b"],", rest))
    return Response(body, status, media_type="application/json")
