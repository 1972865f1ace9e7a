"""What a user's wish makes of a job, and of a playlist's children as one."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from media_downloader.errors import InvalidTransition
from media_downloader.jobs.model import Job
from media_downloader.jobs.state import (
    RUNNING,
    Action,
    Signal,
    State,
    allowed_actions,
    already_true,
    outcome,
    signal_for,
)
from media_downloader.ports import Change, JobQuery, JobStore

#: How often an action is tried again when jobs move under it.
RACES = 5
#: Children that are acted on in one step of the store; other writes come between two steps.
PAGE = 200


@dataclass(frozen=True)
class Step:
    """What one step of an action did to some children."""

    #: The children that changed, as they were and as they are.
    changed: Sequence[tuple[Job, Job]]
    #: Whether the action fits any of the children of this step: one changed, or is as it was asked to be.
    fits: bool


def wish_for(action: Action, job: Job, *, file_is_gone: bool = False) -> Change | Signal | None:
    """Return what to write to carry an action out; None when it is so already. Raises ``InvalidTransition``."""
    if already_true(action, job.state, job.signal):
        return None
    if action not in allowed_actions(job.state, job.signal, file_is_gone=file_is_gone):
        raise does_not_apply(action, job)
    signal = signal_for(action, job.state)
    if signal is not None:
        return signal
    return Change(outcome(action, job.state), _facts_for(action, job), expected={job.state})


def does_not_apply(action: Action, job: Job) -> InvalidTransition:
    """Return the error that says so."""
    return InvalidTransition(
        f"Cannot {action} a job that is {job.state}.", state=str(job.state), signal=job.signal and str(job.signal)
    )


def actions_on_children(children: Mapping[State, int]) -> list[Action]:
    """Return what can be asked of at least one child. Whose files are gone is not looked up for all of them."""
    states = [state for state, count in children.items() if count > 0]
    return [action for action in Action if any(action in allowed_actions(state) for state in states)]


def states_acted_on(action: Action, parent: Job) -> list[State]:
    """Return the states of the children to which an action is passed on.

    A retry is for what failed. A child that was canceled is left so, as the user gave it up; unless the whole
    playlist was given up, or nothing failed and that is all that a retry can mean.
    """
    states = [state for state in State if state in RUNNING or action in allowed_actions(state)]
    if action is Action.RETRY and parent.children.get(State.ERROR, 0) > 0 and parent.state is not State.CANCELED:
        states.remove(State.CANCELED)
    return states


async def pages_of_children(
    store: JobStore, parent_id: str, states: Collection[State] = (), sort: str = "created_at"
) -> AsyncIterator[Sequence[Job]]:
    """Yield a playlist's children in pages; the cursor holds while they change state."""
    cursor: str | None = None
    while True:
        page = await store.find(JobQuery(states=states, parent_id=parent_id, sort=sort, limit=PAGE, cursor=cursor))
        if page.jobs:
            yield page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return


async def act_on_children(
    store: JobStore, parent_id: str, action: Action, states: Collection[State]
) -> AsyncIterator[Step]:
    """Carry an action out on every child in these states that it fits, a page of them in one step of the store.

    Children that move meanwhile are looked at again. Folders of canceled ones are the caller's to remove.
    """
    for _ in range(RACES):
        missed = False
        async for children in pages_of_children(store, parent_id, states):
            before = {child.id: child for child in children}
            wishes: dict[str, Change | Signal] = {}
            fits = False
            for child in children:
                try:
                    wish = wish_for(action, child)
                except InvalidTransition:
                    # One that has ended meanwhile, or that cannot be paused any more, keeps no other from it.
                    continue
                fits = True
                if wish is not None:
                    wishes[child.id] = wish
            changed = await store.change_many(wishes) if wishes else ()
            missed = missed or len(changed) < len(wishes)
            yield Step([(before[job.id], job) for job in changed], fits)
        if not missed:
            return


def _facts_for(action: Action, job: Job) -> dict[str, Any]:
    """Return what else changes: who asks for another try gets all of the retries again."""
    if action is Action.CANCEL:
        return {"workdir": None}
    if action is Action.PAUSE:
        return {}
    facts: dict[str, Any] = {"ready_at": job.not_before, "retries": 0, "crashes": 0, "failure": None}
    if action is Action.RETRY and job.state in {State.DONE, State.CANCELED}:
        facts |= {"artifacts": (), "progress": type(job.progress)(), "notices": (), "workdir": None}
    if action is Action.RETRY:
        # What was extracted when it failed may be what it failed of.
        facts["extract_anew"] = True
    return facts
