"""The one table of a job's states, its legal transitions and what a user may ask of it in each state."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a job is on its way from a link to a file."""

    #: Waits for its turn: for a slot, a site, a time, or the end of a pause of the queue.
    QUEUED = "queued"
    #: A runner holds it and finds out what is behind the link.
    EXTRACTING = "extracting"
    #: A runner holds it and bytes are coming in.
    DOWNLOADING = "downloading"
    #: A runner holds it; everything is on disk and is being merged, converted, verified, published.
    PROCESSING = "processing"
    #: The files are published. Left only by an explicit retry, when a file is gone.
    DONE = "done"
    #: The user stopped it; its bytes are kept.
    PAUSED = "paused"
    #: It failed for good, and ``failure`` says why; its bytes are kept for a retry.
    ERROR = "error"
    #: The user gave it up; its work folder is gone.
    CANCELED = "canceled"


class Action(StrEnum):
    """What a user can ask of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


class Signal(StrEnum):
    """A user's wish that the runner of a job has not obeyed yet."""

    PAUSE = "pause"
    CANCEL = "cancel"


#: A runner holds the job in these states, under a lease.
RUNNING: frozenset[State] = frozenset({State.EXTRACTING, State.DOWNLOADING, State.PROCESSING})
#: Nothing happens any more in these states unless the user asks for it.
FINISHED: frozenset[State] = frozenset({State.DONE, State.ERROR, State.CANCELED})

#: Every legal move. Running states are entered only from ``queued``, by a claim, so that a resume and a retry
#: compete for a slot like everything else. From each running state a job can go back to ``queued`` (its runner
#: died, the server stopped, or a failure is retried later). ``downloading -> extracting`` is the expired link
#: that is extracted anew; ``extracting -> processing`` and ``downloading -> done`` are what a resume of an
#: already complete folder takes.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.EXTRACTING, State.PAUSED, State.CANCELED, State.ERROR}),
    State.EXTRACTING: frozenset(
        {State.DOWNLOADING, State.PROCESSING, State.DONE, State.QUEUED, State.PAUSED, State.CANCELED, State.ERROR}
    ),
    State.DOWNLOADING: frozenset(
        {State.EXTRACTING, State.PROCESSING, State.DONE, State.QUEUED, State.PAUSED, State.CANCELED, State.ERROR}
    ),
    State.PROCESSING: frozenset(
        {State.EXTRACTING, State.DOWNLOADING, State.DONE, State.QUEUED, State.PAUSED, State.CANCELED, State.ERROR}
    ),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELED}),
    State.ERROR: frozenset({State.QUEUED, State.CANCELED}),
    State.CANCELED: frozenset({State.QUEUED}),
    State.DONE: frozenset({State.QUEUED}),
}

#: Where an action leads in the states that nobody runs. In running states an action becomes a signal instead.
_OUTCOMES: Mapping[tuple[Action, State], State] = {
    (Action.PAUSE, State.QUEUED): State.PAUSED,
    (Action.RESUME, State.PAUSED): State.QUEUED,
    (Action.CANCEL, State.QUEUED): State.CANCELED,
    (Action.CANCEL, State.PAUSED): State.CANCELED,
    (Action.CANCEL, State.ERROR): State.CANCELED,
    (Action.RETRY, State.ERROR): State.QUEUED,
    (Action.RETRY, State.CANCELED): State.QUEUED,
    (Action.RETRY, State.DONE): State.QUEUED,
}

_SIGNALS: Mapping[Action, Signal] = {Action.PAUSE: Signal.PAUSE, Action.CANCEL: Signal.CANCEL}

#: Asking again for what is already so is a success, not a conflict.
_ALREADY: Mapping[Action, frozenset[State]] = {
    Action.PAUSE: frozenset({State.PAUSED}),
    Action.RESUME: frozenset({State.QUEUED, *RUNNING}),
    Action.CANCEL: frozenset({State.CANCELED}),
    Action.RETRY: frozenset({State.QUEUED, *RUNNING}),
}


def can_move(current: State, target: State) -> bool:
    """Say whether a job may go from ``current`` to ``target``."""
    return target in TRANSITIONS[current]


def obeyed(current: State, target: State, signal: Signal | None) -> State:
    """Return where a job really goes when its runner lets go of it while a user's wish is pending.

    A job on its way back to the queue ends as the user asked instead, and a failure does not overrule a cancel:
    no crash, failure or stop of the server may swallow a wish.
    """
    if signal is None or current not in RUNNING or target not in {State.QUEUED, State.ERROR}:
        return target
    if signal is Signal.CANCEL:
        return State.CANCELED
    return State.PAUSED if target is State.QUEUED else target


def inherited(parent: State, signal: Signal | None, child: State) -> State:
    """Return the state in which a child is added to a parent that is being listed (and is no playlist yet).

    What was asked of the parent holds for the children that are found afterwards.
    """
    if child is not State.QUEUED:
        return child
    if signal is Signal.CANCEL or parent is State.CANCELED:
        return State.CANCELED
    return State.PAUSED if signal is Signal.PAUSE or parent is State.PAUSED else child


def outcome(action: Action, state: State) -> State | None:
    """Return the state that the action leads to at once, or None where it is a signal or does not apply."""
    return _OUTCOMES.get((action, state))


def signal_for(action: Action, state: State) -> Signal | None:
    """Return the signal that the action becomes for the runner of a job in ``state``, if it does."""
    return _SIGNALS.get(action) if state in RUNNING else None


def already_true(action: Action, state: State, signal: Signal | None) -> bool:
    """Say whether the wish is fulfilled, or under way, so that repeating it changes nothing.

    A running job with a pending signal is not "resumed already": the wish to stop has been taken and the
    runner is obeying it.
    """
    if state in RUNNING and signal is not None:
        return _SIGNALS.get(action) == signal
    return state in _ALREADY[action]


def allowed_actions(state: State, signal: Signal | None = None, *, file_is_gone: bool = False) -> list[Action]:
    """List what a user may ask for now, in the order in which a page shows it.

    A pending pause may still be raised to a cancel; a pending cancel leaves nothing to ask for.
    ``file_is_gone`` opens the retry of a ``done`` job, which would otherwise fetch what is already there.
    """
    if state in RUNNING:
        if signal is Signal.CANCEL:
            return []
        return [Action.CANCEL] if signal is Signal.PAUSE else [Action.PAUSE, Action.CANCEL]
    if state is State.DONE:
        return [Action.RETRY] if file_is_gone else []
    return [action for action in Action if (action, state) in _OUTCOMES]


def derived_state(children: Mapping[State, int]) -> State:
    """Return the state of a playlist's parent from how many of its children are in which state.

    The parent is running while any child runs, waits while any child waits, and is finished with the gravest
    of its children's ends. No children at all is ``done``: an empty playlist has nothing left to fetch.
    """
    for state in (State.DOWNLOADING, State.PROCESSING, State.EXTRACTING, State.QUEUED, State.PAUSED, State.ERROR):
        if children.get(state, 0) > 0:
            return State.DOWNLOADING if state in RUNNING else state
    if children.get(State.DONE, 0) == 0 and children.get(State.CANCELED, 0) > 0:
        return State.CANCELED
    return State.DONE
