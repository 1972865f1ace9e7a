"""Jobs that another version of the program wrote: left alone, and told of once."""

import structlog
from pydantic import ValidationError

from media_downloader.errors import JobUnreadable

log = structlog.get_logger(__name__)

#: Jobs that were told of.
_told: set[str] = set()


def unreadable(job_id: str, problem: ValidationError | str) -> JobUnreadable:
    """Return the error to raise for a job that this version cannot read."""
    if job_id not in _told:
        _told.add(job_id)
        what = problem if isinstance(problem, str) else _first_of(problem)
        log.error("A job in the store cannot be read and is left alone", job_id=job_id, problem=what)
    return JobUnreadable(
        "Another version of Media Downloader wrote this job. It is kept; run that version to go on with it."
    )


def _first_of(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
