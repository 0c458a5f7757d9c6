"""Features of days are a function of the days alone: whoever asks, in which order, after which restart."""

import asyncio
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.sample import sample_panel
from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import Transient
from finagent.domain.sessions import Session
from finagent.quant.features.bar_features import BarFeatures, over_history
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS
from finagent.services.market_data.daily_features import DailyFeatures

PANEL = sample_panel(NewYorkCalendar()).of_symbols(("AAPL", "GOOG", "IBM", "MSFT"))


class Days:
    """The days of the sample, counted as they are asked for; `corrections` are closes that were told later."""

    symbols = PANEL.symbols

    def __init__(self) -> None:
        self.asked = 0
        self.corrections: dict[date, float] = {}
        self.failures: list[Exception] = []

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        self.asked += 1
        if self.failures:
            raise self.failures.pop()
        history = PANEL.daily_history(session, first)
        close = history.close.copy()
        for day, value in self.corrections.items():
            close[history.sessions.index(day), 0] = value
        return replace(history, close=close)


def features(market: Days) -> DailyFeatures:
    return DailyFeatures(market, 5, asyncio.to_thread)  # type: ignore[arg-type] # the part of the port that is asked


def sessions(first: date, last: date) -> list[Session]:
    return [session for session in PANEL.sessions if first <= session.date <= last]


OCTOBER = sessions(date(2008, 10, 1), date(2008, 10, 31))


async def test_days_taken_in_before_are_not_taken_in_again_and_change_nothing() -> None:
    market = Days()
    kept = features(market)
    for session in OCTOBER[:4]:
        fresh = await features(market).before(session)
        np.testing.assert_array_equal(await kept.before(session), fresh)
        np.testing.assert_array_equal(await kept.before(session), fresh)
    assert market.asked == 12
    assert np.isfinite(fresh).all()


async def test_an_earlier_session_is_what_it_was() -> None:
    kept = features(Days())
    first = (await kept.before(OCTOBER[0])).copy()
    await kept.before(OCTOBER[5])
    np.testing.assert_array_equal(await kept.before(OCTOBER[0]), first)


async def test_a_correction_told_later_counts_from_then_on() -> None:
    market = Days()
    kept = features(market)
    before = (await kept.before(OCTOBER[3])).copy()
    market.corrections[OCTOBER[1].date] = 100.0
    after = await kept.before(OCTOBER[4])
    np.testing.assert_array_equal(after, await features(market).before(OCTOBER[4]))
    market.corrections.clear()
    assert not np.array_equal(after, await features(market).before(OCTOBER[4]))
    np.testing.assert_array_equal(before, await features(market).before(OCTOBER[3]))


async def test_the_batch_driver_over_all_days_agrees() -> None:
    """One pass over years, as training makes it, against the anchor of each session; GOOG was listed in between, and the anchor
    changes with the year."""
    columns = [PANEL.open, PANEL.high, PANEL.low, PANEL.close]
    factor = np.cumprod(PANEL.split, axis=0)
    days = [session.date for session in PANEL.sessions]
    start, end = days.index(date(2003, 1, 2)), days.index(date(2006, 3, 1))
    adjusted: list[Floats] = [column * factor for column in columns]
    usable = np.isfinite(PANEL.close)
    history = [BarRows(*(column[day] for column in (*adjusted, PANEL.volume / factor, usable))) for day in range(start, end)]
    values = over_history(BarFeatures(4, index=None, hole_bars_max=5), history)
    for day in (date(2004, 6, 1), date(2005, 2, 28), date(2005, 3, 2), date(2006, 1, 4)):
        session = next(each for each in PANEL.sessions if each.date == day)
        found = await features(Days()).before(session)
        expected = values[days.index(day) - 1 - start]
        windows = [place for place, each in enumerate(BARS.features) if each.window >= each.warmup - 1]
        np.testing.assert_allclose(found[:, windows], expected[:, windows], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


async def test_a_split_is_no_move() -> None:
    """AAPL split two for one on 28 February 2005: the return over it is that of the company."""
    session = next(each for each in PANEL.sessions if each.date == date(2005, 3, 1))
    found = await features(Days()).before(session)
    assert abs(found[0, BARS.columns["return_1"]]) < 0.02
    assert found[0, BARS.columns["drawdown_60"]] > -0.3


async def test_what_cannot_be_had_is_asked_for_again() -> None:
    market = Days()
    market.failures.append(Transient("no answer"))
    kept = features(market)
    with pytest.raises(Transient):
        await kept.before(OCTOBER[0])
    assert np.isfinite(await kept.before(OCTOBER[0])).all()
