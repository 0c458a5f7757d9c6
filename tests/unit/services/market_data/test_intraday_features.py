"""Features of intraday bars are those of the catalogue over the bars that are complete, and of nothing later."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from finagent.domain.bars import DailyHistory, PriorFacts, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session
from finagent.quant.features.bar_features import BarFeatures
from finagent.quant.features.bar_soundness import sound_bars
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS
from finagent.services.market_data.intraday_features import intraday_features, intraday_past

SYMBOLS = ("AAA", "BBB", "CCC")
DAYS = 8
COLUMNS = ("open", "high", "low", "close", "volume")


class Minutes:
    """Random minutes of a few sessions; `split` new shares per old of the last symbol at the open of the last session."""

    symbols, source_id, notice = SYMBOLS, "minutes", "of a test"

    def __init__(self, first: Session, split: float = 1.0) -> None:
        self._sessions = tuple(
            Session(first.date + timedelta(days=n), first.opens_at + timedelta(days=n), first.closes_at + timedelta(days=n))
            for n in range(DAYS)
        )
        chance = np.random.default_rng(1)
        shape = (DAYS, first.minutes, len(SYMBOLS))
        close = 100.0 * np.exp(np.cumsum(chance.normal(scale=1e-3, size=shape).reshape(-1, len(SYMBOLS)), axis=0)).reshape(shape)
        open_ = close * np.exp(chance.normal(scale=1e-4, size=shape))
        self.bars = {
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) * 0.999,
            "close": close,
            "volume": chance.uniform(1e3, 2e3, size=shape),
        }
        self.whole = {name: array.copy() for name, array in self.bars.items()}
        for name in COLUMNS:
            self.bars[name][-1, :, -1] *= split if name == "volume" else 1.0 / split
        self.split = split
        self.quality = np.zeros(shape, dtype=np.uint8)

    def sessions(self) -> tuple[Session, ...]:
        return self._sessions

    async def session_bars(self, session: Session) -> SessionBars:
        day = self._sessions.index(session)
        told = {name: array[day] for name, array in self.bars.items()}
        return SessionBars(session, SYMBOLS, **told, quality=self.quality[day])

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        days = [n for n, each in enumerate(self._sessions) if first <= each.date < session.date]
        close = self.bars["close"][days, -1]
        return DailyHistory(
            tuple(self._sessions[n].date for n in days), SYMBOLS, close, close, close, close, close, np.ones_like(close)
        )

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        day = self._sessions.index(session)
        close = self.bars["close"][day - 1, -1].copy()
        if day == DAYS - 1:
            close[-1] /= self.split
        return PriorFacts(session, SYMBOLS, close, np.ones(3), minutes, np.ones((0, 3)), {})


def pushed(bars: dict[str, Any], days: range, minute: int, timeframe: int) -> Any:
    """The same by hand."""
    features = BarFeatures(3, index=None, hole_bars_max=10_000)
    for day in days:
        of_day = {name: array[day] for name, array in bars.items()}
        for start in range(0, minute if day == days[-1] else len(of_day["open"]), timeframe):
            part = {name: array[start : start + timeframe] for name, array in of_day.items()}
            if day == days[-1] and start + timeframe > minute:
                break
            row = (part["open"][0], part["high"].max(0), part["low"].min(0), part["close"][-1], part["volume"].sum(0))
            features.push(BarRows(*row, sound_bars(*row)))
    return features.values().T


@pytest.fixture
def session(desk: Any) -> Session:
    found: Session = desk.session
    return found


@pytest.mark.parametrize(("timeframe", "before"), [(1, 1), (5, 3), (30, 7)])
async def test_they_are_the_features_of_the_bars_that_are_complete(session: Session, timeframe: int, before: int) -> None:
    market = Minutes(session)
    last = market.sessions()[-1]
    found = await intraday_features(market, last, 62, timeframe)
    expected = pushed(market.bars, range(DAYS - 1 - before, DAYS), 62, timeframe)

    assert np.array_equal(found, expected, equal_nan=True)
    assert np.isfinite(found).mean() > 0.8


async def test_the_past_of_a_session_is_what_was_said_at_the_end_of_each_bar(session: Session) -> None:
    market = Minutes(session, split=7.0)
    last = market.sessions()[-1]
    past = await intraday_past(market, last, 62, 30)

    assert past.ends_at == (30, 60)
    for minute, values in zip(past.ends_at, past.values, strict=True):
        assert np.array_equal(values, await intraday_features(market, last, minute, 30), equal_nan=True)
    assert np.array_equal(past.bars[1].close, market.bars["close"][-1, 59]), "as it was paid that day"
    assert (await intraday_past(market, last, 29, 30)).values.shape == (0, *BARS.shape(3))


async def test_nothing_later_is_read(session: Session) -> None:
    market = Minutes(session)
    last = market.sessions()[-1]
    before = await intraday_features(market, last, 63, 5)
    for name in COLUMNS:
        market.bars[name][-1, 60:] *= 7.0
    market.quality[-1, 60:] = 3

    assert np.array_equal(await intraday_features(market, last, 63, 5), before, equal_nan=True)
    assert not np.array_equal(await intraday_features(market, last, 66, 5), before, equal_nan=True)


async def test_a_split_at_the_open_is_no_move(session: Session) -> None:
    whole, split = Minutes(session), Minutes(session, split=7.0)
    last = whole.sessions()[-1]

    assert np.allclose(
        await intraday_features(split, last, 120, 15), await intraday_features(whole, last, 120, 15), rtol=1e-9, equal_nan=True
    )


async def test_a_minute_nobody_traded_is_no_part_of_a_bar(session: Session) -> None:
    market = Minutes(session)
    last = market.sessions()[-1]
    before = (await intraday_features(market, last, 60, 5))[:, BARS.columns["range_1"]]
    market.quality[-1, 57] = 2
    market.bars["high"][-1, 57] = 1e6
    range_ = (await intraday_features(market, last, 60, 5))[:, BARS.columns["range_1"]]

    assert (range_ < 0.05).all()
    assert range_.shape == before.shape


async def test_a_timeframe_that_cannot_be_is_refused(session: Session) -> None:
    market = Minutes(session)
    for minutes in (0, session.minutes + 1):
        with pytest.raises(BadInput, match="from 1 to the 390"):
            await intraday_features(market, market.sessions()[-1], 10, minutes)
    early = replace(market.sessions()[0])
    assert np.isnan(await intraday_features(market, early, 3, 5)).all()
