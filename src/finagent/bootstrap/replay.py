"""What a replay has for an outside: recorded bars, time that is set, and a simulated broker."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import orjson

from finagent.adapters.clock import VirtualClock, wall_now
from finagent.bootstrap.broker import build_broker_client
from finagent.bootstrap.market import Sources
from finagent.bootstrap.start import ON_WALL_TIME, RUNNING
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.identity import digest
from finagent.domain.money import plain
from finagent.domain.ports.order_execution import OrderExecutionPort
from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.domain.trading_state import LedgerIdentity, MarketClock, TradingState, TradingStateRecord
from finagent.services.execution.broker_calls import BrokerCalls, VenueCalls
from finagent.services.failpoints import Failpoints
from finagent.services.portfolio import ledger
from finagent.services.scheduling.trading_day import session_job
from finagent.settings import Settings
from finagent.telemetry.metrics import Metrics


class Replay:
    """The outside of a replay."""

    def __init__(self, settings: Settings, sources: Sources, stored: MarketClock | None) -> None:
        self._settings = settings
        self.sources, self.market = sources, sources.market
        self.clock = VirtualClock(stored.at if stored is not None else self.market.sessions()[0].opens_at)
        self._venue: VenueCalls | None = None

    @property
    def venue(self) -> VenueCalls:
        """The broker's market. Raises InvariantViolated before the broker is open."""
        if self._venue is None:
            raise InvariantViolated("the broker of the replay is not open")
        return self._venue

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Those of the window."""
        return self.market.sessions()

    @property
    def sessions_ahead(self) -> tuple[Session, ...]:
        """What is about to be traded."""
        return self.sessions

    def held_back(self) -> str:
        """Nothing outside keeps a replay from trading."""
        return ""

    async def open_broker(self, stack: AsyncExitStack, failpoints: Failpoints, metrics: Metrics) -> OrderExecutionPort:
        """The broker, which the stack closes."""
        client = build_broker_client(self._settings, self.market, self.clock, metrics)
        stack.push_async_callback(client.close)
        self._venue = VenueCalls(client, failpoints)
        return BrokerCalls(client, failpoints)

    def take_over(self, store: Reads) -> None:
        """Go on where the store stands: another process may have led until now. A folder holds one replay: going on with another
        would mix two stories (BadInput)."""
        self._require_same(store)
        stored = store.get(MarketClock, 1)
        if stored is not None:
            self.clock.set(stored.at)

    async def opening(self, store: Reads, _broker: OrderExecutionPort) -> Effect:
        """What a start commits first: in a new store its identity, the clock at the first open, the trading state and the first
        session."""
        if store.get(MarketClock, 1) is not None:
            return Effect()
        settings, first, key = self._settings, self.sessions[0], self._key()
        text = orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()
        identity = LedgerIdentity(
            1,
            "led-" + digest(settings.replay.seed, text, length=16),
            settings.broker.account_id,
            settings.replay.seed,
            text,
            plain(settings.replay.start_cash_usd),
            settings.settings_hash,
            wall_now(),
        )
        at = first.opens_at
        state = TradingStateRecord(1, TradingState.ACTIVE, "first start", "finagent", at)
        return Effect((identity, MarketClock(1, self.market.source_id, at, RUNNING), state), (session_job(first),))

    def _key(self) -> dict[str, Any]:
        return {"source_id": self.market.source_id, "notice": self.market.notice, "settings": self._settings.decisive()}

    def _require_same(self, store: Reads) -> None:
        folder, before = self._settings.storage.directory, ledger(store).replay_key
        if before == ON_WALL_TIME:
            raise BadInput(f"{folder} holds the story of an account: choose another storage.directory")
        now = orjson.loads(orjson.dumps(self._key()))
        differences = [f"{name}: {a} there, {b} here" for name, a, b in _differences(orjson.loads(before), now)]
        if differences:
            listed = "\n  ".join(differences)
            raise BadInput(
                f"{folder} holds a different replay:\n  {listed}\n"
                "go on with the same settings, choose another storage.directory, or archive it with --fresh"
            )


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(before.keys() | now.keys()):
        a, b = before.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            yield f"{prefix}{name}", a, b
