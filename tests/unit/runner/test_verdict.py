"""What becomes of a job after a failed attempt."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.downloader.failures import SITE_WIDE, TRANSIENT
from media_downloader.downloader.protocol import Failed
from media_downloader.jobs.model import FailureKind, Job
from media_downloader.jobs.state import State
from media_downloader.runner.strikes import Strikes
from media_downloader.runner.verdict import SITE_PATIENCE, RetryPolicy, judge_crash, judge_failure

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
    verdict = judge_failure(a_job(retries=1), failed(kind), NOW, POLICY, strike=2)
    assert verdict.change.to is State.QUEUED
    assert verdict.change.attempt == 7
    patience = SITE_PATIENCE if kind in SITE_WIDE else 1
    assert (verdict.failure.retry, verdict.failure.retries) == (2, 3 * patience)
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


def test_what_an_earlier_attempt_fetched_is_no_headway() -> None:
    """The runner judges by what the failed attempt itself said; one that said nothing fetched nothing."""
    job = a_job(retries=3, progress={"downloaded_bytes": 9_000_000, "resumed_from_bytes": 8_999_999})
    assert judge_failure(job, failed(FailureKind.SERVER_ERROR), NOW, POLICY).change.to is State.ERROR


def test_a_ban_of_a_site_is_waited_out_longer_each_time_whichever_job_meets_it() -> None:
    strikes = Strikes()
    waits = []
    now = NOW
    for number in range(6):
        strike = strikes.number("example.org", now)
        verdict = judge_failure(a_job(id=f"{number:032x}"), failed(FailureKind.RATE_LIMITED), now, POLICY, strike)
        assert verdict.cooldown is not None
        strikes.note("example.org", strike, verdict.cooldown.until)
        # A second download of the site that is refused in the same moment is no second refusal.
        assert strikes.number("example.org", now + timedelta(seconds=1)) == strike
        waits.append((verdict.cooldown.until - now).total_seconds())
        now = verdict.cooldown.until
    assert waits == [2, 4, 8, 16, 32, 60]
    strikes.clear("example.org")
    assert strikes.number("example.org", now) == 1
    assert strikes.number("elsewhere.org", now) == 1
