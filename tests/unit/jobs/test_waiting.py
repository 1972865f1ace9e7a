"""Why a queued job waits: one rule for the scheduler and for people."""

from datetime import UTC, datetime, timedelta

import pytest

from media_downloader.jobs.model import Failure, FailureKind, Job, QueueState
from media_downloader.jobs.state import State
from media_downloader.jobs.waiting import QueueFacts, WaitingFor, why_waiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def a_job(**facts: object) -> Job:
    base = {"id": "0" * 32, "url": "http://a.org/", "site": "a.org", "created_at": NOW, "updated_at": NOW}
    return Job.model_validate({**base, **facts})


def facts(**changed: object) -> QueueFacts:
    return QueueFacts(**{"now": NOW, "queue": QueueState(), "free_slots": 0, "max_per_site": 2, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "queue", "reason", "until"),
    [
        (a_job(), facts(), WaitingFor.SLOT, None),
        (a_job(), facts(queue=QueueState(paused=True, reason="user")), WaitingFor.QUEUE_PAUSED, None),
        (a_job(), facts(queue=QueueState(paused=True, reason="disk")), WaitingFor.DISK, None),
        (a_job(ready_at=LATER, not_before=LATER), facts(), WaitingFor.SCHEDULE, LATER),
        (
            a_job(ready_at=LATER, failure=Failure(kind=FailureKind.NETWORK, message="", retry_at=LATER)),
            facts(),
            WaitingFor.RETRY_TIME,
            LATER,
        ),
        (
            a_job(ready_at=LATER, failure=Failure(kind=FailureKind.DISK_FULL, message="", retry_at=LATER)),
            facts(),
            WaitingFor.DISK,
            LATER,
        ),
        (a_job(), facts(cooldown_until={"a.org": LATER}), WaitingFor.COOLDOWN, LATER),
        (a_job(), facts(running_by_site={"a.org": 2}), WaitingFor.SITE_LIMIT, None),
        (a_job(), facts(running_by_site={"b.org": 2}), WaitingFor.SLOT, None),
    ],
)
def test_each_reason_is_told(job: Job, queue: QueueFacts, reason: WaitingFor, until: datetime | None) -> None:
    wait = why_waiting(job, queue)
    assert wait is not None
    assert (wait.reason, wait.until) == (reason, until)


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_a_job_that_is_not_queued_does_not_wait(state: State) -> None:
    assert why_waiting(a_job(state=state), facts()) is None


def test_a_playlist_does_not_wait_its_children_do() -> None:
    assert why_waiting(a_job(is_playlist=True), facts()) is None
