"""Features of bars, whatever the bars: the same numbers however they are driven, and none where none can be known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.domain.bars import Floats
from finagent.quant.features.bar_features import BarFeatures, over_history
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS

HOLE = 3
LONGEST = max(feature.warmup for feature in BARS.features)
seeds = st.integers(0, 2**32 - 1)


def walk(seed: int, bars: int, symbols: int, *, holes: float = 0.0) -> list[BarRows]:
    """A random walk; `holes` is the chance of a bar to be missing."""
    chance = np.random.default_rng(seed)
    shape = (bars, symbols)
    close = 50 * np.exp(np.cumsum(chance.standard_normal(shape) * 0.02, axis=0))
    open_ = close * np.exp(chance.standard_normal(shape) * 0.01)
    high = np.maximum(open_, close) * np.exp(np.abs(chance.standard_normal(shape)) * 0.01)
    low = np.minimum(open_, close) * np.exp(-np.abs(chance.standard_normal(shape)) * 0.01)
    volume = chance.integers(0, 1_000_000, shape).astype(np.float64)
    usable = chance.random(shape) >= holes
    return [BarRows(*row) for row in zip(open_, high, low, close, volume, usable, strict=True)]


def features(symbols: int, index: int | None = None) -> BarFeatures:
    return BarFeatures(symbols, index=index, hole_bars_max=HOLE)


def of_symbols(bars: Sequence[BarRows], places: Sequence[int]) -> list[BarRows]:
    names = ("open", "high", "low", "close", "volume", "usable")
    return [BarRows(*(getattr(row, name)[list(places)] for name in names)) for row in bars]


def without(values: Floats, *groups: str) -> Floats:
    """The columns of all features but those groups."""
    return values[..., [place for place, feature in enumerate(BARS.features) if feature.group.value not in groups]]


def same(found: Floats, expected: Floats) -> None:
    """Relative 1e-9, absolute below 1e-3, where percents and ratios are the difference of larger numbers."""
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, cut=st.integers(1, 299), holes=st.sampled_from([0.0, 0.02, 0.3]))
def test_a_saved_state_goes_on_as_if_nothing_had_been(seed: int, cut: int, holes: float) -> None:
    bars = walk(seed, 300, 3, holes=holes)
    first, second = features(3), features(3)
    whole = over_history(first, bars)
    second_half = features(3)
    over_history(second, bars[:cut])
    second_half.bars.restore(second.bars.state())
    np.testing.assert_array_equal(over_history(second_half, bars[cut:]), whole[cut:])


@settings(max_examples=15, deadline=None)
@given(seed=seeds, late=st.integers(0, 150), holes=st.sampled_from([0.0, 0.02, 0.3]))
def test_a_symbol_is_what_it_is_alone(seed: int, late: int, holes: float) -> None:
    """Whoever stands beside it, whenever it was listed: but for the market's features, which are of all."""
    bars = walk(seed, 320, 3, holes=holes)
    for row in bars[:late]:
        row.usable[2] = False
    together = over_history(features(3), bars)[late:, 2]
    alone = over_history(features(1), of_symbols(bars[late:], [2]))[:, 0]
    same(without(together, "MARKET", "CROSS_SECTION"), without(alone, "MARKET", "CROSS_SECTION"))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, factor=st.sampled_from([0.1, 0.5, 2.0, 7.0, 28.0]))
def test_a_split_changes_nothing(seed: int, factor: float) -> None:
    bars = walk(seed, LONGEST + 20, 2)
    split = [
        replace(
            row,
            open=row.open / factor,
            high=row.high / factor,
            low=row.low / factor,
            close=row.close / factor,
            volume=row.volume * factor,
        )
        for row in bars
    ]
    found, expected = over_history(features(2), split), over_history(features(2), bars)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10, equal_nan=True)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_after_a_long_hole_a_symbol_begins_anew(seed: int) -> None:
    bars = walk(seed, 600, 2)
    for row in bars[300 : 300 + HOLE + 1]:
        row.usable[1] = False
    values = over_history(features(2), bars)[:, 1]
    fresh = over_history(features(1), of_symbols(bars[300 + HOLE + 1 :], [1]))[:, 0]
    assert np.isnan(values[300 + HOLE]).all()
    same(without(values[300 + HOLE + 1 :], "MARKET", "CROSS_SECTION"), without(fresh, "MARKET", "CROSS_SECTION"))


def test_a_short_hole_is_flat() -> None:
    """As a bar at the last close without volume would be."""
    bars = walk(1, 300, 2)
    filled = [
        replace(
            row, open=row.open.copy(), high=row.high.copy(), low=row.low.copy(), close=row.close.copy(), volume=row.volume.copy()
        )
        for row in bars
    ]
    for number in range(200, 200 + HOLE):
        bars[number].usable[0] = False
        for column in (filled[number].open, filled[number].high, filled[number].low, filled[number].close):
            column[0] = bars[199].close[0]
        filled[number].volume[0] = 0.0
    np.testing.assert_array_equal(over_history(features(2), bars), over_history(features(2), filled))


def test_before_its_warm_up_a_feature_is_unknown_and_then_known() -> None:
    values = over_history(features(1), walk(2, LONGEST + 5, 1))[:, 0]
    for place, feature in enumerate(BARS.features):
        assert np.isnan(values[: feature.warmup - 1, place]).all(), feature.name
        assert np.isfinite(values[feature.warmup - 1 :, place]).all(), feature.name


def test_where_nothing_moves_everything_is_neutral() -> None:
    price = np.full(2, 10.0)
    flat = [BarRows(price, price, price, price, np.full(2, 500.0), np.ones(2, dtype=np.bool_))] * (LONGEST + 1)
    values = over_history(features(2), flat)[-1, 0]
    for feature, value in zip(BARS.features, values.tolist(), strict=True):
        assert np.isfinite(value), feature.name
        assert feature.neutral is None or value == pytest.approx(feature.neutral, abs=1e-12), feature.name


@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_what_is_before_the_warm_up_is_forgotten(seed: int) -> None:
    """Two symbols with other pasts and the same last bars: within what a mean may still remember (smoothing.MEMORY_MAX)."""
    past, other, last = walk(seed, 100, 1), walk(seed + 1, 100, 1), walk(seed + 2, LONGEST, 1)
    found = [over_history(features(1), [*before, *last])[-1, 0] for before in (past, other)]
    spread = np.nanstd(over_history(features(1), walk(seed + 3, LONGEST + 400, 1))[LONGEST:, 0], axis=0)
    told = without(np.abs(found[0] - found[1]) / np.where(spread > 0, spread, 1.0), "CROSS_SECTION")
    assert told.max() < 0.05, BARS.names[int(told.argmax())]


@pytest.mark.parametrize("deviation", [0.02, 0.005, 0.0005])
def test_a_huge_tick_is_forgotten_with_its_window(deviation: float) -> None:
    """One bar at ten times its price: once it has left the window, nothing of it is left, in quiet minutes as in days."""
    chance = np.random.default_rng(3)
    close = 50 * np.exp(np.cumsum(chance.standard_normal((400, 2)) * deviation, axis=0))
    close[80] *= 10.0
    volume, usable = chance.integers(1, 1_000_000, close.shape).astype(np.float64), np.ones(2, dtype=np.bool_)
    bars = [BarRows(c * 0.9999, c * 1.0002, c * 0.9997, c, v, usable) for c, v in zip(close, volume, strict=True)]
    long, fresh = over_history(features(2), bars), over_history(features(2), bars[82:])
    places = [place for place, each in enumerate(BARS.features) if each.window in (each.warmup, each.warmup + 1)]
    for after in (0, 1, 5, 20, 60, 150):
        for place in places:
            row = BARS.features[place].warmup - 1 + after
            found, expected = long[82 + row, :, place], fresh[row, :, place]
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7, err_msg=f"{BARS.names[place]}, {after} bars later")


def test_before_the_index_is_listed_what_is_of_the_market_is_unknown() -> None:
    bars = walk(11, 300, 3)
    for row in bars[:100]:
        row.usable[2] = False
    values = over_history(features(3, index=2), bars)
    for place, feature in enumerate(BARS.features):
        if feature.group.value == "MARKET":
            first = 100 + feature.warmup - 1
            assert np.isnan(values[:first, 0, place]).all(), feature.name
            assert np.isfinite(values[first:, 0, place]).all(), feature.name


def test_the_numbers_and_their_hash_change_together() -> None:
    """A formula that computes something else needs another version, so that no model takes it for the one that it knows."""
    values = over_history(features(3, index=0), walk(7, LONGEST + 10, 3))[-1]
    assert BARS.hash == "9cff8f909155f48e"
    assert float(np.round(values, 9).sum()) == pytest.approx(1522.979511510, abs=1e-6)
