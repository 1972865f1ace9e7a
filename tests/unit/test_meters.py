"""What is counted from the news of jobs."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from media_downloader.bus.memory import MemoryEventBus
from media_downloader.jobs.model import DeletedEvent, Failure, FailureKind, Job, JobEvent, Progress, ProgressEvent
from media_downloader.jobs.state import State
from media_downloader.meters import Meters

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
REFUSED = Failure(kind=FailureKind.NETWORK, message="cut", retry=1, retries=5)


def news(state: State, seconds: float = 0, **facts: Any) -> JobEvent:
    made = Job(id="a" * 32, url="https://example.org/a", site="example.org", created_at=BEGAN, updated_at=BEGAN)
    return JobEvent(
        job=made.model_copy(update={"state": state, "updated_at": BEGAN + timedelta(seconds=seconds), **facts})
    )


def progress(downloaded: int, speed: float = 0, resumed_from: int = 0) -> ProgressEvent:
    told = Progress(downloaded_bytes=downloaded, speed_bytes_per_second=speed, resumed_from_bytes=resumed_from)
    return ProgressEvent(id="a" * 32, progress=told)


def hear(meters: Meters, *events: JobEvent | ProgressEvent | DeletedEvent) -> None:
    for event in events:
        meters.heard(event)


def value(meters: Meters, name: str) -> float:
    [found] = [line for line in meters.exposition().decode().splitlines() if line.startswith(f"{name} ")]
    return float(found.rpartition(" ")[2])


def test_each_failed_attempt_counts_once_and_the_job_once() -> None:
    meters = Meters()
    failed = news(State.QUEUED, failure=REFUSED)
    hear(meters, news(State.QUEUED), news(State.EXTRACTING), news(State.DOWNLOADING), failed, failed)
    hear(meters, news(State.EXTRACTING, failure=REFUSED))
    hear(meters, news(State.ERROR, failure=REFUSED.model_copy(update={"retry": 2})))
    assert value(meters, 'media_downloader_failures_total{kind="network"}') == 2
    assert value(meters, 'media_downloader_finished_jobs_total{state="error"}') == 1


def test_an_attempt_that_was_only_stopped_is_no_failure() -> None:
    meters = Meters()
    hear(meters, news(State.EXTRACTING, failure=REFUSED), news(State.PAUSED, failure=REFUSED))
    assert value(meters, 'media_downloader_failures_total{kind="network"}') == 0


def test_a_job_lasts_from_its_last_claim() -> None:
    meters = Meters()
    hear(meters, news(State.EXTRACTING, 0), news(State.QUEUED, 50), news(State.EXTRACTING, 100))
    hear(meters, news(State.PROCESSING, 104), news(State.DONE, 107))
    assert value(meters, "media_downloader_job_duration_seconds_sum") == 7
    assert value(meters, 'media_downloader_finished_jobs_total{state="done"}') == 1


def test_bytes_count_without_what_was_there_and_speed_only_while_it_runs() -> None:
    meters = Meters()
    hear(meters, news(State.DOWNLOADING), progress(500, 7, resumed_from=400), progress(900, 9, resumed_from=400))
    assert (meters.total_downloaded_bytes(), meters.current_speed()) == (500, 9)
    hear(meters, news(State.PAUSED))
    assert meters.current_speed() == 0
    hear(meters, news(State.DOWNLOADING), progress(1000, 3, resumed_from=900), DeletedEvent(id="a" * 32))
    assert (meters.total_downloaded_bytes(), meters.current_speed()) == (600, 0)


def test_a_playlist_is_no_download() -> None:
    meters = Meters()
    listed = {"is_playlist": True}
    hear(meters, news(State.EXTRACTING), news(State.DOWNLOADING, **listed), news(State.DONE, **listed))
    assert "media_downloader_finished_jobs_total{" not in meters.exposition().decode()


async def test_the_bus_is_listened_to_until_it_ends() -> None:
    meters, bus = Meters(), MemoryEventBus()
    await bus.open()
    counting = asyncio.create_task(meters.count(bus))
    # It hears what is told after it has begun to listen.
    await asyncio.sleep(0)
    await bus.publish(news(State.EXTRACTING))
    await bus.publish(news(State.DONE))
    await asyncio.sleep(0)
    await bus.close()
    await asyncio.wait_for(counting, 5)
    assert value(meters, 'media_downloader_finished_jobs_total{state="done"}') == 1
