"""The exchange as Alpaca tells it: the same sessions as the library's calendar, over half days and both changes of the clocks."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.alpaca_api import KEYS, alpaca
from tests.unit.adapters.broker.alpaca.scripted_alpaca import REST, scripted_alpaca

from finagent.adapters.broker.alpaca.exchange import AlpacaExchange, Asset
from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.calendar import NewYorkCalendar
from finagent.domain.errors import Transient

FIRST, LAST = date(2008, 10, 1), date(2009, 4, 1)


async def test_sessions_clock_and_assets_of_a_whole_alpaca(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as there:
        rest = AlpacaRest(replace(REST, url=there.url), Keys(*KEYS.values()), lambda: 0.0)
        exchange = AlpacaExchange(rest)
        try:
            await there.to(5)
            clock, sessions, assets = await exchange.clock(), await exchange.sessions(FIRST, LAST), await exchange.assets()
        finally:
            await rest.close()
    assert (clock.at, clock.is_open) == (there.session.instant_of(5), True)
    assert clock.next_close == there.session.closes_at
    assert sessions == tuple(NewYorkCalendar().sessions(FIRST, LAST))
    assert {session.minutes for session in sessions} == {390, 210}
    assert assets["IBM"].tradable


async def test_exchange_time_has_its_zone() -> None:
    day = {"date": "2026-11-27", "open": "09:30", "close": "13:00", "session_open": "0400", "settlement_date": "2026-11-30"}
    async with scripted_alpaca() as desk:
        desk.script.says("GET /v2/calendar", [day])
        (session,) = await AlpacaExchange(desk.rest).sessions(date(2026, 11, 27), date(2026, 11, 27))
        query = desk.script.asked[-1].query
    assert (session.opens_at, session.closes_at) == (
        datetime(2026, 11, 27, 14, 30, tzinfo=UTC),
        datetime(2026, 11, 27, 18, tzinfo=UTC),
    )
    assert query == {"start": "2026-11-27", "end": "2026-11-27"}


@pytest.mark.parametrize(
    "day", [{"date": "2026-11-27", "open": "9.30", "close": "13:00"}, {"date": "2026-11-27", "open": "13:00", "close": "09:30"}]
)
async def test_a_session_that_cannot_be_read_is_no_calendar(day: dict[str, str]) -> None:
    async with scripted_alpaca() as desk:
        desk.script.says("GET /v2/calendar", [day])
        with pytest.raises(Transient, match="calendar"):
            await AlpacaExchange(desk.rest).sessions(FIRST, LAST)


async def test_what_is_hard_to_borrow_is_not_shortable_and_a_new_exchange_is_no_error() -> None:
    asset: dict[str, Any] = {"symbol": "GME", "exchange": "MOON", "tradable": True, "shortable": True, "easy_to_borrow": False}
    async with scripted_alpaca() as desk:
        desk.script.says("GET /v2/assets", [asset])
        assert await AlpacaExchange(desk.rest).assets() == {"GME": Asset("GME", "MOON", tradable=True, shortable=False)}
