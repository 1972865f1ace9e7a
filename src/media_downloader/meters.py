"""What is counted for Prometheus while jobs run, here or on workers: it listens to the news of all jobs."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from media_downloader.jobs.model import (
    DeletedEvent,
    Event,
    Failure,
    FailureKind,
    Job,
    JobEvent,
    Progress,
    ProgressEvent,
)
from media_downloader.jobs.state import RUNNING, State
from media_downloader.ports import Envelope, EventBus


class Meters:
    """Counters and gauges of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Gauge("media_downloader_jobs", "Jobs by state.", ["state"], registry=self.registry)
        self.failures = Counter(
            "media_downloader_failures", "Failed attempts by kind.", ["kind"], registry=self.registry
        )
        self.downloaded_bytes = Counter(
            "media_downloader_downloaded_bytes", "Bytes that downloads wrote.", registry=self.registry
        )
        self.finished_jobs = Counter(
            "media_downloader_finished_jobs", "Jobs that ended, by state.", ["state"], registry=self.registry
        )
        self.job_seconds = Histogram(
            "media_downloader_job_duration_seconds",
            "Time from the last claim of a job to its published file.",
            buckets=(1, 5, 15, 60, 300, 900, 3600, 14400, 86400),
            registry=self.registry,
        )
        self.free_bytes = Gauge(
            "media_downloader_disk_free_bytes", "Free bytes of the downloads folder.", registry=self.registry
        )
        self.speed = Gauge(
            "media_downloader_download_speed_bytes_per_second",
            "Sum of the speeds of running downloads.",
            registry=self.registry,
        )
        self._total_downloaded_bytes = 0
        self._speeds: dict[str, float] = {}
        self._written: dict[str, int] = {}
        #: When each running attempt was claimed, and the failure of the one before it.
        self._attempts: dict[str, tuple[datetime, Failure | None]] = {}
        for kind in FailureKind:
            self.failures.labels(kind.value)
        for state in State:
            self.jobs.labels(state.value)

    async def count(self, bus: EventBus) -> None:
        """Count what the bus tells, until the bus ends. What is lost on the way is not counted."""
        async for news in bus.subscribe():
            if isinstance(news, Envelope):
                self.heard(news.event)

    def heard(self, event: Event) -> None:
        """Count one event."""
        match event:
            case ProgressEvent(id=job_id, progress=progress):
                self._progressed(job_id, progress)
            case JobEvent(job=job) if job.state in RUNNING and not job.is_playlist:
                self._attempts.setdefault(job.id, (job.updated_at, job.failure))
            case JobEvent(job=job):
                self._ended(job)
            case DeletedEvent(id=job_id):
                self._stopped(job_id)
            case _:
                pass

    def _progressed(self, job_id: str, progress: Progress) -> None:
        """Count what a running job has fetched since it was last heard of, without what was there when it began."""
        downloaded_bytes = progress.downloaded_bytes
        gained = max(0, downloaded_bytes - self._written.get(job_id, progress.resumed_from_bytes))
        self._total_downloaded_bytes += gained
        self.downloaded_bytes.inc(gained)
        self._written[job_id] = downloaded_bytes
        self._speeds[job_id] = progress.speed_bytes_per_second or 0.0

    def _ended(self, job: Job) -> None:
        """Count the end of an attempt; a job that did not run before has none."""
        attempt = self._attempts.get(job.id)
        self._stopped(job.id)
        if attempt is None:
            return
        claimed_at, failure_before = attempt
        if job.failure is not None and job.failure != failure_before:
            self.failures.labels(job.failure.kind.value).inc()
        if job.state in {State.DONE, State.ERROR}:
            self.finished_jobs.labels(job.state.value).inc()
        if job.state is State.DONE:
            self.job_seconds.observe(max(0.0, (job.updated_at - claimed_at).total_seconds()))

    def _stopped(self, job_id: str) -> None:
        self._speeds.pop(job_id, None)
        self._written.pop(job_id, None)
        self._attempts.pop(job_id, None)

    def current_speed(self) -> float:
        """Return the sum of the speeds of running downloads, in bytes per second."""
        return sum(self._speeds.values())

    def total_downloaded_bytes(self) -> int:
        """Return what downloads have written since the start."""
        return self._total_downloaded_bytes

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        self.speed.set(self.current_speed())
        return generate_latest(self.registry)
