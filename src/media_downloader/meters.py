"""What is counted for Prometheus while jobs run."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from media_downloader.jobs.model import FailureKind, Progress
from media_downloader.jobs.state import State


class Meters:
    """Counters and gauges of one container, in a registry of their own."""

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
        for kind in FailureKind:
            self.failures.labels(kind.value)
        for state in State:
            self.jobs.labels(state.value)

    def progressed(self, job_id: str, progress: Progress) -> None:
        """Count what a running job has fetched since it was last heard of, without what was there when it began."""
        downloaded_bytes = progress.downloaded_bytes
        gained = max(0, downloaded_bytes - self._written.get(job_id, progress.resumed_from_bytes))
        self._total_downloaded_bytes += gained
        self.downloaded_bytes.inc(gained)
        self._written[job_id] = downloaded_bytes
        self._speeds[job_id] = progress.speed_bytes_per_second or 0.0

    def stopped(self, job_id: str) -> None:
        """Forget a job that no longer runs."""
        self._speeds.pop(job_id, None)
        self._written.pop(job_id, None)

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
