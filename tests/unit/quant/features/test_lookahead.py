"""A zoo of leaks and of honest features: every leak is found and named, no honest one is suspected."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.features.lookahead import Columns, Leak, decision_rows, find_leaks

Frame = pd.DataFrame
Feature = Callable[[dict[str, Frame]], Frame]
KNOWN = frozenset({"open"})  # decisions are made at the open: of their own row nothing else is known
ROWS, SYMBOLS = 240, 4


def by_time(frame: Frame, function: Callable[[Frame], Frame]) -> Frame:
    """`function` of each block of 21 rows, as a month."""
    return pd.concat([function(part) for _, part in frame.groupby(np.arange(len(frame)) // 21)])


def whole(value: Any, like: Frame) -> Frame:
    return pd.DataFrame(np.broadcast_to(np.asarray(value, dtype=np.float64), like.shape), like.index, like.columns)


def without_line(series: "pd.Series[float]") -> "pd.Series[float]":
    rows = np.arange(len(series))
    known = series.notna()
    return series - np.polyval(np.polyfit(rows[known], series[known], 1), rows)


def first_component(values: Floats) -> Floats:
    away = np.nan_to_num(values - np.nan_to_num(values).mean(axis=0))
    return np.asarray(np.linalg.eigh(away.T @ away)[1][:, -1])


def peaks(highs: Frame) -> Frame:
    return ((highs > highs.shift(1)) & (highs > highs.shift(-1))).astype(float)


LEAKS: dict[str, Feature] = {
    "centred mean": lambda d: d["close"].shift(1).rolling(9, center=True, min_periods=1).mean(),
    "next close": lambda d: d["close"].shift(-1),
    "next open": lambda d: d["open"].shift(-1) / d["open"] - 1,
    "high of the day": lambda d: d["high"] / d["open"] - 1,
    "low of the day": lambda d: d["low"] / d["open"] - 1,
    "close of the day": lambda d: d["close"] / d["open"] - 1,
    "volume of the day": lambda d: d["volume"] / d["volume"].shift(1).rolling(5).mean(),
    "mean including today": lambda d: d["close"].rolling(5).mean(),
    "interpolated holes": lambda d: d["close"].interpolate().shift(1),
    "filled from behind": lambda d: d["close"].bfill().shift(1),
    "scaled by the whole sample": lambda d: (d["open"] - d["open"].mean()) / d["open"].std(),
    "scaled to the range of the sample": lambda d: (d["open"] - d["open"].min()) / (d["open"].max() - d["open"].min()),
    "rank over all time": lambda d: d["open"].rank(pct=True),
    "rank of the next return": lambda d: (d["close"].shift(-1) / d["close"]).rank(axis=1),
    "sorted by the future": lambda d: d["volume"][::-1].cumsum()[::-1],
    "revised figure": lambda d: d["volume"].shift(1).where(d["volume"] > d["volume"].shift(-1), d["volume"].shift(-1)),
    "label of the month's end": lambda d: by_time(d["close"], lambda part: whole(part.iloc[-1], part)),
    "month's highest": lambda d: by_time(d["high"], lambda part: whole(part.max(), part)),
    "smoothed state": lambda d: d["close"].ewm(alpha=0.2).mean()[::-1].ewm(alpha=0.2).mean()[::-1].shift(1),
    "target encoding": lambda d: by_weekday(d["close"].shift(-1) / d["open"] - 1),
    "detrended over the sample": lambda d: d["open"].apply(without_line),
    "share of the last price": lambda d: d["open"] / d["open"].iloc[-1],
    "days to the peak": lambda d: whole(d["open"].to_numpy().argmax(axis=0), d["open"]),
    "confirmed peak": lambda d: peaks(d["high"]) * d["high"],
    "first component": lambda d: whole(first_component(d["open"].to_numpy()), d["open"]) * d["open"],
}
HONEST: dict[str, Feature] = {
    "gap": lambda d: d["open"] / d["close"].ffill().shift(1) - 1,
    "last return": lambda d: d["close"].pct_change(fill_method=None).shift(1),
    "mean of closes before": lambda d: d["close"].shift(1).rolling(5).mean(),
    "exponential mean of closes before": lambda d: d["close"].shift(1).ewm(alpha=0.2).mean(),
    "volatility before": lambda d: d["close"].pct_change(fill_method=None).shift(1).rolling(20, min_periods=5).std(),
    "volume ratio before": lambda d: d["volume"].shift(1) / d["volume"].shift(1).rolling(20, min_periods=5).mean(),
    "scaled by the past": lambda d: (d["open"] - d["open"].shift(1).expanding().mean()) / d["open"].shift(1).expanding().std(),
    "rank over the past": lambda d: d["open"].expanding().rank(pct=True),
    "rank of gaps": lambda d: (d["open"] / d["close"].ffill().shift(1)).rank(axis=1),
    "holes filled from before": lambda d: d["close"].ffill().shift(1),
    "volume so far": lambda d: d["volume"].shift(1).cumsum(),
    "highest so far": lambda d: d["high"].shift(1).cummax(),
    "drawdown before": lambda d: d["close"].shift(1) / d["close"].shift(1).rolling(20, min_periods=5).max() - 1,
    "range before": lambda d: ((d["high"] - d["low"]) / d["close"]).shift(1).rolling(10, min_periods=3).mean(),
    "last month's end": lambda d: by_time(d["close"], lambda part: whole(part.iloc[-1], part)).shift(21),
    "filtered state": lambda d: d["close"].shift(1).ewm(alpha=0.2).mean().ewm(alpha=0.2).mean(),
    "target encoding of the past": lambda d: (d["close"].shift(-1) / d["open"] - 1).shift(2).expanding().mean(),
    "row number": lambda d: whole(np.arange(len(d["open"]))[:, None], d["open"]),
    "constant": lambda d: whole(np.ones((1, 1)), d["open"]),
    "correlation before": lambda d: d["close"].shift(1).rolling(20).corr(d["volume"].shift(1)),
    "open against the mean of opens": lambda d: d["open"] / d["open"].rolling(5).mean() - 1,
    "peak confirmed yesterday": lambda d: peaks(d["high"]).shift(2),
    "mean gap": lambda d: (d["open"] / d["close"].shift(1) - 1).rolling(10, min_periods=3).mean(),
}


def by_weekday(returns: Frame) -> Frame:
    weekday = np.arange(len(returns)) % 5
    return returns.groupby(weekday).transform("mean")


@pytest.fixture(scope="module")
def columns() -> Columns:
    chance = np.random.default_rng(3)
    close = 50 * np.exp(np.cumsum(chance.standard_normal((ROWS, SYMBOLS)) * 0.02, axis=0))
    open_ = close * np.exp(chance.standard_normal(close.shape) * 0.01)
    high, low = np.maximum(open_, close) * 1.01, np.minimum(open_, close) * 0.99
    volume = chance.lognormal(10, 1, close.shape)
    for row in (60, 61, 150):
        close[row, 1] = np.nan
    return {"open": open_, "high": high, "low": low, "close": close, "volume": volume}


def computed(feature: Feature) -> Callable[[Columns], Floats]:
    def compute(columns: Columns) -> Floats:
        frames = {name: Frame(column) for name, column in columns.items()}
        return feature(frames).to_numpy(dtype=np.float64)[:, :, np.newaxis]

    return compute


def leaks_of(name: str, feature: Feature, columns: Columns) -> tuple[Leak, ...]:
    return find_leaks(computed(feature), columns, (name,), decision_rows(columns, 30, 24), KNOWN)


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found(name: str, columns: Columns) -> None:
    found = leaks_of(name, LEAKS[name], columns)
    assert [leak.feature for leak in found] == [name]
    assert found[0].column


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_feature_is_not_suspected(name: str, columns: Columns) -> None:
    assert leaks_of(name, HONEST[name], columns) == ()


def test_cutting_history_off_finds_fewer(columns: Columns) -> None:
    """The same zoo by truncation alone, at 40 decisions: what reads its own row is invisible to it."""
    rows = decision_rows(columns, 30, 40)
    caught = {name for name, feature in LEAKS.items() if _changes_when_cut(computed(feature), columns, rows)}
    assert {"high of the day", "low of the day", "close of the day", "volume of the day", "mean including today"}.isdisjoint(
        caught
    )
    assert len(caught) < len(LEAKS)
    assert not [name for name, feature in HONEST.items() if _changes_when_cut(computed(feature), columns, rows)]


def _changes_when_cut(compute: Callable[[Columns], Floats], columns: Columns, rows: tuple[int, ...]) -> bool:
    told = compute(columns)
    for row in rows:
        cut = compute({name: column[: row + 1] for name, column in columns.items()})[row]
        if not np.allclose(cut, told[row], rtol=1e-7, equal_nan=True):
            return True
    return False


def test_the_offending_column_is_named(columns: Columns) -> None:
    (leak,) = leaks_of("volume of the day", LEAKS["volume of the day"], columns)
    assert leak.column == "volume"
    assert str(leak).startswith("volume of the day reads volume before it is known: row ")


def test_what_cannot_be_tested_is_refused(columns: Columns) -> None:
    with pytest.raises(BadInput, match="columns bid are not there"):
        find_leaks(computed(HONEST["gap"]), columns, ("gap",), (50,), frozenset({"bid"}))
    with pytest.raises(BadInput, match="1 features are computed, 2 are named"):
        find_leaks(computed(HONEST["gap"]), columns, ("gap", "other"), (50,), KNOWN)
    with pytest.raises(BadInput, match="240 rows are too few"):
        decision_rows(columns, 240, 5)
