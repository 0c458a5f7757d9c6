"""What the vectorised labels, splits and scores say is what plain rules say, and no split learns from what it tests."""

import math
from itertools import combinations, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.quant.evaluation.abstention import fit_conformal
from finagent.quant.evaluation.comparison import evidence
from finagent.quant.evaluation.labels import Barriers, Outcome, Path, label_minutes
from finagent.quant.evaluation.overfitting import backtest_overfitting
from finagent.quant.evaluation.scores import auc
from finagent.quant.evaluation.walk_forward import Blocks, Split, combinatorial, walk_forward

prices = st.sampled_from([97.0, 98.0, 99.0, 99.5, 100.0, 100.5, 101.0, 102.0])
bars = st.none() | st.tuples(prices, prices, prices).map(sorted)  # None: no bar; else low, close, high


def plain_label(path: list[list[float] | None], barriers: Barriers) -> tuple[Outcome, int, float]:
    """Outcome, deciding bar and exit price of an entry at 100 with an ATR of 2 %."""
    up, down = 100.0 + 2.0 * barriers.up_atr, 100.0 - 2.0 * barriers.down_atr
    told = (Outcome.UNKNOWN, 0, math.nan)
    for place, bar in enumerate(path):
        if bar is None:
            continue
        low, close, high = bar
        if high >= up and low <= down:
            return Outcome.FLAT, place, close
        if high >= up:
            return Outcome.UP, place, up
        if low <= down:
            return Outcome.DOWN, place, down
        told = (Outcome.FLAT, place, close)
    return told


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6).flatmap(lambda length: st.lists(st.lists(bars, min_size=length, max_size=length), min_size=1, max_size=5)),
    st.builds(Barriers, st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.25, 0.5, 1.0])),
)
def test_vectorised_labels_equal_the_plain_rule(paths: list[list[list[float] | None]], barriers: Barriers) -> None:
    low, close, high = np.asarray([[bar or [math.nan] * 3 for bar in path] for path in paths]).transpose(2, 0, 1)
    rows = len(paths)
    found = label_minutes(np.full(rows, 100.0), Path(high, low, close), np.full(rows, 0.02), np.full(rows, 40), barriers)
    for row, path in enumerate(paths):
        outcome, place, price = plain_label(path, barriers)
        assert found.outcome[row] == outcome
        if outcome != Outcome.UNKNOWN:
            assert found.label_end[row] == 40 + place
            assert math.isclose(found.target_atr[row], (price / 100.0 - 1.0) / 0.02, abs_tol=1e-9)


intervals = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 6)), min_size=12, max_size=60)


def require_apart(split: Split, starts: np.ndarray, ends: np.ndarray, embargo: int) -> None:
    """No label of the one is open within `embargo` sessions of a label of the other."""
    for row in split.train:
        before = ends[row] + embargo < starts[split.test]
        after = starts[row] > ends[split.test] + embargo
        assert (before | after).all()


@settings(max_examples=150, deadline=None)
@given(intervals, st.integers(1, 20), st.integers(0, 5))
def test_walk_forward_tests_each_later_row_once_by_what_was_decided_before(
    rows: list[tuple[int, int]], length: int, embargo: int
) -> None:
    starts = np.asarray([0, 81, *(start for start, _ in rows)])  # one row that every block may learn from, one to be tested
    ends = np.asarray([0, 81, *(start + open_for for start, open_for in rows)])
    splits = walk_forward(starts, ends, Blocks(first_test=20, length=length, embargo=embargo))
    for split in splits:
        require_apart(split, starts, ends, embargo)
        assert starts[split.test].max() - starts[split.test].min() < length
    for one, later in pairwise(splits):
        assert set(one.train) <= set(later.train), "anchored: nothing is forgotten"
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested) == np.flatnonzero(starts >= 20).tolist()


@settings(max_examples=100, deadline=None)
@given(intervals, st.integers(3, 6), st.integers(1, 2), st.integers(0, 2))
def test_every_path_of_combinatorial_splits_tests_each_row_once(
    rows: list[tuple[int, int]], groups: int, tested: int, embargo: int
) -> None:
    spaced = sorted(30 * number for number in range(12))  # so that each split has something left to learn from
    starts = np.asarray([*spaced, *(4 * start for start, _ in rows)])
    ends = np.asarray([*spaced, *(4 * start + open_for for start, open_for in rows)])
    found = combinatorial(starts, ends, groups, tested, embargo)
    assert len(found.splits) == math.comb(groups, tested)
    assert len(found.paths) == math.comb(groups - 1, tested - 1)
    for split in found.splits:
        require_apart(split, starts, ends, embargo)
    for path in found.paths:
        rows_tested = [
            row for group, number in enumerate(path) for row in found.splits[number].test if found.groups[row] == group
        ]
        assert sorted(rows_tested) == list(range(len(starts)))
    used = [(number, group) for path in found.paths for group, number in enumerate(path)]
    assert len(set(used)) == len(used) == tested * len(found.splits), "each forecast of a group is on one path"
    for session in set(starts.tolist()):
        assert len(set(found.groups[starts == session].tolist())) == 1, "no session is divided"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 1.0, -2.0]), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    good = [score for score, happened in rows if happened]
    bad = [score for score, happened in rows if not happened]
    if good and bad:
        pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one in good for other in bad]
        found = auc(np.asarray([score for score, _ in rows]), np.asarray([happened for _, happened in rows]))
        assert math.isclose(found, sum(pairs) / len(pairs), abs_tol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_conformal_sets_miss_no_more_of_their_own_rows_than_they_may(truths: list[float], miss_fraction: float) -> None:
    forecasts = np.asarray([[truth, 1.0 - truth] for truth in truths])
    fitted = fit_conformal(forecasts, np.zeros(len(truths), dtype=np.int64), miss_fraction)
    missed = np.count_nonzero(~fitted.sets(forecasts)[:, 0])
    assert missed <= miss_fraction * (len(truths) + 1) * (1.0 + 1e-9)
    if fitted.probability_min > 0.0:
        tighter = np.count_nonzero(forecasts[:, 0] <= fitted.probability_min)
        assert tighter + 1e-9 >= math.floor(miss_fraction * (len(truths) + 1)), "and no class is kept without need"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 1.0)), min_size=1, max_size=9))
def test_evidence_of_a_fair_game_is_one_on_average(days: list[tuple[float, float]]) -> None:
    """Over all ways that gains and losses of the same size may fall: exactly a martingale, and never below zero."""
    bound = np.asarray([size for size, _ in days])
    size = np.asarray([part * size for size, part in days])
    signs = 1.0 - 2.0 * ((np.arange(2 ** len(days))[:, np.newaxis] >> np.arange(len(days))) & 1)
    capital = np.asarray([evidence(sign * size, bound) for sign in signs])
    assert (capital > 0.0).all()
    assert np.allclose(capital.mean(axis=0), 1.0, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 4, 6]), st.integers(2, 5))
def test_overfitting_equals_the_plain_rule(seed: int, blocks: int, trials: int) -> None:
    returns = np.random.default_rng(seed).normal(size=(blocks * 5 + 1, trials))
    parts = np.array_split(returns[1:], blocks)
    logits = []
    for chosen in combinations(range(blocks), blocks // 2):
        learned = np.concatenate([parts[number] for number in chosen])
        tested = np.concatenate([parts[number] for number in range(blocks) if number not in chosen])
        best = int((learned.mean(axis=0) / learned.std(axis=0)).argmax())
        ratios = tested.mean(axis=0) / tested.std(axis=0)
        relative = (1 + np.count_nonzero(ratios < ratios[best])) / (trials + 1)
        logits.append(math.log(relative / (1.0 - relative)))
    found = backtest_overfitting(returns, blocks)
    assert np.allclose(found.logits, logits)
    assert found.probability == np.mean(np.asarray(logits) <= 0.0)
