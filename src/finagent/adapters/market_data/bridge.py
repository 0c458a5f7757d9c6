"""One-minute bars that meet given daily bars exactly: a random bridge from the open to the close through high and low.

First open, highest high, lowest low, last close and the sum of the whole-number volumes equal the day's. Each symbol-day
draws from its own counter-based streams, so its bars depend on seed, symbol and date alone: not on the batch, not on order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from finagent.domain.bars import Floats

SUBSTEPS = 4  # points a minute between which the path moves
BLOCK_SYMBOLS = 64  # symbols computed together: keeps the working set in the cache
FULL_DAY_MINUTES = 390

# Standard deviation of one-minute returns by half hour, in basis points: L-shaped (liquid US shares, 2019).
HALF_HOUR_SD = (12.5, 8.4, 8.8, 6.0, 5.3, 4.7, 4.4, 4.3, 3.7, 4.1, 4.7, 4.7, 4.8)
MINUTE_SD_LOG_SD = 0.35
AMPLITUDE_ROUNDS = 6
AMPLITUDE_BOUNDS = (0.5, 1.5)  # of the day's log range
OPEN_JUMP_SD = 2.3e-4  # between the close of a minute and the open of the next, log price

# Volume a minute in percent of a full day, between these minutes linear; the first and the last hold the auctions' neighbours.
VOLUME_KNOT_MINUTES = (0, 1, 5, 15, 30, 45, 75, 105, 165, 225, 285, 330, 360, 380, 388, 389)
VOLUME_KNOT_PERCENT = (2.6, 1.0, 0.72, 0.48, 0.40, 0.32, 0.26, 0.225, 0.18, 0.155, 0.165, 0.20, 0.25, 0.42, 0.90, 3.2)
VOLUME_LOG_SD = 0.58
VOLUME_AUTOCORRELATION = 0.45
VOLUME_MEMORY_LAGS = (1, 2, 4, 8, 16, 32)  # doubling adds up 64 minutes of an autoregression; .45 ** 64 is nothing
EARLY_VOLUME_LOG_SD = 0.36  # one draw a symbol-day that fades over the morning: early activity differs from day to day
EARLY_VOLUME_FADE_MINUTES = 90.0


class DailyBars(NamedTuple):
    """One session's daily bars; arrays over symbols, finite, low <= open, close <= high; USD and shares."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class MinuteBars(NamedTuple):
    """Bars of one session, arrays [minutes, symbols]."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class Prices(NamedTuple):
    open: Floats
    high: Floats
    low: Floats
    close: Floats


@dataclass(frozen=True, slots=True)
class MinuteBridge:
    """The bridge under one seed. Pure: equal arguments give equal bars in any process, batch and order."""

    seed: int

    def bars(self, day: date, minutes: int, symbols: tuple[str, ...], daily: DailyBars) -> MinuteBars:
        """Minute bars [minutes, symbols] of the session `day` for valid daily bars."""
        result = MinuteBars(*(np.empty((minutes, len(symbols))) for _ in MinuteBars._fields))
        for start in range(0, len(symbols), BLOCK_SYMBOLS):
            block = slice(start, start + BLOCK_SYMBOLS)
            part = DailyBars(*(column[block] for column in daily))
            draws = _draws(self.seed, "path", day, symbols[block], minutes * (SUBSTEPS + 2))
            for whole, piece in zip(result, _prices(part, minutes, draws), strict=False):
                whole[:, block] = piece
            total = np.rint(part.volume) * self._shares(day, minutes, symbols[block])
            result.volume[:, block] = np.diff(np.rint(total), axis=0, prepend=0.0)
        return result

    def cumulative_volume_shares(self, day: date, minutes: int, symbols: tuple[str, ...]) -> Floats:
        """Share of the day's volume traded by the end of each minute, [minutes, symbols], the last row exactly 1.

        The very shares that `bars` uses; prices are not computed.
        """
        result = np.empty((minutes, len(symbols)))
        for start in range(0, len(symbols), BLOCK_SYMBOLS):
            block = slice(start, start + BLOCK_SYMBOLS)
            result[:, block] = self._shares(day, minutes, symbols[block])
        return result

    def _shares(self, day: date, minutes: int, symbols: tuple[str, ...]) -> Floats:
        draws = _draws(self.seed, "volume", day, symbols, minutes + 1)
        early, noise = draws[0], draws[1:]
        noise[1:] *= (1.0 - VOLUME_AUTOCORRELATION**2) ** 0.5
        for lag in VOLUME_MEMORY_LAGS:
            noise[lag:] += VOLUME_AUTOCORRELATION**lag * noise[:-lag]
        fade = np.exp(-np.arange(minutes) / EARLY_VOLUME_FADE_MINUTES)
        weight = _volume_curve(minutes)[:, None] * np.exp(VOLUME_LOG_SD * noise + EARLY_VOLUME_LOG_SD * fade[:, None] * early)
        total = np.cumsum(weight, axis=0)
        return np.asarray(total / total[-1])


def keyed_states(seed: int, purpose: str, ids: tuple[str, ...]) -> Iterator[Generator]:
    """For each id the generator at the start of its own stream; use it before asking for the next one.

    One generator is re-keyed, since setting a key is four times faster than making a generator.
    """
    bits = Philox(key=0)
    generator = Generator(bits)
    state = bits.state
    for name in ids:
        digest = blake2b(f"{seed}\x1f{purpose}\x1f{name}".encode(), digest_size=16).digest()
        state["state"]["key"] = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        bits.state = state
        yield generator


def _draws(seed: int, purpose: str, day: date, symbols: tuple[str, ...], count: int) -> Floats:
    """Standard normal numbers [count, symbols], a column from the stream of its symbol-day."""
    rows = np.empty((len(symbols), count))
    ids = tuple(f"{symbol}\x1f{day.isoformat()}" for symbol in symbols)
    for row, generator in zip(rows, keyed_states(seed, purpose, ids), strict=True):
        generator.standard_normal(out=row)
    return np.ascontiguousarray(rows.T)


def _prices(daily: DailyBars, minutes: int, draws: Floats) -> Prices:
    """Sums over time are cumulative sums, never `sum`: their order, and so the last bit, must not depend on the batch."""
    moves, jumps, rough = draws[: minutes * SUBSTEPS], draws[-2 * minutes : -minutes], draws[-minutes:]
    sd = np.repeat(_sd_curve(minutes)[:, None] * np.exp(MINUTE_SD_LOG_SD * rough), SUBSTEPS, axis=0)
    passed = _from_zero(sd * sd)
    passed /= passed[-1]
    walk = _from_zero(sd * moves)
    walk -= passed * walk[-1]
    walk /= walk.max(axis=0) - walk.min(axis=0)

    low, high = np.log(daily.low), np.log(daily.high)
    trend = np.log(daily.open) + passed * (np.log(daily.close) - np.log(daily.open))
    path = _scaled(trend, walk, high - low)
    at_high = _place(1 + path[1:-1].argmax(axis=0), daily, daily.high, len(path) - 1)
    at_low = _place(1 + path[1:-1].argmin(axis=0), daily, daily.low, len(path) - 1)
    path += _correction(passed, path, (at_high, high), (at_low, low))

    opens = path[:-1:SUBSTEPS] + OPEN_JUMP_SD * jumps
    price = _on_cent(_folded(path, low, high), daily)
    opening = _on_cent(_folded(opens, low, high), daily)
    columns = np.arange(len(low))
    price[0], price[-1], opening[0] = daily.open, daily.close, daily.open
    price[at_high, columns] = daily.high
    price[at_low, columns] = daily.low
    points = price[1:].reshape(minutes, SUBSTEPS, -1)
    return Prices(
        open=opening,
        high=np.maximum(opening, points.max(axis=1)),
        low=np.minimum(opening, points.min(axis=1)),
        close=points[:, -1],
    )


def _from_zero(steps: Floats) -> Floats:
    """Cumulative sum over time that starts with a row of zeros."""
    result = np.zeros((len(steps) + 1, steps.shape[1]))
    np.cumsum(steps, axis=0, out=result[1:])
    return result


def _scaled(trend: Floats, walk: Floats, target: Floats) -> Floats:
    """The trend plus the walk, scaled so that the whole spans the target range as nearly as the bounds allow."""
    scale = target.copy()
    for _ in range(AMPLITUDE_ROUNDS):
        path = trend + walk * scale
        spanned = path.max(axis=0) - path.min(axis=0)
        ratio = np.divide(target, spanned, out=np.ones_like(target), where=spanned > 0)
        scale = np.clip(scale * ratio, AMPLITUDE_BOUNDS[0] * target, AMPLITUDE_BOUNDS[1] * target)
    return np.asarray(trend + walk * scale)


def _place(inner: NDArray[np.intp], daily: DailyBars, extreme: Floats, last: int) -> NDArray[np.intp]:
    """Where the extreme is reached: at an end of the day if the open or the close equals it, else at the inner point."""
    return np.where(daily.open == extreme, 0, np.where(daily.close == extreme, last, inner))


def _correction(passed: Floats, path: Floats, *anchors: tuple[NDArray[np.intp], Floats]) -> Floats:
    """Zero at both ends, piecewise linear in the variance passed, and such that the path meets both anchors."""
    columns = np.arange(path.shape[1])
    (place_a, value_a), (place_b, value_b) = anchors
    miss_a, miss_b = value_a - path[place_a, columns], value_b - path[place_b, columns]
    a_first = place_a <= place_b
    first, second = np.where(a_first, place_a, place_b), np.where(a_first, place_b, place_a)
    miss_1, miss_2 = np.where(a_first, miss_a, miss_b), np.where(a_first, miss_b, miss_a)
    s1, s2 = passed[first, columns], passed[second, columns]
    tiny = np.finfo(np.float64).tiny  # an anchor at an end has no miss and needs no slope
    before = miss_1 * passed / np.maximum(s1, tiny)
    between = miss_1 + (miss_2 - miss_1) * (passed - s1) / np.maximum(s2 - s1, tiny)
    after = miss_2 * (1.0 - passed) / np.maximum(1.0 - s2, tiny)
    return np.where(passed <= s1, before, np.where(passed <= s2, between, after))


def _folded(path: Floats, low: Floats, high: Floats) -> Floats:
    """Log prices reflected at both edges of the range as often as needed, as prices."""
    span = np.maximum(high - low, np.finfo(np.float64).tiny)
    position = (path - low) / span
    from_low = np.abs(position - 2.0 * np.rint(position / 2.0))  # to the nearest even number: a triangle wave
    return np.asarray(np.exp(low + (high - low) * from_low))


def _on_cent(price: Floats, daily: DailyBars) -> Floats:
    """Rounded to the cent, inward at the edges; a range without a cent inside keeps its edges."""
    grain = 1e-6  # of a cent: 10.07 * 100 is not 1007 in binary
    cents = np.clip(np.rint(price * 100.0), np.ceil(daily.low * 100.0 - grain), np.floor(daily.high * 100.0 + grain))
    return np.clip(cents / 100.0, daily.low, daily.high)


def _sd_curve(minutes: int) -> Floats:
    """Relative standard deviation of each minute; a half day runs through the same curve faster."""
    middle = (np.arange(minutes) + 0.5) / minutes * len(HALF_HOUR_SD)
    return np.interp(middle, np.arange(len(HALF_HOUR_SD)) + 0.5, HALF_HOUR_SD)


def _volume_curve(minutes: int) -> Floats:
    """Relative volume of each minute; a half day runs through the same curve faster."""
    place = np.linspace(0.0, FULL_DAY_MINUTES - 1, minutes)
    return np.interp(place, VOLUME_KNOT_MINUTES, VOLUME_KNOT_PERCENT)
