"""The minute bridge over all 12,154 symbol-days of the sample: exact, and shaped like real minutes."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bridge import DailyBars, MinuteBridge
from finagent.adapters.market_data.sample import sample_panel

pytestmark = pytest.mark.statistics
Floats = NDArray[np.float64]
EARLY_MINUTES = (5, 15, 30)


@dataclass
class Days:
    """One entry a symbol-day; `variance` is the mean square one-minute return by half hour of full days."""

    symbol: NDArray[np.str_]
    exact: NDArray[np.bool_]
    touching: Floats
    early: Floats
    volume: Floats
    jump: Floats
    variance: Floats


@pytest.fixture(scope="module")
def days() -> Days:
    panel = sample_panel(NewYorkCalendar())
    bridge = MinuteBridge(seed=1)
    parts: list[tuple[NDArray[np.generic], ...]] = []
    for row, session in enumerate(panel.sessions):
        present = np.flatnonzero(np.isfinite(panel.close[row]))
        symbols = tuple(panel.symbols[place] for place in present)
        day = DailyBars(*(column[row, present] for column in (panel.open, panel.high, panel.low, panel.close, panel.volume)))
        bars = bridge.bars(session.date, session.minutes, symbols, day)
        exact = (
            (bars.open[0] == day.open)
            & (bars.high.max(axis=0) == day.high)
            & (bars.low.min(axis=0) == day.low)
            & (bars.close[-1] == day.close)
            & (bars.volume.sum(axis=0) == day.volume)
        )
        inner = (bars.high >= np.maximum(bars.open, bars.close)) & (bars.low <= np.minimum(bars.open, bars.close))
        traded = np.cumsum(bars.volume, axis=0) / day.volume
        returns = np.square(np.diff(np.log(bars.close), axis=0, prepend=np.log(bars.open[:1])))
        parts.append(
            (
                np.array(symbols),
                exact & inner.all(axis=0) & (bars.volume >= 0).all(axis=0),
                ((bars.high == day.high) | (bars.low == day.low)).mean(axis=0),
                traded[[minute - 1 for minute in EARLY_MINUTES]],
                day.volume,
                np.sqrt(np.square(np.log(bars.open[1:] / bars.close[:-1])).mean(axis=0)),
                returns.reshape(13, -1, len(symbols)).mean(axis=1) if session.minutes == 390 else np.empty((13, 0)),
            )
        )
    return Days(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


def test_every_day_is_met_exactly(days: Days) -> None:
    assert len(days.exact) == 12_154
    assert days.exact.all()


def test_few_minutes_touch_the_high_or_the_low(days: Days) -> None:
    assert days.touching.mean() < 0.05


def test_early_volume_shares_vary_as_in_real_minutes(days: Days) -> None:
    """Log standard deviation of the 5, 15 and 30-minute shares: .44/.38/.34 in one real set, .43/.28/.21 in the others."""
    spread = np.log(days.early).std(axis=1)

    assert 0.40 <= spread[0] <= 0.47
    assert 0.28 <= spread[1] <= 0.38
    assert 0.21 <= spread[2] <= 0.34


def test_early_volume_shares_have_the_size_of_real_ones(days: Days) -> None:
    """The first half hour holds 15 to 19 % of a real session's volume."""
    assert 0.148 <= days.early[2].mean() <= 0.195


def test_the_early_share_says_nothing_of_the_days_volume(days: Days) -> None:
    for number in range(len(EARLY_MINUTES)):
        within = [np.corrcoef(np.log(days.early[number, own]), np.log(days.volume[own]))[0, 1] for own in _by_symbol(days)]
        counts = [own.sum() for own in _by_symbol(days)]
        assert abs(np.average(within, weights=counts)) < 0.03


def test_early_volume_grows_with_the_days_volume(days: Days) -> None:
    for own in _by_symbol(days):
        early = np.log(days.early[1, own] * days.volume[own])
        assert np.corrcoef(early, np.log(days.volume[own]))[0, 1] > 0.5


def test_opens_jump_a_little_from_the_close_before(days: Days) -> None:
    """The real standard deviation is 2.3 basis points; the cent grid adds to it on cheap shares."""
    assert 2.0e-4 <= np.median(days.jump) <= 2.9e-4


def test_volatility_is_l_shaped(days: Days) -> None:
    """High after the open, low from noon on, with no second peak at the close."""
    deviation = np.sqrt(days.variance.mean(axis=1))

    assert deviation[0] == deviation.max()
    assert deviation[0] > 2.0 * deviation[4:].mean()
    assert deviation[-1] < 1.5 * deviation[5:9].mean()


def _by_symbol(days: Days) -> list[NDArray[np.bool_]]:
    return [days.symbol == symbol for symbol in np.unique(days.symbol)]
