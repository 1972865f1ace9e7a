"""The table of states and moves, row by row and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.jobs.state import (
    FINISHED,
    RUNNING,
    TRANSITIONS,
    Action,
    Signal,
    State,
    allowed_actions,
    already_true,
    can_move,
    derived_state,
    obeyed,
    outcome,
    signal_for,
)

states = st.sampled_from(list(State))
actions = st.sampled_from(list(Action))
signals = st.sampled_from([None, *Signal])

#: The design's table: what a user's wish leads to in each state. "signal" is a wish for the runner.
TABLE = {
    State.QUEUED: {Action.PAUSE: State.PAUSED, Action.CANCEL: State.CANCELED},
    State.EXTRACTING: {Action.PAUSE: "signal", Action.CANCEL: "signal"},
    State.DOWNLOADING: {Action.PAUSE: "signal", Action.CANCEL: "signal"},
    State.PROCESSING: {Action.PAUSE: "signal", Action.CANCEL: "signal"},
    State.PAUSED: {Action.RESUME: State.QUEUED, Action.CANCEL: State.CANCELED},
    State.ERROR: {Action.CANCEL: State.CANCELED, Action.RETRY: State.QUEUED},
    State.CANCELED: {Action.RETRY: State.QUEUED},
    State.DONE: {Action.RETRY: State.QUEUED},
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("action", list(Action))
def test_each_cell_of_the_table(state: State, action: Action) -> None:
    expected = TABLE[state].get(action)
    assert outcome(action, state) == (None if expected == "signal" else expected)
    assert (signal_for(action, state) is not None) == (expected == "signal")


@given(states, actions)
def test_a_wish_only_leads_where_a_move_is_legal(state: State, action: Action) -> None:
    target = outcome(action, state)
    if target is not None:
        assert can_move(state, target)


@given(states)
def test_nothing_runs_without_a_claim(state: State) -> None:
    if state is not State.QUEUED and state not in RUNNING:
        assert not TRANSITIONS[state] & RUNNING


@given(states)
def test_no_state_moves_to_itself_and_each_can_be_left(state: State) -> None:
    assert not can_move(state, state)
    assert TRANSITIONS[state]


@given(states, signals, st.booleans())
def test_what_is_allowed_can_be_done(state: State, signal: Signal | None, gone: bool) -> None:
    for action in allowed_actions(state, signal if state in RUNNING else None, file_is_gone=gone):
        assert outcome(action, state) is not None or signal_for(action, state) is not None


@given(states, actions, signals)
def test_what_is_already_so_is_not_refused(state: State, action: Action, signal: Signal | None) -> None:
    if already_true(action, state, signal if state in RUNNING else None):
        assert outcome(action, state) is None


def test_a_cancel_leaves_nothing_to_ask_for_and_a_pause_may_still_become_one() -> None:
    for state in RUNNING:
        assert allowed_actions(state, Signal.CANCEL) == []
        assert allowed_actions(state, Signal.PAUSE) == [Action.CANCEL]
        assert not already_true(Action.RESUME, state, Signal.PAUSE)


@given(states, states, signals)
def test_where_a_wish_leads_is_a_legal_move(current: State, target: State, signal: Signal | None) -> None:
    if can_move(current, target):
        assert can_move(current, obeyed(current, target, signal))


@given(st.dictionaries(states, st.integers(1, 5), max_size=8))
def test_a_playlist_is_as_its_children(children: dict[State, int]) -> None:
    state = derived_state(children)
    if any(children.get(one) for one in RUNNING):
        assert state in RUNNING
    elif children.get(State.QUEUED):
        assert state is State.QUEUED
    elif children:
        assert state in children
    else:
        assert state in FINISHED
