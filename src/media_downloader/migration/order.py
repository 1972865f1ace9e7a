"""Which jobs must be placed anew so that a queue has the order of another one. No I/O."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

#: A store puts each new job 2**32 behind the last: this far from the outermost there is nobody else.
MARGIN = 1 << 30


def new_places(positions: Sequence[int]) -> dict[int, int]:
    """Return by index the positions to change, as few as possible, so that the sequence ascends."""
    if not positions:
        return {}
    anchors = [-1, *_longest_ascending(positions), len(positions)]
    lowest, highest = min(positions) - MARGIN, max(positions) + MARGIN
    changed: dict[int, int] = {}
    for left, right in pairwise(anchors):
        low = lowest if left < 0 else positions[left]
        high = highest if right == len(positions) else positions[right]
        between = right - left - 1
        for number in range(1, between + 1):
            changed[left + number] = low + (high - low) * number // (between + 1)
    return changed


def _longest_ascending(values: Sequence[int]) -> list[int]:
    """Return the indexes of the longest strictly ascending subsequence."""
    #: For each length, the smallest value and its index that such a subsequence can end with.
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        length = bisect_left(tails, value)
        before.append(ends[length - 1] if length > 0 else -1)
        tails[length : length + 1] = [value]
        ends[length : length + 1] = [index]
    found = []
    index = ends[-1]
    while index >= 0:
        found.append(index)
        index = before[index]
    return found[::-1]
