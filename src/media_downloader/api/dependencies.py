"""What routes are given: the container, and a job id that can be one."""

import json
import re
from typing import Annotated

from fastapi import Depends, Path, Request

from media_downloader.bootstrap import Container
from media_downloader.errors import JobNotFound, MalformedRequest, RequestError

_ID = re.compile(r"[0-9a-f]{32}")


def _container(request: Request) -> Container:
    container: Container = request.app.state.container
    return container


def _job_id(
    job_id: Annotated[
        str,
        Path(
            description="The job's id.",
            examples=["0123456789abcdef0123456789abcdef"],
            json_schema_extra={"pattern": f"^{_ID.pattern}$"},
        ),
    ],
) -> str:
    """Refuse what cannot be an id as an unknown one: to a client there is no difference."""
    if not _ID.fullmatch(job_id):
        raise JobNotFound("There is no such job.")
    return job_id


async def _no_fields(request: Request) -> None:
    """Refuse a body that says something where nothing can be said: it was meant, and would not be done."""
    raw = (await request.body()).strip()
    if not raw:
        return
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise MalformedRequest("The body is not JSON.") from None
    if body != {}:
        raise RequestError("This request takes no fields: send {} or nothing.")


#: For routes that write and take no body.
Bodiless = Depends(_no_fields)
Use = Annotated[Container, Depends(_container)]
KnownId = Annotated[str, Depends(_job_id)]
