"""A seeded market of daily bars: heavy tails, clustered volatility, overnight jumps that come in waves, a common factor.

Every number of a symbol-day derives from streams keyed by (seed, symbol) or by seed alone, read from a fixed origin: it depends
neither on the other symbols nor on the window. The constants were set against 433 US shares, 2013 to 2016: the table of figures
(`python -m finagent.adapters.market_data.simulated --table`) shows how near they come.
"""

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from finagent.adapters.market_data.bridge import keyed_states
from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

# Standard deviations in fractions of a price, of a share of middling volatility with a beta of one.
MARKET_OVERNIGHT_SD, MARKET_INTRADAY_SD = 0.0042, 0.0070
OWN_OVERNIGHT_SD, OWN_INTRADAY_SD = 0.0055, 0.0129
JUMP_SD, JUMP_MEAN = 0.051, -0.001
JUMPS_A_DAY = 0.0160  # one overnight jump in a quarter: earnings
JUMP_WAVE_LOG_SD = 0.75  # how much the number of jumps varies from day to day: reporting seasons
JUMP_DAY_INTRADAY = 2.3  # a jump day's own intraday volatility, as a multiple
JUMP_DAY_LOG_VOLUME = 0.75
FADE_AFTER_JUMP = 0.10  # part of a jump that the same day takes back

SCALE_LOG_SD, SCALE_SKEW = 0.45, 0.07  # of volatility over symbols
BETA_LOG_SD, BETA_ON_SCALE = 0.35, 0.4
VOLATILITY_FAST, VOLATILITY_SLOW = (0.65, 0.38), (0.985, 0.36)  # autoregression and standard deviation of log volatility
VOLATILITY_ROUGH_SD = 0.20
MARKET_VOLATILITY_FAST, MARKET_VOLATILITY_SLOW = (0.75, 0.35), (0.97, 0.25)

VOLUME_AUTOREGRESSION, VOLUME_LOG_SD = 0.72, 0.42
VOLUME_ON_MOVE, MOVE_CAP = 0.25, 4.0  # log volume a standard deviation of the day's move
MARKET_VOLUME_LOG_SD = 0.15

CRASH_BLOCK_SESSIONS = 700  # one crash with its rebound in each such block of sessions
CRASH_OVERNIGHT, REBOUND_OVERNIGHT = (-0.045, -0.055), (0.024, 0.026)
CRASH_LOG_VOLUME = 0.7

PRICE_MEDIAN_USD, PRICE_LOG_SD = 48.0, 0.7
DOLLAR_VOLUME_MEDIAN_USD, DOLLAR_VOLUME_LOG_SD = 70e6, 1.1
_NORMALS, _UNIFORMS = 7, 6
_PRICE_LOW_USD, _PRICE_HIGH_USD = 3.0, 800.0


@dataclass(frozen=True, slots=True)
class DailyProcessPolicy:
    """Rates of what goes wrong a symbol-day; `clustered_gap_*`: a day forced to gap up with the whole market."""

    splits_per_symbol_year: float
    bad_ticks_per_bar: float
    null_bars_per_bar: float
    clustered_gap_date: date | None
    clustered_gap_fraction: float

    def __post_init__(self) -> None:
        rates = (self.splits_per_symbol_year, self.bad_ticks_per_bar, self.null_bars_per_bar)
        if not all(0.0 <= rate <= 1.0 for rate in rates) or not -0.5 < self.clustered_gap_fraction < 0.5:
            raise BadInput(f"simulated market: a rate is not between 0 and 1, or the clustered gap not within half: {self}")


class SimulatedDays(NamedTuple):
    """Raw daily bars as a vendor would deliver them, arrays [days, symbols]: bad ticks and null bars (NaN) included."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    split: Floats


class _Draws(NamedTuple):
    """Standard normal and uniform numbers, [days, kind, symbols]."""

    normal: Floats
    uniform: Floats


class _Traits(NamedTuple):
    """What a symbol is for ever, arrays over symbols."""

    scale: Floats
    beta: Floats
    price: Floats
    dollar_volume: Floats


class _Market(NamedTuple):
    """The common factor, arrays over days."""

    overnight: Floats
    intraday: Floats
    jumps_a_day: Floats
    log_volume: Floats


def simulated_days(seed: int, symbols: tuple[str, ...], days: tuple[date, ...], policy: DailyProcessPolicy) -> SimulatedDays:
    """Daily bars for consecutive sessions from the origin on: more sessions only add rows, more symbols only add columns."""
    count = len(days)
    traits = _traits(seed, symbols)
    market = _market(seed, days, policy)
    draws = _symbol_draws(seed, symbols, count)
    own_volatility = np.exp(
        _log_volatility(draws.normal[:, 0], draws.normal[:, 1], VOLATILITY_FAST, VOLATILITY_SLOW)
        + VOLATILITY_ROUGH_SD * draws.normal[:, 2]
        - VOLATILITY_ROUGH_SD**2
    )
    jumped = draws.uniform[:, 0] < market.jumps_a_day[:, None]
    jump = np.where(jumped, JUMP_MEAN + JUMP_SD * draws.normal[:, 3], 0.0) * traits.scale
    calm = own_volatility * traits.scale
    overnight = traits.beta * market.overnight[:, None] + OWN_OVERNIGHT_SD * calm * draws.normal[:, 4] + jump
    sd = OWN_INTRADAY_SD * calm * np.where(jumped, JUMP_DAY_INTRADAY, 1.0)
    intraday = traits.beta * market.intraday[:, None] + sd * draws.normal[:, 5] - FADE_AFTER_JUMP * jump
    spread = np.hypot(sd, traits.beta * MARKET_INTRADAY_SD)
    raised, fallen = _extremes(intraday, spread, draws.uniform[:, 1], draws.uniform[:, 2])

    total_sd = np.hypot(np.hypot(OWN_OVERNIGHT_SD, OWN_INTRADAY_SD), MARKET_INTRADAY_SD) * traits.scale
    move = np.minimum(np.abs(overnight + intraday) / total_sd, MOVE_CAP)
    log_volume = (
        _autoregression(draws.normal[:, 6], VOLUME_AUTOREGRESSION) * VOLUME_LOG_SD
        + VOLUME_ON_MOVE * move
        + JUMP_DAY_LOG_VOLUME * jumped
        + market.log_volume[:, None]
    )
    split, scale = _splits(traits.price, overnight + intraday, draws.uniform[:, 3], policy.splits_per_symbol_year)
    before = np.vstack([np.zeros(len(symbols)), np.cumsum(overnight + intraday, axis=0)[:-1]])
    log_open = np.log(traits.price) + before + overnight - scale
    shares = np.exp(log_volume) * traits.dollar_volume / traits.price * np.exp(scale)
    bars = SimulatedDays(
        open=_cents(log_open),
        high=_cents(log_open + raised),
        low=_cents(log_open + fallen),
        close=_cents(log_open + intraday),
        volume=np.rint(shares),
        split=split,
    )
    return _with_dirt(bars, draws.uniform[:, 4], draws.uniform[:, 5], policy)


def _traits(seed: int, symbols: tuple[str, ...]) -> _Traits:
    normal = np.array([generator.standard_normal(4) for generator in keyed_states(seed, "simulated traits", symbols)]).T
    log_scale = SCALE_LOG_SD * normal[0] + SCALE_SKEW * normal[0] ** 2
    return _Traits(
        scale=np.exp(log_scale),
        beta=np.exp(BETA_LOG_SD * normal[1] + BETA_ON_SCALE * log_scale),
        price=PRICE_MEDIAN_USD * np.exp(PRICE_LOG_SD * normal[2]),
        dollar_volume=DOLLAR_VOLUME_MEDIAN_USD * np.exp(DOLLAR_VOLUME_LOG_SD * normal[3]),
    )


def _market(seed: int, days: tuple[date, ...], policy: DailyProcessPolicy) -> _Market:
    count = len(days)
    names = ("path", "waves")
    path, waves = (generator.standard_normal((count, 4)) for generator in keyed_states(seed, "simulated market", names))
    volatility = np.exp(_log_volatility(path[:, 0], path[:, 1], MARKET_VOLATILITY_FAST, MARKET_VOLATILITY_SLOW))
    overnight = MARKET_OVERNIGHT_SD * volatility * path[:, 2]
    intraday = MARKET_INTRADAY_SD * volatility * path[:, 3]
    log_volume = MARKET_VOLUME_LOG_SD * _autoregression(waves[:, 0], VOLUME_AUTOREGRESSION)
    for row, gap in _crash_gaps(seed, count):
        overnight[row] = gap
        log_volume[row] += CRASH_LOG_VOLUME
    forced = [row for row, day in enumerate(days) if day == policy.clustered_gap_date]
    for row in forced:
        overnight[row], intraday[row] = policy.clustered_gap_fraction, 0.0
        log_volume[row] += CRASH_LOG_VOLUME
    wave = np.exp(JUMP_WAVE_LOG_SD * waves[:, 1] - JUMP_WAVE_LOG_SD**2 / 2)
    return _Market(overnight, intraday, JUMPS_A_DAY * wave, log_volume)


def _crash_gaps(seed: int, count: int) -> list[tuple[int, float]]:
    """(row, overnight move of the market) of each block's crash and of the rebound on the next session."""
    found = []
    blocks = tuple(str(number) for number in range(count // CRASH_BLOCK_SESSIONS + 1))
    for number, generator in enumerate(keyed_states(seed, "simulated crash", blocks)):
        place, depth, rebound = generator.random(3)
        row = number * CRASH_BLOCK_SESSIONS + int(place * (CRASH_BLOCK_SESSIONS - 1))
        found += [(row, _between(CRASH_OVERNIGHT, depth)), (row + 1, _between(REBOUND_OVERNIGHT, rebound))]
    return [(row, gap) for row, gap in found if row < count]


def _between(bounds: tuple[float, float], place: float) -> float:
    low, high = bounds
    return low + (high - low) * place


def _symbol_draws(seed: int, symbols: tuple[str, ...], count: int) -> _Draws:
    """Day by day from the origin, so that a longer window reads the same numbers first."""
    normal = np.empty((len(symbols), count, _NORMALS))
    for row, generator in zip(normal, keyed_states(seed, "simulated normals", symbols), strict=True):
        generator.standard_normal(out=row)
    uniform = np.empty((len(symbols), count, _UNIFORMS))
    for row, generator in zip(uniform, keyed_states(seed, "simulated uniforms", symbols), strict=True):
        generator.random(out=row)
    return _Draws(np.ascontiguousarray(normal.transpose(1, 2, 0)), np.ascontiguousarray(uniform.transpose(1, 2, 0)))


def _autoregression(shocks: Floats, coefficient: float) -> Floats:
    """A stationary first-order autoregression of unit variance along the days; the first shock is its first state."""
    result: Floats = shocks * float(np.sqrt(1.0 - coefficient**2))
    result[0] = shocks[0]
    for day in range(1, len(result)):
        result[day] += coefficient * result[day - 1]
    return result


def _log_volatility(fast: Floats, slow: Floats, fast_law: tuple[float, float], slow_law: tuple[float, float]) -> Floats:
    """Sum of a fast and a slow autoregression, shifted so that the variance it scales has mean one."""
    log = _autoregression(fast, fast_law[0]) * fast_law[1] + _autoregression(slow, slow_law[0]) * slow_law[1]
    return np.asarray(log - (fast_law[1] ** 2 + slow_law[1] ** 2))


def _extremes(move: Floats, sd: Floats, high: Floats, low: Floats) -> tuple[Floats, Floats]:
    """Highest and lowest point of a Brownian path that starts at zero and ends at `move`, from uniform numbers."""
    raised = (move + np.sqrt(move**2 - 2.0 * sd**2 * np.log1p(-high))) / 2.0
    fallen = (move - np.sqrt(move**2 - 2.0 * sd**2 * np.log1p(-low))) / 2.0
    return raised, fallen


def _splits(price: Floats, log_return: Floats, chance: Floats, per_year: float) -> tuple[Floats, Floats]:
    """Split values [days, symbols], and the log of all splits up to each day (new shares per old).

    A split comes by chance where the price is high enough for it, and without chance where the price leaves its usual range.
    """
    log_price = np.log(price)
    done = np.zeros_like(price)
    split = np.ones_like(log_return)
    scale = np.empty_like(log_return)
    for day in range(len(log_return)):
        if day:
            log_price = log_price + log_return[day - 1]
        raw = np.exp(log_price - done)
        wanted = (chance[day] < per_year / 252.0) & (raw > PRICE_MEDIAN_USD)
        split[day] = np.where(raw < _PRICE_LOW_USD, 0.1, np.where(raw > _PRICE_HIGH_USD, 10.0, np.where(wanted, 2.0, 1.0)))
        done = done + np.log(split[day])
        scale[day] = done
    return split, scale


def _cents(log_price: Floats) -> Floats:
    return np.asarray(np.maximum(np.rint(np.exp(log_price) * 100.0), 1.0) / 100.0)


def _with_dirt(bars: SimulatedDays, bad: Floats, null: Floats, policy: DailyProcessPolicy) -> SimulatedDays:
    """Some closes ten times too small, as a slipped digit; some bars without any number."""
    close = np.where(bad < policy.bad_ticks_per_bar, bars.close / 10.0, bars.close)
    absent = null < policy.null_bars_per_bar
    return SimulatedDays(
        open=np.where(absent, np.nan, bars.open),
        high=np.where(absent, np.nan, bars.high),
        low=np.where(absent, np.nan, bars.low),
        close=np.where(absent, np.nan, close),
        volume=np.where(absent, np.nan, bars.volume),
        split=bars.split,
    )
