"""What wall time has for an outside: Alpaca's clock, its market, and the account that is traded."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.clock import RunningClock, wall_now
from finagent.bootstrap.broker import build_alpaca_rest
from finagent.bootstrap.market import Sources, build_alpaca_news, build_live_market, build_market, market_seconds
from finagent.bootstrap.start import ON_WALL_TIME, RUNNING
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.money import plain
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.order_execution import OrderExecutionPort, TradeUpdate
from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.domain.time import to_text
from finagent.domain.trading_state import LedgerIdentity, MarketClock, TradingState, TradingStateRecord
from finagent.policies import alpaca_policies, live_policy
from finagent.services.execution.broker_calls import BrokerCalls
from finagent.services.failpoints import Failpoints
from finagent.services.live import Reservations
from finagent.services.portfolio import ledger
from finagent.services.scheduling.trading_day import session_job
from finagent.settings import Settings, alpaca_keys
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.adapters.broker.alpaca.exchange import AlpacaExchange
    from finagent.adapters.broker.alpaca.rest import AlpacaRest


class Live:
    """The outside of an agent on wall time. `sessions` are those of the calendar, some of the past among them: a job may still
    speak of them."""

    def __init__(
        self, settings: Settings, rest: "AlpacaRest", exchange: "AlpacaExchange", clock: RunningClock, metrics: Metrics
    ) -> None:
        self._settings, self._rest, self._exchange = settings, rest, exchange
        self.clock, self.policy = clock, live_policy(settings)
        self.market, self.news = build_live_market(settings, clock, metrics), build_alpaca_news(settings)
        self.sources = Sources(self.market, self.market, self.news)
        self.reservations = Reservations(self.market, self.policy)
        self.sessions: tuple[Session, ...] = self.market.sessions()

    @property
    def sessions_ahead(self) -> tuple[Session, ...]:
        """The session at hand or the next one: nobody knows the last."""
        return (next(session for session in self.sessions if session.closes_at > self.clock.now()),)

    def held_back(self) -> str:
        """Why new risk has to wait; empty when the outside is as it should be."""
        return self.reservations.held_back()

    async def open_broker(self, stack: AsyncExitStack, failpoints: Failpoints, _metrics: Metrics) -> OrderExecutionPort:
        """The broker. Opened when nobody else can send for the account any more: its barrier counts from then."""
        from finagent.adapters.broker.alpaca.client import AlpacaClient

        return BrokerCalls(AlpacaClient(self._rest, self.clock, alpaca_policies(self._settings)[0]), failpoints)

    async def opening(self, store: Reads, broker: OrderExecutionPort) -> Effect:
        """What a start commits first: the session at hand, should no earlier one have planned it; in a new store also an identity
        that no other has, the account's cash, and a trading state that for real money waits for a person. Raises Unavailable
        where the broker does not tell its account, BadInput for symbols that it does not trade."""
        settings, now, session = self._settings, self.clock.now(), session_job(self.sessions_ahead[0])
        if store.get(MarketClock, 1) is not None:
            return Effect(next=(session,))
        try:
            account = await broker.account()
            await self._require_universe()
        except Transient as error:
            raise Unavailable(f"the broker cannot be read at the first start: {error}") from error
        name, seed = f"led-{os.urandom(8).hex()}", settings.replay.seed
        cash, hashed = plain(account.cash), settings.settings_hash
        identity = LedgerIdentity(1, name, account.account_id, seed, ON_WALL_TIME, cash, hashed, now)
        real = settings.orchestrate.mode == "live"
        reason = "first start with real money: a person arms it" if real else "first start"
        state = TradingStateRecord(1, TradingState.HALTED if real else TradingState.ACTIVE, reason, "finagent", now)
        return Effect((identity, MarketClock(1, self.market.source_id, now, RUNNING), state), (session,))

    async def _require_universe(self) -> None:
        """Of a first start only: a symbol that becomes untradable later must not keep away who holds it."""
        from finagent.adapters.market_data.alpaca.market import require_universe

        assets = await self._exchange.assets()
        require_universe(self.market.symbols, frozenset(symbol for symbol, asset in assets.items() if asset.tradable))

    async def broker_time(self) -> datetime:
        """What the broker's clock says."""
        return (await self._exchange.clock()).at

    async def calendar_objection(self, session: Session) -> str:
        """Where the broker's calendar has the session otherwise: an unscheduled closure is known there first."""
        found = await self._exchange.sessions(session.date, session.date)
        theirs = found[0] if found else None
        if theirs == session:
            return ""
        hours = "no session" if theirs is None else f"{to_text(theirs.opens_at)} to {to_text(theirs.closes_at)}"
        return f"the broker's calendar has {hours} on {session.date}"

    def trade_updates(
        self, receive: Callable[[TradeUpdate], Awaitable[None]], sign: Callable[[], None]
    ) -> Callable[[], Awaitable[None]]:
        """A listener that hands on what happens to orders, and gives a sign whenever something may have happened."""
        from finagent.adapters.broker.alpaca.trade_updates import TradeUpdates

        url = f"{self._rest.url.replace('http', 'ws', 1)}/stream"
        return TradeUpdates(Keys(*alpaca_keys(self._settings)), url, receive, sign).run_forever

    async def close(self) -> None:
        """Give the connections back."""
        await self.market.close()
        await self.news.close()
        await self._rest.close()

    def take_over(self, store: Reads) -> None:
        """A folder holds the story of one account, and time does not go back in it (BadInput). Settings may change: each decision
        names its own."""
        folder, known, at = self._settings.storage.directory, ledger(store), store.get(MarketClock, 1)
        account = self._settings.broker.account_id
        if known.replay_key != ON_WALL_TIME:
            raise BadInput(f"{folder} holds a replay: choose another storage.directory, or archive it with --fresh")
        if known.account != account:
            raise BadInput(
                f"{folder} holds the story of account {known.account}, not {account}: choose another storage.directory"
            )
        limit = timedelta(seconds=self.policy.skew_seconds_max)
        if at is not None and at.at - self.clock.now() > limit:
            raise BadInput(f"the clock says {to_text(self.clock.now())}, and the store has seen {to_text(at.at)}: set the clock")


@asynccontextmanager
async def open_market(settings: Settings) -> AsyncIterator[MarketDataPort]:
    """The market data that the settings name, for whoever looks back: on wall time its past sessions are asked for."""
    if not settings.on_wall_time:
        yield build_market(settings)
        return
    live = await build_live(settings, Metrics())
    try:
        yield live.market
    finally:
        await live.close()


async def build_live(settings: Settings, metrics: Metrics) -> Live:
    """Alpaca as the settings name it. A simulator's time is the only one there is; at Alpaca ours is the machine's."""
    rest = build_alpaca_rest(settings, metrics, market_seconds(settings))
    from finagent.adapters.broker.alpaca.exchange import AlpacaExchange

    exchange, at = AlpacaExchange(rest), wall_now()
    try:
        if live_policy(settings).follows_broker_clock:
            at = (await exchange.clock()).at
        return Live(settings, rest, exchange, RunningClock(at, time.monotonic, settings.wall_time.pace), metrics)
    except Transient as error:
        await rest.close()
        raise Unavailable(f"{rest.url} does not tell the time: {error}; is `finagent simulate-broker` up?") from error
