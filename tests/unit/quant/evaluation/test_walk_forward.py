"""What is learned from was decided before what is tested began."""

import math

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.walk_forward import Blocks, combinatorial, walk_forward

DAYS = np.arange(10)


def test_splits_by_hand() -> None:
    """Ten sessions, a label open for two of them, tests of three sessions from the fifth on, one session of embargo."""
    one, other = walk_forward(DAYS, DAYS + 1, Blocks(first_test=5, length=3, embargo=1))
    assert (one.train.tolist(), one.test.tolist()) == ([0, 1, 2], [5, 6, 7])
    assert (other.train.tolist(), other.test.tolist()) == ([0, 1, 2, 3, 4, 5], [8, 9])


def test_a_block_without_rows_is_left_out() -> None:
    sparse = np.asarray([0, 1, 2, 20, 21])
    splits = walk_forward(sparse, sparse, Blocks(first_test=10, length=5, embargo=0))
    assert [split.test.tolist() for split in splits] == [[3, 4]]


def test_walk_forward_refuses_by_name() -> None:
    with pytest.raises(BadInput, match="0 rows to learn from before the block of session 2, 1 are needed"):
        walk_forward(DAYS, DAYS, Blocks(first_test=2, length=3, embargo=5))
    with pytest.raises(BadInput, match="3 rows to learn from before the block of session 3, 4 are needed"):
        walk_forward(DAYS, DAYS, Blocks(first_test=3, length=3, embargo=0, train_rows_min=4))
    with pytest.raises(BadInput, match="no row from session 99 on"):
        walk_forward(DAYS, DAYS, Blocks(first_test=99, length=3))
    with pytest.raises(BadInput, match="1 labels end before they start, the first in row 4"):
        walk_forward(DAYS, np.where(DAYS == 4, 3, DAYS), Blocks(first_test=5, length=3))
    with pytest.raises(BadInput, match="must be one of each a row"):
        walk_forward(DAYS, DAYS[:5], Blocks(first_test=5, length=3))
    with pytest.raises(BadInput, match="length 0"):
        Blocks(first_test=5, length=0)


def test_combinatorial_splits_by_hand() -> None:
    """Six sessions in three groups of two, one tested at a time, no embargo, labels of one session."""
    found = combinatorial(DAYS[:6], DAYS[:6], groups=3, tested=1, embargo=0)
    assert [(split.train.tolist(), split.test.tolist()) for split in found.splits] == [
        ([2, 3, 4, 5], [0, 1]),
        ([0, 1, 4, 5], [2, 3]),
        ([0, 1, 2, 3], [4, 5]),
    ]
    assert found.paths.tolist() == [[0, 1, 2]]


def test_purge_and_embargo_cut_on_both_sides_of_a_test() -> None:
    """Labels of two sessions: that of session 2 reaches into group 3-5, that of 5 into session 6; the embargo takes one more."""
    days = np.arange(9)
    middle = combinatorial(days, days + 1, groups=3, tested=1, embargo=0).splits[1]
    assert middle.train.tolist() == [0, 1, 7, 8]
    middle = combinatorial(days, days + 1, groups=3, tested=1, embargo=1).splits[1]
    assert middle.train.tolist() == [0, 8]


def test_six_over_two_are_fifteen_splits_and_five_paths() -> None:
    days = np.repeat(np.arange(120), 3)
    found = combinatorial(days, days, groups=6, tested=2)
    assert len(found.splits) == math.comb(6, 2) == 15
    assert found.paths.shape == (math.comb(5, 1), 6)


def test_combinatorial_splits_refuse_by_name() -> None:
    for groups, tested in ((3, 3), (3, 0), (11, 1)):
        with pytest.raises(BadInput, match=f"{tested} of {groups} groups over 10 sessions"):
            combinatorial(DAYS, DAYS, groups, tested)
    with pytest.raises(BadInput, match=r"nothing is left to learn from when groups \(0,\) are tested"):
        combinatorial(DAYS, DAYS, groups=2, tested=1, embargo=9)
