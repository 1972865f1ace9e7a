"""What becomes of a job after a failed attempt."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.downloader.failures import SITE_WIDE, TRANSIENT
from media_downloader.downloader.protocol import Failed
from media_downloader.jobs.model import FailureKind, Job
from media_downloader.jobs.state import State
from media_downloader.runner.verdict import RetryPolicy, judge_crash, judge_failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(
    max_retries=3, delay_seconds=2.0, max_delay_seconds=60.0, max_crashes=5, disk_retry_seconds=60.0, jitter=lambda: 0.0
)


def a_job(**facts: object) -> Job:
    return Job.model_validate(
        {
            "id": "0" * 32,
            "url": "http://example.org/v",
            "site": "example.org",
            "state": State.DOWNLOADING,
            "attempt": 7,
            "created_at": NOW,
            "updated_at": NOW,
            **facts,
        }
    )


def failed(kind: FailureKind, retry_after_seconds: float | None = None) -> Failed:
    return Failed(kind=kind, message="It broke.", hint="Mend it.", retry_after_seconds=retry_after_seconds)


@pytest.mark.parametrize("kind", sorted(TRANSIENT - {FailureKind.DISK_FULL}))
def test_a_transient_failure_is_retried_later_and_says_when_and_which_of_how_many(kind: FailureKind) -> None:
    verdict = judge_failure(a_job(retries=1), failed(kind), NOW, POLICY)
    assert verdict.change.to is State.QUEUED
    assert verdict.change.attempt == 7
    assert (verdict.failure.retry, verdict.failure.retries) == (2, 3)
    assert verdict.failure.retry_at == verdict.change.facts["ready_at"] == NOW + timedelta(seconds=4)


@pytest.mark.parametrize("kind", sorted(set(FailureKind) - TRANSIENT - {FailureKind.DISK_FULL}))
def test_a_permanent_failure_ends_the_job_at_once(kind: FailureKind) -> None:
    verdict = judge_failure(a_job(), failed(kind), NOW, POLICY)
    assert verdict.change.to is State.ERROR
    assert verdict.failure.retry_at is None
    assert verdict.failure.hint == "Mend it."


def test_the_last_retry_is_the_last() -> None:
    verdict = judge_failure(a_job(retries=3), failed(FailureKind.NETWORK), NOW, POLICY)
    assert verdict.change.to is State.ERROR
    assert (verdict.failure.retry, verdict.failure.retries) == (3, 3)


@pytest.mark.parametrize("kind", sorted(FailureKind))
def test_only_a_rate_limit_cools_the_whole_site_down(kind: FailureKind) -> None:
    verdict = judge_failure(a_job(), failed(kind, retry_after_seconds=33), NOW, POLICY)
    if kind in SITE_WIDE:
        assert verdict.cooldown is not None
        assert verdict.cooldown.site == "example.org"
        assert verdict.cooldown.until == NOW + timedelta(seconds=33)
    else:
        assert verdict.cooldown is None


def test_a_full_disk_costs_no_retry_and_pauses_the_queue() -> None:
    verdict = judge_failure(a_job(retries=3), failed(FailureKind.DISK_FULL), NOW, POLICY)
    assert verdict.change.to is State.QUEUED
    assert verdict.pauses_queue
    assert "retries" not in verdict.change.facts


@given(retry=st.integers(1, 10_000), asked=st.none() | st.floats(0, 1e6), jitter=st.floats(0, 1))
def test_a_delay_is_bounded_never_undercuts_the_server_and_never_overflows(
    retry: int, asked: float | None, jitter: float
) -> None:
    policy = RetryPolicy(9, 2.0, 60.0, 5, 60.0, jitter=lambda: jitter)
    delay = policy.delay(retry, asked)
    assert delay >= (asked or 0.0)
    assert delay >= min(2.0, 60.0)
    assert delay <= max(60.0 * 1.25, asked or 0.0)


def test_a_crash_is_tried_again_until_the_job_is_taken_for_poison() -> None:
    for crashes in range(4):
        verdict = judge_crash(a_job(crashes=crashes), ["line"], NOW, POLICY)
        assert verdict.change.to is State.QUEUED
        assert verdict.change.facts["crashes"] == crashes + 1
    verdict = judge_crash(a_job(crashes=4), ["Segmentation fault"], NOW, POLICY)
    assert verdict.change.to is State.ERROR
    assert verdict.failure.kind is FailureKind.CRASHED
    assert "Segmentation fault" in verdict.failure.message
