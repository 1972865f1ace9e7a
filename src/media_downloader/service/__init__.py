"""What a user can do to jobs; shared by the API and the CLI."""

from media_downloader.service.model import (
    AddOutcome,
    AddRequest,
    JobPatch,
    JobView,
    Rejected,
    ServiceDeps,
)
from media_downloader.service.service import JobService

__all__ = ["AddOutcome", "AddRequest", "JobPatch", "JobService", "JobView", "Rejected", "ServiceDeps"]
