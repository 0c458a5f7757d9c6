"""Live market data through the real SDK: what the simulated Alpaca tells over REST and stream is what its source holds."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.unit.adapters.broker.alpaca.scripted_alpaca import REST
from tests.unit.adapters.broker.scripted_market import broker_policy

from finagent.adapters.broker.alpaca.policy import DATA_URL, Keys
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.broker.alpaca_simulator.faults import FaultKind
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.adapters.broker.alpaca_simulator.server import alpaca_simulator
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.clock import VirtualClock
from finagent.adapters.market_data.alpaca.market import AlpacaMarket, data_client
from finagent.adapters.market_data.alpaca.policy import AlpacaMarketPolicy
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.sample import sample_market
from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.errors import Transient
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.services.failpoints import unarmed

HISTORY = HistoryPolicy(mean_sessions=5, hole_sessions_max=2)
DAY = date(2008, 10, 9)
PATIENCE_SECONDS = 60


@dataclass
class Exchange:
    """A market, the simulated Alpaca that tells it, and what reads there; `to` moves both to a minute of the session."""

    url: str
    source: MarketDataPort
    market: AlpacaMarket
    clock: VirtualClock
    session: Session

    async def to(self, minute: float) -> None:
        at = self.session.opens_at + timedelta(minutes=minute)
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
            (await http.post(f"{self.url}/control/advance", json={"at": at.isoformat()})).raise_for_status()
        self.clock.set(at)

    async def truth(self, minute: int) -> SessionBars:
        """The source's bars that are complete by the minute."""
        bars = await self.source.session_bars(self.session)
        quality = bars.quality.copy()
        quality[minute:] = BarQuality.MISSING
        return replace(bars, quality=quality)

    async def until_told(self, minute: int) -> SessionBars:
        """Our bars, once the stream told all of the minute."""
        bars, truth = await self.market.session_bars(self.session), await self.truth(minute)
        async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(base_url=self.url) as http:
            while (bars.quality[:minute] != truth.quality[:minute]).any():
                await http.get("/control/clock")  # gives the stream its turn
        return bars


def same(ours: SessionBars, truth: SessionBars) -> None:
    known = truth.quality == BarQuality.OK
    assert (ours.quality == truth.quality).all()
    for name in ("open", "high", "low", "close", "volume"):
        assert (getattr(ours, name)[known] == getattr(truth, name)[known]).all(), name


@asynccontextmanager
async def exchange(folder: Path, keys: Keys | None = None, **policy: object) -> AsyncIterator[Exchange]:
    calendar = NewYorkCalendar()
    source = sample_market(calendar, seed=7, first=DAY, last=DAY, policy=BridgedMarketPolicy(HISTORY, 12))
    session = source.sessions()[0]
    broker = SimulatedBroker(folder / "broker-simulator.db", source, broker_policy(), 7, unarmed)
    simulated = AlpacaSimulatorPolicy(**policy)  # type: ignore[arg-type] # a test names what it changes
    async with alpaca_simulator(broker, broker_policy(), source, simulated, calendar) as url:
        keys = keys or Keys(simulated.key_id, simulated.secret)
        rest = AlpacaRest(
            replace(REST, url=url, official_url=DATA_URL), keys, time.monotonic, client=data_client, target="market_data"
        )
        clock = VirtualClock(session.opens_at - timedelta(minutes=10))
        terms = AlpacaMarketPolicy("sip", "sip", url.replace("http", "ws", 1), source.symbols, HISTORY, 3, 120)
        market = AlpacaMarket(rest, keys, calendar, clock, terms)
        try:
            yield Exchange(url, source, market, clock, session)
        finally:
            await market.close()


@asynccontextmanager
async def listening(market: AlpacaMarket) -> AsyncIterator[None]:
    task = asyncio.create_task(market.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_known_before_the_open_is_what_the_source_knew(tmp_path: Path) -> None:
    async with exchange(tmp_path) as there:
        ours = await there.market.prior_facts(there.session, (5, 30))
        truth = await there.source.prior_facts(there.session, (5, 30))
    assert ours.symbols == truth.symbols
    assert ours.excluded == truth.excluded == {}
    np.testing.assert_array_equal(ours.previous_close, truth.previous_close)
    np.testing.assert_allclose(ours.dollar_volume_mean, truth.dollar_volume_mean, rtol=1e-3)
    np.testing.assert_allclose(ours.cumulative_volume_mean, truth.cumulative_volume_mean, rtol=1e-3)


async def test_rest_alone_brings_the_bars_that_are_complete(tmp_path: Path) -> None:
    async with exchange(tmp_path) as there:
        bars = await there.market.session_bars(there.session)
        assert (bars.quality == BarQuality.MISSING).all(), "nothing of the session is known yet"
        for minute in (3, 4, 40, 390):
            await there.to(minute)
            await there.market.catch_up()
            same(bars, await there.truth(minute))
        assert there.market.stale_seconds() == 0


async def test_the_stream_tells_bars_and_quotes_and_a_new_connection_makes_up_for_what_was_missed(tmp_path: Path) -> None:
    async with exchange(tmp_path) as there:
        await there.to(2)
        await there.market.session_bars(there.session)
        async with listening(there.market):
            await subscribed(there)
            await there.to(5)
            same(await there.until_told(5), await there.truth(5))
            quotes = await there.market.quotes(there.session.instant_of(6))
            assert (quotes.bid > 0).all()
            assert (quotes.bid <= quotes.ask).all()
            np.testing.assert_array_equal(quotes.age_seconds, 60.0)
        await there.to(9)  # nobody listens
        async with listening(there.market):
            same(await there.until_told(9), await there.truth(9))


@pytest.mark.parametrize("kind", [FaultKind.DUPLICATE, FaultKind.REORDERED, FaultKind.MISSING, FaultKind.DROP, FaultKind.MUTE])
async def test_whatever_a_stream_does_the_bars_are_those_of_the_source(kind: FaultKind, tmp_path: Path) -> None:
    async with exchange(tmp_path, fault_rates={kind: 0.3}) as there:
        bars = await there.market.session_bars(there.session)
        async with listening(there.market):
            await subscribed(there)
            for minute in (1, 2, 3, 4):
                await there.to(minute)
            await there.market.catch_up()
            same(bars, await there.truth(4))


async def test_a_feed_that_is_silent_or_late_is_stale_and_a_closed_market_is_not(tmp_path: Path) -> None:
    async with exchange(tmp_path) as there:
        assert there.market.stale_seconds() == 0
        await there.to(10)
        await there.market.session_bars(there.session)
        assert there.market.stale_seconds() == 0
        there.clock.set(there.session.opens_at + timedelta(minutes=25))
        assert there.market.stale_seconds() == 900
        there.clock.set(there.session.closes_at + timedelta(hours=1))
        assert there.market.stale_seconds() == 0


async def test_history_that_cannot_be_read_whole_is_no_history(tmp_path: Path) -> None:
    async with exchange(tmp_path, fault_rates={FaultKind.TRUNCATED: 1.0}) as there:
        with pytest.raises(Transient):
            await there.market.prior_facts(there.session, (5,))
        await there.to(5)
        with pytest.raises(Transient):
            await there.market.session_bars(there.session)


async def subscribed(there: Exchange) -> None:
    """Until the simulator has a listener: messages of an instant before that are not told."""
    async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(base_url=there.url) as http:
        while not (await http.get("/control/clock")).json()["listeners"]:
            pass
