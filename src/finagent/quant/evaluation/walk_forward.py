"""Which rows a model may learn from and which it is tested on: no label of the one reaches into the other."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from finagent.domain.errors import BadInput

Ints = NDArray[np.int64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the rows to learn from and of those to be tested on, both ascending."""

    train: Rows
    test: Rows


@dataclass(frozen=True, slots=True)
class CombinatorialSplits:
    """`paths` [paths, groups]: the split from which a path takes the forecasts of a group; each path tests every row once."""

    splits: tuple[Split, ...]
    groups: Ints  # [rows]: the group of each row
    paths: Ints


@dataclass(frozen=True, slots=True)
class Blocks:
    """Tests from `first_test` on, `length` sessions each; `embargo` sessions between the last label that is learned from and the
    first that is tested, at least `train_rows_min` rows before."""

    first_test: int
    length: int
    embargo: int = 5
    train_rows_min: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or self.embargo < 0 or self.train_rows_min < 1:
            raise BadInput(
                f"walk-forward: length {self.length} and train_rows_min {self.train_rows_min} must be at least 1, "
                f"embargo {self.embargo} at least 0"
            )


def walk_forward(starts: Ints, ends: Ints, blocks: Blocks) -> tuple[Split, ...]:
    """Anchored splits over labels that are open from `starts` to `ends` [rows], both included, as indices of sessions.

    A block is tested by what was decided more than `embargo` sessions before it began, so the test of a row never saw its own
    label's time; a block without rows is left out. BadInput for labels that end before they start, and for a block with too few
    rows before it. (Lopez de Prado, Advances in Financial Machine Learning, 2018, 7.4.)
    """
    _require_intervals(starts, ends)
    found = []
    for first in range(blocks.first_test, int(starts.max()) + 1, blocks.length):
        test = np.flatnonzero((starts >= first) & (starts < first + blocks.length))
        if not len(test):
            continue
        train = np.flatnonzero(ends < first - blocks.embargo)
        if len(train) < blocks.train_rows_min:
            raise BadInput(
                f"walk-forward: {len(train)} rows to learn from before the block of session {first}, "
                f"{blocks.train_rows_min} are needed: begin later"
            )
        found.append(Split(train, test))
    if not found:
        raise BadInput(f"walk-forward: no row from session {blocks.first_test} on")
    return tuple(found)


def combinatorial(starts: Ints, ends: Ints, groups: int, tested: int, embargo: int = 5) -> CombinatorialSplits:
    """All ways to test `tested` of `groups` stretches of time and to learn from the others, purged and embargoed on both sides.

    Stretches hold equally many sessions that have rows, and no session is divided. N over k splits make k/N of as many paths
    (Lopez de Prado 2018, 12.4). BadInput for labels that end before they start, fewer sessions than groups, `tested` not from 1
    to below `groups`, and a split that has nothing left to learn from.
    """
    _require_intervals(starts, ends)
    sessions = np.unique(starts)
    if not 1 <= tested < groups <= len(sessions) or embargo < 0:
        raise BadInput(
            f"combinatorial splits: {tested} of {groups} groups over {len(sessions)} sessions with embargo {embargo}: "
            "1 <= tested < groups <= sessions and embargo >= 0 are needed"
        )
    group_of_session = np.concatenate(
        [np.full(len(part), number) for number, part in enumerate(np.array_split(sessions, groups))]
    )
    group = group_of_session[np.searchsorted(sessions, starts)].astype(np.int64)
    begins = np.asarray([starts[group == number].min() for number in range(groups)])
    stops = np.asarray([ends[group == number].max() for number in range(groups)])
    near = (starts[:, np.newaxis] <= stops + embargo) & (ends[:, np.newaxis] >= begins - embargo)  # [rows, groups]
    splits = []
    chosen = list(combinations(range(groups), tested))
    for choice in chosen:
        train = np.flatnonzero(~near[:, choice].any(axis=1))
        if not len(train):
            raise BadInput(f"combinatorial splits: nothing is left to learn from when groups {choice} are tested")
        splits.append(Split(train, np.flatnonzero(np.isin(group, choice))))
    holds = np.asarray([[number in choice for number in range(groups)] for choice in chosen])
    paths = np.stack([np.flatnonzero(holds[:, number]) for number in range(groups)], axis=1)
    return CombinatorialSplits(tuple(splits), group, paths.astype(np.int64))


def _require_intervals(starts: Ints, ends: Ints) -> None:
    if starts.ndim != 1 or starts.shape != ends.shape or not len(starts):
        raise BadInput(f"splits: starts {starts.shape} and ends {ends.shape} must be one of each a row, and not empty")
    backwards = int(np.count_nonzero(ends < starts))
    if backwards:
        raise BadInput(f"splits: {backwards} labels end before they start, the first in row {int((ends < starts).argmax())}")
