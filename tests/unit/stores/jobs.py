"""Jobs for the tests of the stores."""

from media_downloader.jobs.model import Job, utc_now
from media_downloader.ports import Claim

CLAIM = Claim("test:1", 30)


def a_job(number: int = 1, **facts: object) -> Job:
    """Return a job that differs from the others by its number."""
    now = utc_now()
    known = {"id": f"{number:032x}", "url": f"https://example.org/{number}", "site": "example.org"}
    return Job.model_validate({**known, "created_at": now, "updated_at": now, **facts})
