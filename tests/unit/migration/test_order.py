"""Places that are given anew make the order right, and are as few as can be."""

from hypothesis import given
from hypothesis import strategies as st

from media_downloader.migration.order import new_places

GAP = 1 << 32


@given(st.permutations(list(range(1, 12))))
def test_any_order_is_reached(order: list[int]) -> None:
    positions = [number * GAP for number in order]
    changed = new_places(positions)
    after = [changed.get(index, position) for index, position in enumerate(positions)]
    assert after == sorted(set(after))
    # Whoever stood before all of them, or comes behind all of them, does so still.
    assert after[0] > 0
    assert after[-1] < 12 * GAP


def test_what_stands_right_is_left_alone() -> None:
    assert new_places([GAP, 2 * GAP, 3 * GAP]) == {}
    assert new_places([]) == {}


def test_one_job_that_was_moved_is_the_only_one_to_be_placed() -> None:
    assert list(new_places([500 * GAP, *(number * GAP for number in range(1, 500))])) == [0]
    assert list(new_places([*(number * GAP for number in range(2, 500)), GAP])) == [498]
