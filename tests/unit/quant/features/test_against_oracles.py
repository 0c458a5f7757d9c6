"""Every feature of bars against somebody else's code: TA-Lib where it has the indicator, pandas or numpy where it has not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.sample import sample_panel
from finagent.domain.bars import Floats
from finagent.quant.features.bar_features import BarFeatures, over_history
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS

SETTLED = 700  # bars after which TA-Lib's means and ours, which begin a few bars apart, have forgotten where they began
SIMPLE: Any = 0  # TA-Lib's numbers of kinds of means, which its stubs do not export
EXPONENTIAL: Any = 1
Reference = Callable[["Series"], Floats]


@dataclass(frozen=True)
class Series:
    """The bars of one symbol, and the mean return of all."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    market: Floats

    @property
    def returns(self) -> Floats:
        return self.close / lag(self.close, 1) - 1

    @property
    def typical(self) -> Floats:
        return (self.high + self.low + self.close) / 3


def at(number: int, compute: Callable[[Series, int], Floats]) -> Reference:
    return lambda series: compute(series, number)


def lag(values: Floats, bars: int) -> Floats:
    return np.concatenate([np.full(bars, np.nan), values[:-bars]])


def mean(values: Floats, width: int) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    return np.concatenate([np.full(width - 1, np.nan), windows.mean(axis=1)])


def windowed(width: int, reduce: Callable[..., float], *values: Floats) -> Floats:
    """`reduce` of every full window, one at a time."""
    ends = range(width, len(values[0]) + 1)
    return np.concatenate([np.full(width - 1, np.nan), [reduce(*(each[end - width : end] for each in values)) for end in ends]])


def share(part: Floats, whole: Floats) -> Floats:
    """Zero of nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0.0)


def deviation(values: Floats, width: int, ddof: int = 1) -> Floats:
    return windowed(width, lambda window: float(np.std(window, ddof=ddof)), values)


def skewness(window: Floats) -> float:
    away = window - window.mean()
    return float((away**3).mean() / (away**2).mean() ** 1.5)


def kurtosis(window: Floats) -> float:
    away = window - window.mean()
    return float((away**4).mean() / (away**2).mean() ** 2 - 3)


def correlation(ours: Floats, theirs: Floats) -> float:
    return float(np.corrcoef(ours, theirs)[0, 1])


def market_line(ours: Floats, theirs: Floats) -> Floats:
    known = not np.isnan(theirs).any()
    return np.asarray(np.polyfit(theirs, ours, 1)) if known else np.full(2, np.nan)


def beta(ours: Floats, theirs: Floats) -> float:
    return float(market_line(ours, theirs)[0])


def residual_deviation(ours: Floats, theirs: Floats) -> float:
    away = ours - np.polyval(market_line(ours, theirs), theirs)
    return float(np.sqrt((away**2).sum() / (len(ours) - 2)))


def money_flow(s: Series) -> Floats:
    """TA-Lib takes two typical prices that only rounding tells apart for a rise or a fall; there the formula itself."""
    change = s.typical - lag(s.typical, 1)
    equal = np.abs(change) < 1e-12 * s.typical
    flow = s.typical * s.volume
    up, down = (mean(np.where(~equal & (sign * change > 0), flow, 0.0), 14) for sign in (1, -1))
    return np.where(mean(equal.astype(float), 14) > 0, 100 * up / (up + down), talib.MFI(s.high, s.low, s.close, s.volume, 14))


def line_fit(window: Floats) -> float:
    return float(np.corrcoef(np.arange(len(window)), window)[0, 1] ** 2)


def rogers_satchell(s: Series) -> Floats:
    product: Floats = np.log(s.high / s.close) * np.log(s.high / s.open) + np.log(s.low / s.close) * np.log(s.low / s.open)
    return product


def garman_klass(s: Series) -> Floats:
    estimate: Floats = 0.5 * np.log(s.high / s.low) ** 2 - (2 * np.log(2) - 1) * np.log(s.close / s.open) ** 2
    return estimate


def yang_zhang(s: Series, width: int) -> Floats:
    k = 0.34 / (1.34 + (width + 1) / (width - 1))
    overnight, body = np.log(s.open / lag(s.close, 1)), np.log(s.close / s.open)
    parts = deviation(overnight, width) ** 2 + k * deviation(body, width) ** 2 + (1 - k) * mean(rogers_satchell(s), width)
    return np.sqrt(parts)


def ewma_volatility(s: Series) -> Floats:
    squares = s.returns[1:] ** 2
    means = pd.Series(squares).ewm(alpha=0.06, adjust=False).mean().to_numpy()
    return np.concatenate([[np.nan], np.sqrt(means)])


def bands(s: Series) -> tuple[Floats, Floats, Floats]:
    upper, middle, lower = talib.BBANDS(s.close, 20, 2, 2)
    return upper, middle, lower


def stochastic(s: Series) -> tuple[Floats, Floats]:
    slow_k, slow_d = talib.STOCH(s.high, s.low, s.close, 14, 3, SIMPLE, 3, SIMPLE)
    return slow_k, slow_d


def overnight(s: Series) -> Floats:
    return np.asarray(np.log(s.open / lag(s.close, 1)))


def obv_change(s: Series) -> Floats:
    total = talib.OBV(s.close, s.volume)
    return (total - lag(total, 20)) / (mean(s.volume, 20) * 20)


def accumulation_change(s: Series) -> Floats:
    total = talib.AD(s.high, s.low, s.close, s.volume)
    return (total - lag(total, 20)) / (mean(s.volume, 20) * 20)


def channel(s: Series, width: int) -> Floats:
    lowest = talib.MIN(s.low, width)
    return (s.close - lowest) / (talib.MAX(s.high, width) - lowest)


def _references() -> Iterator[tuple[str, Reference]]:
    for bars in (1, 2, 3, 5, 10, 20, 40, 60):
        yield f"return_{bars}", at(bars, lambda s, bars: talib.ROCP(s.close, bars))
    yield "return_overnight", lambda s: s.open / lag(s.close, 1) - 1
    yield "return_open_to_close", lambda s: s.close / s.open - 1
    yield "range_1", lambda s: (s.high - s.low) / s.close
    yield "body", lambda s: talib.BOP(s.open, s.high, s.low, s.close)
    yield "upper_shadow", lambda s: share(s.high - np.maximum(s.open, s.close), s.high - s.low)
    yield "lower_shadow", lambda s: share(np.minimum(s.open, s.close) - s.low, s.high - s.low)
    for width in (5, 10, 20, 60):
        yield f"volatility_{width}", at(width, lambda s, width: deviation(s.returns, width))
    yield "volatility_ratio_5_60", lambda s: deviation(s.returns, 5) / deviation(s.returns, 60)
    yield "volatility_ratio_10_60", lambda s: deviation(s.returns, 10) / deviation(s.returns, 60)
    yield "volatility_ratio_20_60", lambda s: deviation(s.returns, 20) / deviation(s.returns, 60)
    yield "skewness_20", lambda s: windowed(20, skewness, s.returns)
    yield "kurtosis_20", lambda s: windowed(20, kurtosis, s.returns)
    yield "return_z_20", lambda s: (s.returns - mean(s.returns, 20)) / deviation(s.returns, 20)
    yield "up_fraction_20", lambda s: mean((s.returns > 0).astype(float), 20)
    for width in (10, 20):
        yield f"parkinson_{width}", at(width, lambda s, w: np.sqrt(mean(np.log(s.high / s.low) ** 2, w) / np.log(16)))
        yield f"garman_klass_{width}", at(width, lambda s, w: np.sqrt(np.maximum(mean(garman_klass(s), w), 0)))
        yield f"rogers_satchell_{width}", at(width, lambda s, w: np.sqrt(mean(rogers_satchell(s), w)))
        yield f"yang_zhang_{width}", at(width, lambda s, w: yang_zhang(s, w))
        yield f"overnight_volatility_{width}", at(width, lambda s, w: deviation(np.log(s.open / lag(s.close, 1)), w))
    yield "overnight_z_20", lambda s: overnight(s) / deviation(overnight(s), 20)
    yield "natr_ratio_7_21", lambda s: talib.NATR(s.high, s.low, s.close, 7) / talib.NATR(s.high, s.low, s.close, 21)
    yield "true_range_1", lambda s: talib.TRANGE(s.high, s.low, s.close) / s.close
    for period in (7, 14, 21):
        yield f"natr_{period}", at(period, lambda s, p: talib.NATR(s.high, s.low, s.close, p))
        yield f"rsi_{period}", at(period, lambda s, p: talib.RSI(s.close, p))
    yield "ewma_volatility", ewma_volatility
    yield "bollinger_position_20", lambda s: (s.close - bands(s)[2]) / (bands(s)[0] - bands(s)[2])
    yield "bollinger_width_20", lambda s: (bands(s)[0] - bands(s)[2]) / bands(s)[1]
    yield "close_z_20", lambda s: (s.close - mean(s.close, 20)) / deviation(s.close, 20, ddof=0)
    yield "cmo_14", lambda s: talib.CMO(s.close, 14)
    yield "plus_di_14", lambda s: talib.PLUS_DI(s.high, s.low, s.close, 14)
    yield "minus_di_14", lambda s: talib.MINUS_DI(s.high, s.low, s.close, 14)
    yield "dx_14", lambda s: talib.DX(s.high, s.low, s.close, 14)
    yield "adx_14", lambda s: talib.ADX(s.high, s.low, s.close, 14)
    for place, name in enumerate(("macd", "macd_signal", "macd_histogram")):
        yield name, at(place, lambda s, place: talib.MACD(s.close, 12, 26, 9)[place] / s.close)
    yield "ppo", lambda s: talib.PPO(s.close, 12, 26, EXPONENTIAL)
    yield "trix_15", lambda s: talib.TRIX(s.close, 15)
    yield "stochastic_k_14", lambda s: talib.STOCHF(s.high, s.low, s.close, 14, 1)[0]
    yield "stochastic_slow_k_14", lambda s: stochastic(s)[0]
    yield "stochastic_slow_d_14", lambda s: stochastic(s)[1]
    yield "williams_r_14", lambda s: talib.WILLR(s.high, s.low, s.close, 14)
    yield "cci_20", lambda s: talib.CCI(s.high, s.low, s.close, 20)
    yield "mfi_14", money_flow
    yield "slope_20", lambda s: talib.LINEARREG_SLOPE(s.close, 20) / s.close
    yield "slope_fit_20", lambda s: windowed(20, line_fit, s.close)
    for width in (5, 20, 60):
        yield f"volume_ratio_{width}", at(width, lambda s, w: s.volume / mean(s.volume, w))
    yield "volume_ratio_5_60", lambda s: mean(s.volume, 5) / mean(s.volume, 60)
    yield "volume_ratio_20_60", lambda s: mean(s.volume, 20) / mean(s.volume, 60)
    yield "volume_z_20", lambda s: (s.volume - mean(s.volume, 20)) / deviation(s.volume, 20, ddof=0)
    yield "log_dollar_volume_20", lambda s: np.log(mean(s.close * s.volume, 20))
    yield "obv_20", obv_change
    yield "accumulation_20", accumulation_change
    yield "vwap_distance_20", lambda s: s.close * mean(s.volume, 20) / mean(s.typical * s.volume, 20) - 1
    for width in (5, 10, 20, 60):
        yield f"sma_distance_{width}", at(width, lambda s, w: s.close / talib.SMA(s.close, w) - 1)
    for period in (5, 10, 20):
        yield f"ema_distance_{period}", at(period, lambda s, p: s.close / talib.EMA(s.close, p) - 1)
    yield "sma_cross_5_20", lambda s: talib.SMA(s.close, 5) / talib.SMA(s.close, 20) - 1
    yield "sma_cross_20_60", lambda s: talib.SMA(s.close, 20) / talib.SMA(s.close, 60) - 1
    for width in (20, 60):
        yield f"drawdown_{width}", at(width, lambda s, w: s.close / talib.MAX(s.close, w) - 1)
    for width in (20, 60):
        yield f"rebound_{width}", at(width, lambda s, w: s.close / talib.MIN(s.close, w) - 1)
    yield "channel_position_20", lambda s: channel(s, 20)
    yield "ema_cross_5_20", lambda s: talib.EMA(s.close, 5) / talib.EMA(s.close, 20) - 1
    yield "market_return_1", lambda s: s.market
    yield "market_volatility_20", lambda s: deviation(s.market, 20)
    yield "beta_60", lambda s: windowed(60, beta, s.returns, s.market)
    for width in (20, 60):
        yield f"correlation_{width}", at(width, lambda s, w: windowed(w, correlation, s.returns, s.market))
    yield "idiosyncratic_return_1", lambda s: s.returns - windowed(60, beta, s.returns, s.market) * s.market
    yield "idiosyncratic_volatility_60", lambda s: windowed(60, residual_deviation, s.returns, s.market)


REFERENCES: dict[str, Reference] = dict(_references())
RANKED = tuple(feature.name for feature in BARS.features if feature.name.startswith("rank_"))


def embedded() -> list[Floats]:
    """Three stocks of the years from 2004 on, splits adjusted."""
    panel = sample_panel(NewYorkCalendar()).of_symbols(("AAPL", "GOOG", "IBM"))
    rows = np.flatnonzero(np.isfinite(panel.close).all(axis=1))[:1500]
    factor = np.cumprod(panel.split, axis=0)[rows]
    return [*(column[rows] * factor for column in (panel.open, panel.high, panel.low, panel.close)), panel.volume[rows] / factor]


def from_file(file: str, symbols: list[str], bars: int) -> Callable[[Path], list[Floats]]:
    """The last bars at which all of the symbols traded."""

    def read(folder: Path) -> list[Floats]:
        table = pd.read_parquet(folder / f"{file}.parquet")
        table = table[table["symbol"].isin(symbols)]
        wide = {name: table.pivot_table(index="timestamp", columns="symbol", values=name) for name in COLUMNS}
        known = pd.concat(list(wide.values()), axis=1).dropna().index[-bars:]
        return [wide[name].loc[known].to_numpy(dtype=np.float64) for name in COLUMNS]

    return read


COLUMNS = ("open", "high", "low", "close", "volume")
SHARED = {  # other vendors, years and lengths of bars; of raw prices those without a split in these bars
    "yahoo88": from_file("daily_yahoo88_shared", ["JNJ", "XOM"], 1000),
    "universe": from_file("daily_universe_2013-2016", ["ACAD", "AEIS"], 820),
    "lean": from_file("daily_lean_unadjusted_shared", ["BAC", "SPY"], 1000),
    "hours": from_file("hourly_lean_unadjusted_shared", ["BAC", "SPY"], 1000),
    "minutes": from_file("minute_2019-02-11_15_shared", ["AAPL", "BAC"], 1000),
}


@pytest.fixture(scope="module", params=["embedded", *SHARED])
def real_bars(request: pytest.FixtureRequest) -> tuple[list[Series], Floats]:
    """Real bars, and our values of them [bars, symbols, features]."""
    read = SHARED.get(request.param)
    open_, high, low, close, volume = embedded() if read is None else read(request.getfixturevalue("market_data_folder"))
    symbols = close.shape[1]
    usable = np.ones(symbols, dtype=np.bool_)
    bars = (BarRows(*each, usable) for each in zip(open_, high, low, close, volume, strict=True))
    values = over_history(BarFeatures(symbols, index=None, hole_bars_max=5), bars)
    market = np.concatenate([[np.nan], (close[1:] / close[:-1] - 1).mean(axis=1)])
    o, h, low_, c, v = (column.T.copy() for column in (open_, high, low, close, volume))
    return [Series(o[place], h[place], low_[place], c[place], v[place], market) for place in range(symbols)], values


def test_every_feature_has_a_reference() -> None:
    assert set(REFERENCES) | set(RANKED) == set(BARS.names)
    assert len(BARS.names) >= 100


@pytest.mark.parametrize("name", REFERENCES)
def test_a_feature_is_what_others_compute(real_bars: tuple[list[Series], Floats], name: str) -> None:
    """From the warm-up on there is a value, and relative 1e-9 once TA-Lib has settled."""
    series, values = real_bars
    place, feature = BARS.columns[name], BARS.feature(name)
    for number, each in enumerate(series):
        expected, found = REFERENCES[name](each), values[:, number, place]
        assert np.isnan(found[: feature.warmup - 1]).all()
        assert np.isfinite(found[feature.warmup - 1 :]).all()
        known = np.isfinite(expected[SETTLED:])
        assert known.all()
        scale = np.maximum(np.abs(expected[SETTLED:]), _least_scale(name))
        np.testing.assert_array_less(np.abs(found[SETTLED:] - expected[SETTLED:]) / scale, 1e-9)


def _least_scale(name: str) -> float:
    """Where a value near zero is the difference of larger ones, the size of those: a percent of oscillators, a price of one."""
    return 1.0 if BARS.feature(name).unit in {"percent", "ratio", "standard deviations"} else 1e-2


@pytest.mark.parametrize("name", RANKED)
def test_a_rank_is_the_place_among_all(real_bars: tuple[list[Series], Floats], name: str) -> None:
    _, values = real_bars
    ranked = values[:, :, BARS.columns[name.removeprefix("rank_")]]
    expected = (pd.DataFrame(ranked).rank(axis=1) - 1).to_numpy() / (ranked.shape[1] - 1)
    np.testing.assert_allclose(values[:, :, BARS.columns[name]][60:], expected[60:], rtol=1e-12)
