"""News that come too late: of a job after its deletion."""

from collections import OrderedDict
from datetime import datetime

from media_downloader.jobs.model import DeletedEvent, Event, JobEvent, ProgressEvent

#: Deletions that are remembered: news of a job comes late by moments, not by thousands of jobs.
KEPT_DELETIONS = 10_000


class Deletions:
    """When the jobs of late were deleted."""

    def __init__(self) -> None:
        self._deleted: OrderedDict[str, datetime] = OrderedDict()

    def outdate(self, event: Event, moment: datetime) -> bool:
        """Say whether the event is news of a job that has been deleted; ``moment`` is when it was told."""
        match event:
            case DeletedEvent(id=job_id):
                self._deleted[job_id] = moment
                while len(self._deleted) > KEPT_DELETIONS:
                    self._deleted.popitem(last=False)
            case ProgressEvent(id=job_id):
                return job_id in self._deleted
            case JobEvent(job=job) if job.id in self._deleted:
                if job.created_at <= self._deleted[job.id]:
                    return True
                # An entry of a playlist that was listed again.
                del self._deleted[job.id]
        return False

    def clear(self) -> None:
        """Forget them all."""
        self._deleted.clear()
