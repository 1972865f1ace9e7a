"""What every JobStore promises (ports.JobStore)."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from media_downloader.errors import (
    ClaimRefused,
    IdempotencyConflict,
    InvalidCursor,
    InvalidTransition,
    JobExpired,
    JobNotFound,
    LeaseLost,
)
from media_downloader.jobs.model import (
    Artifact,
    Cooldown,
    Failure,
    FailureKind,
    Job,
    Media,
    Progress,
    QueueState,
    utc_now,
)
from media_downloader.jobs.options import JobOptions, Preset
from media_downloader.jobs.state import FINISHED, RUNNING, TRANSITIONS, Signal, State
from media_downloader.ports import Change, Claim, JobQuery, JobStore, NewJobs
from tests.contract.conftest import OpenStore

CLAIM = Claim(owner="test:1", lease_seconds=30)


def a_job(number: int = 0, **facts: object) -> Job:
    now = utc_now()
    known = {
        "id": f"{number:032x}",
        "url": f"https://example.org/{number}",
        "site": "example.org",
        "created_at": now,
        "updated_at": now,
    }
    return Job.model_validate(known | facts)


async def added(store: JobStore, *jobs: Job) -> list[Job]:
    return list((await store.add(NewJobs(jobs))).jobs)


async def in_state(store: JobStore, state: State) -> Job:
    """Bring a job into a state by legal moves alone."""
    await added(store, a_job())
    job_id = a_job().id
    if state is State.QUEUED:
        return await store.get(job_id)
    if state in {State.PAUSED, State.CANCELED, State.ERROR}:
        return await store.change(job_id, Change(state))
    job = await store.claim(job_id, CLAIM)
    if state is not State.EXTRACTING:
        job = await store.change(job_id, Change(state, attempt=job.attempt))
    return job


async def test_a_job_comes_back_exactly_as_it_was_stored(open_store: OpenStore) -> None:
    store = await open_store()
    job = a_job(
        options=JobOptions(preset=Preset.AUDIO_MP3, subtitles=("de",), output_template="%(title)s"),
        priority=5,
        media=Media(title='Grüße \U0001f600 "\\', duration_seconds=1.5, is_live=True),
        artifacts=(Artifact(name="a/b.mp4", size_bytes=2**40, type="video/mp4", sha256="0" * 64),),
        failure=Failure(kind=FailureKind.NETWORK, message="m", retry_at=utc_now(), retry=1, retries=5),
        notices=("one", "two"),
        progress=Progress(percent=12.5, downloaded_bytes=2**40),
        not_before=utc_now() + timedelta(hours=1),
        workdir="mdjob_x",
    )
    (stored,) = await added(store, job)
    assert stored == job.model_copy(update={"position": stored.position})
    store = await open_store()
    assert await store.get(job.id) == stored


async def test_an_unknown_id_is_the_same_error_everywhere(store: JobStore) -> None:
    for ask in (
        store.get("f" * 32),
        store.change("f" * 32, Change(State.PAUSED)),
        store.claim("f" * 32, CLAIM),
        store.renew("f" * 32, 1, 30),
        store.send_signal("f" * 32, Signal.PAUSE),
        store.move(["f" * 32], None),
        store.remove("f" * 32),
    ):
        with pytest.raises(JobNotFound):
            await ask


async def test_adding_a_job_twice_leaves_the_first(store: JobStore) -> None:
    await added(store, a_job(1))
    await store.change(a_job(1).id, Change(State.PAUSED))
    again = await added(store, a_job(1), a_job(2))
    assert [job.state for job in again] == [State.PAUSED, State.QUEUED]


async def test_an_idempotency_key_gives_the_same_jobs_again(open_store: OpenStore) -> None:
    store = await open_store()
    first = await store.add(NewJobs([a_job(1)], "key", "digest"))
    store = await open_store()
    second = await store.add(NewJobs([a_job(2)], "key", "digest"))
    assert second.replayed
    assert [job.id for job in second.jobs] == [job.id for job in first.jobs]
    with pytest.raises(IdempotencyConflict):
        await store.add(NewJobs([a_job(3)], "key", "other"))
    assert len((await store.find(JobQuery())).jobs) == 1


async def test_of_many_adds_with_one_key_one_counts(store: JobStore) -> None:
    outcomes = await asyncio.gather(*(store.add(NewJobs([a_job(n)], "key", "digest")) for n in range(20)))
    assert len({outcome.jobs[0].id for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1


@pytest.mark.parametrize("current", list(State))
@pytest.mark.parametrize("target", list(State))
async def test_only_legal_moves_are_made(store: JobStore, current: State, target: State) -> None:
    job = await in_state(store, current)
    if target in TRANSITIONS[current]:
        moved = await store.change(job.id, Change(target))
        same = {"state", "updated_at", "signal", "owner", "lease_until", "finished_at"}
        assert moved.state is target
        assert moved.model_dump(exclude=same) == job.model_dump(exclude=same)
        assert (moved.finished_at is not None) == (target in FINISHED)
        if target not in RUNNING:
            assert (moved.owner, moved.lease_until, moved.signal) == (None, None, None)
    else:
        with pytest.raises(InvalidTransition) as refused:
            await store.change(job.id, Change(target))
        assert refused.value.facts["state"] == str(current)
        assert await store.get(job.id) == job


async def test_of_twenty_claims_one_wins(store: JobStore) -> None:
    await added(store, a_job())
    claims = [store.claim(a_job().id, Claim(owner=f"test:{n}", lease_seconds=30)) for n in range(20)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, Job)]
    assert len(won) == 1
    assert sum(isinstance(outcome, ClaimRefused) for outcome in outcomes) == 19
    assert (won[0].state, won[0].attempt) == (State.EXTRACTING, 1)
    assert won[0].lease_until is not None
    assert won[0].started_at is not None


async def test_of_twenty_same_moves_one_succeeds(store: JobStore) -> None:
    await added(store, a_job())
    moves = (store.change(a_job().id, Change(State.PAUSED)) for _ in range(20))
    outcomes = await asyncio.gather(*moves, return_exceptions=True)
    assert sum(isinstance(outcome, Job) for outcome in outcomes) == 1


async def test_a_claim_judges_the_queue_the_site_and_the_time(store: JobStore) -> None:
    later = utc_now() + timedelta(hours=1)
    await added(store, a_job(1), a_job(2), a_job(3, ready_at=later), a_job(4, site="other.org"))
    await store.claim(a_job(1).id, CLAIM)
    with pytest.raises(ClaimRefused):
        await store.claim(a_job(2).id, Claim("test:2", 30, max_per_site=1))
    with pytest.raises(ClaimRefused):
        await store.claim(a_job(4).id, Claim("test:2", 30, max_running=1))
    with pytest.raises(ClaimRefused):
        await store.claim(a_job(3).id, CLAIM)
    await store.set_cooldown(Cooldown(site="other.org", until=later, reason="429"))
    with pytest.raises(ClaimRefused):
        await store.claim(a_job(4).id, CLAIM)
    await store.set_queue_state(QueueState(paused=True, reason="user"))
    with pytest.raises(ClaimRefused):
        await store.claim(a_job(2).id, CLAIM)


async def test_a_stale_attempt_can_write_nothing(store: JobStore) -> None:
    await added(store, a_job())
    first = await store.claim(a_job().id, CLAIM)
    await store.change(first.id, Change(State.QUEUED, attempt=first.attempt))
    second = await store.claim(first.id, CLAIM)
    assert second.attempt == first.attempt + 1
    for write in (
        store.change(first.id, Change(State.DONE, attempt=first.attempt)),
        store.change(first.id, Change(facts={"workdir": "x"}, attempt=first.attempt)),
        store.renew(first.id, first.attempt, 30),
    ):
        with pytest.raises(LeaseLost):
            await write
    await store.save_progress(first.id, second.attempt, Progress(downloaded_bytes=7))
    await store.save_progress(first.id, first.attempt, Progress(downloaded_bytes=99))
    assert (await store.get(first.id)).progress.downloaded_bytes == 7


async def test_a_signal_waits_for_the_runner_and_goes_when_it_lets_go(store: JobStore) -> None:
    job = await in_state(store, State.DOWNLOADING)
    await store.send_signal(job.id, Signal.PAUSE)
    assert await store.renew(job.id, job.attempt, 30) is Signal.PAUSE
    assert (await store.send_signal(job.id, Signal.CANCEL)).signal is Signal.CANCEL
    assert (await store.send_signal(job.id, Signal.PAUSE)).signal is Signal.CANCEL
    assert (await store.change(job.id, Change(State.CANCELED, attempt=job.attempt))).signal is None
    with pytest.raises(InvalidTransition):
        await store.send_signal(job.id, Signal.PAUSE)


async def test_a_wish_is_not_overtaken_by_a_move_between_running_states(store: JobStore) -> None:
    job = await in_state(store, State.EXTRACTING)
    await store.send_signal(job.id, Signal.PAUSE)
    moved = await store.change(job.id, Change(State.DOWNLOADING, attempt=job.attempt))
    assert (moved.state, moved.signal) == (State.DOWNLOADING, Signal.PAUSE)
    assert await store.renew(job.id, job.attempt, 30) is Signal.PAUSE


@pytest.mark.parametrize(
    "signal, target, state",
    [
        (Signal.PAUSE, State.QUEUED, State.PAUSED),
        (Signal.CANCEL, State.QUEUED, State.CANCELED),
        (Signal.PAUSE, State.ERROR, State.ERROR),
        (Signal.CANCEL, State.ERROR, State.CANCELED),
        (Signal.CANCEL, State.DONE, State.DONE),
    ],
)
async def test_no_failure_and_no_stop_swallows_a_wish(
    store: JobStore, signal: Signal, target: State, state: State
) -> None:
    job = await in_state(store, State.DOWNLOADING)
    await store.change(job.id, Change(facts={"workdir": "mdjob_x"}, attempt=job.attempt))
    await store.send_signal(job.id, signal)
    ended = await store.change(job.id, Change(target, attempt=job.attempt))
    assert (ended.state, ended.signal, ended.owner) == (state, None, None)
    assert (ended.workdir is None) == (state is State.CANCELED)
    assert (await store.counts())[state] == 1


@pytest.mark.parametrize(
    "signal, state", [(None, State.QUEUED), (Signal.PAUSE, State.PAUSED), (Signal.CANCEL, State.CANCELED)]
)
async def test_an_expired_lease_obeys_the_wish_that_was_left(
    store: JobStore, signal: Signal | None, state: State
) -> None:
    await added(store, a_job())
    job = await store.claim(a_job().id, Claim("test:1", 0.05))
    if signal is not None:
        await store.send_signal(job.id, signal)
    assert await store.release_owner("somebody else") == []
    await asyncio.sleep(0.1)
    released = await store.release_expired()
    assert [(one.id, one.state, one.owner) for one in released] == [(job.id, state, None)]
    with pytest.raises(LeaseLost):
        await store.renew(job.id, job.attempt, 30)
    assert await store.release_expired() == []


async def test_progress_survives_a_close_and_a_move(open_store: OpenStore) -> None:
    store = await open_store()
    job = await in_state(store, State.DOWNLOADING)
    await store.save_progress(job.id, job.attempt, Progress(downloaded_bytes=42))
    assert (await store.get(job.id)).progress.downloaded_bytes == 42
    store = await open_store()
    assert (await store.get(job.id)).progress.downloaded_bytes == 42
    await store.save_progress(job.id, job.attempt, Progress(downloaded_bytes=43))
    paused = await store.change(job.id, Change(State.PAUSED, attempt=job.attempt))
    assert paused.progress.downloaded_bytes == 43


async def test_the_next_job_is_the_first_of_the_highest_priority_that_may_run(store: JobStore) -> None:
    soon = utc_now() + timedelta(seconds=0.2)
    await added(
        store,
        a_job(1, site="a.org"),
        a_job(2, site="b.org"),
        a_job(3, site="c.org", priority=5, ready_at=soon),
        a_job(4, site="d.org", state=State.PAUSED, priority=9),
    )
    assert (await store.next_due(()) or a_job(99)).id == a_job(1).id
    assert (await store.next_due({"a.org"}) or a_job(99)).id == a_job(2).id
    assert await store.next_due({"a.org", "b.org"}) is None
    assert await store.next_ready_at() is not None
    await asyncio.sleep(0.25)
    assert (await store.next_due(()) or a_job(99)).id == a_job(3).id


async def test_a_flood_of_one_site_does_not_hide_the_others(store: JobStore) -> None:
    await added(store, *(a_job(n) for n in range(500)), a_job(500, site="other.org"))
    assert (await store.next_due({"example.org"}) or a_job(99)).id == a_job(500).id


async def test_jobs_move_to_the_front_and_before_each_other(store: JobStore) -> None:
    await added(store, *(a_job(n, site=f"{n}.org") for n in range(1, 6)))
    await store.move([a_job(5).id], None)
    await store.move([a_job(4).id], a_job(2).id)
    for _ in range(80):  # more often than positions have gaps
        await store.move([a_job(3).id], a_job(1).id)
        await store.move([a_job(4).id], a_job(1).id)
    order = (await store.find(JobQuery(states=[State.QUEUED], sort="position"))).jobs
    assert [int(job.id, 16) for job in order] == [5, 3, 4, 1, 2]
    await store.change(a_job(1).id, Change(State.PAUSED))
    with pytest.raises(InvalidTransition):
        await store.move([a_job(2).id], a_job(1).id)


async def test_pages_are_stable_and_whole(store: JobStore) -> None:
    await added(store, *(a_job(n, media=Media(title=f"Film {n} ÄÖ")) for n in range(25)))
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.find(JobQuery(limit=7, cursor=cursor, sort="created_at"))
        seen += [job.id for job in page.jobs]
        await added(store, a_job(1000 + len(seen)))
        cursor = page.next_cursor
        if cursor is None or len(seen) > 40:
            break
    assert seen[:25] == [a_job(n).id for n in range(25)]
    assert len(seen) == len(set(seen))
    assert len((await store.find(JobQuery(text="film 2 äö"))).jobs) == 7  # 2, 12, 20 to 24
    assert (await store.find(JobQuery(site="nowhere.org"))).jobs == []
    for bad in ("x", "W10", "WzFd", "é" * 10, "bnVsbA"):
        with pytest.raises(InvalidCursor):
            await store.find(JobQuery(cursor=bad))


async def test_counts_follow_every_change(store: JobStore) -> None:
    await added(store, *(a_job(n) for n in range(10)))
    await store.change(a_job(1).id, Change(State.PAUSED))
    await store.claim(a_job(2).id, CLAIM)
    await store.remove(a_job(3).id)
    await store.change(a_job(4).id, Change(State.CANCELED))
    listed = Counter(job.state for job in (await store.find(JobQuery(limit=500))).jobs)
    assert {state: count for state, count in (await store.counts()).items() if count} == dict(listed)
    assert await store.running_by_site() == {"example.org": 1}


async def test_a_playlist_follows_its_children(store: JobStore) -> None:
    parent = a_job(1, is_playlist=True)
    children = [a_job(n, parent_id=parent.id, entry_index=n) for n in (2, 3)]
    await added(store, parent)
    await added(store, *children)
    assert (await store.get(parent.id)).children == {State.QUEUED: 2}
    with pytest.raises(ClaimRefused):
        await store.claim(parent.id, CLAIM)
    with pytest.raises(InvalidTransition):
        await store.change(parent.id, Change(State.PAUSED))
    job = await store.claim(children[0].id, CLAIM)
    assert (await store.get(parent.id)).state is State.DOWNLOADING
    await store.change(job.id, Change(State.DONE, attempt=job.attempt))
    await store.change(children[1].id, Change(State.CANCELED))
    ended = await store.get(parent.id)
    assert (ended.state, ended.children) == (State.DONE, {State.DONE: 1, State.CANCELED: 1})
    assert ended.finished_at is not None
    await store.remove(parent.id)
    with pytest.raises(JobNotFound):
        await store.get(children[1].id)


async def test_an_expired_job_leaves_a_tombstone_for_a_while(store: JobStore) -> None:
    job = await in_state(store, State.DONE)
    await store.change(job.id, Change(facts={"artifacts": (Artifact(name="a.mp4", size_bytes=1, type="video/mp4"),)}))
    assert [one.id for one in await store.finished_before(utc_now() + timedelta(seconds=1), 10)] == [job.id]
    assert await store.finished_before(utc_now() - timedelta(hours=1), 10) == []
    await store.remove(job.id, expired=True)
    with pytest.raises(JobExpired) as gone:
        await store.get(job.id)
    assert list(gone.value.facts["files"]) == ["a.mp4"]
    assert await store.drop_tombstones_before(utc_now() + timedelta(seconds=1)) >= 1
    with pytest.raises(JobNotFound):
        await store.get(job.id)


async def test_a_running_job_cannot_be_removed(store: JobStore) -> None:
    job = await in_state(store, State.DOWNLOADING)
    with pytest.raises(InvalidTransition):
        await store.remove(job.id)


async def test_the_pause_of_the_queue_survives(open_store: OpenStore) -> None:
    store = await open_store()
    state = QueueState(paused=True, reason="user", since=utc_now())
    assert await store.set_queue_state(state)
    store = await open_store()
    assert await store.queue_state() == state


async def test_a_cooldown_is_only_ever_prolonged(store: JobStore) -> None:
    later, sooner = utc_now() + timedelta(hours=2), utc_now() + timedelta(hours=1)
    await store.set_cooldown(Cooldown(site="a.org", until=later, reason="429"))
    await store.set_cooldown(Cooldown(site="a.org", until=sooner, reason="429"))
    assert [one.until for one in await store.cooldowns()] == [later]


async def test_work_folders_are_known_by_name(store: JobStore) -> None:
    await added(store, a_job(1, workdir="mdjob_1"), a_job(2))
    assert await store.workdirs() == {"mdjob_1": a_job(1).id}


async def test_a_job_whose_runner_fell_silent_says_that_it_may_still_be_alive(store: JobStore) -> None:
    await added(store, a_job())
    await store.claim(a_job().id, Claim("test:1", 0.05))
    await asyncio.sleep(0.1)
    assert [job.abandoned for job in await store.release_expired()] == [True]
    await store.claim(a_job().id, Claim("test:2", 30))
    assert [job.abandoned for job in await store.release_owner("test:")] == [False]
