"""A store on disk with one account and one open session, and the real parts that services stand on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain import identity
from finagent.domain.bars import DailyHistory, PriorFacts, SessionBars, no_history
from finagent.domain.effect import Effect
from finagent.domain.gap import Direction, FeatureVector, GapCandidate, GapFacts
from finagent.domain.jobs import Job
from finagent.domain.orders import Side
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.prediction import Prediction
from finagent.domain.risk import RiskCode, RiskDecision, Verdict
from finagent.domain.runs import PipelineRun, RunState, Stage, SymbolRun, SymbolState
from finagent.domain.sessions import Session
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import LedgerIdentity, MarketClock, StartGate, TradingState, TradingStateRecord
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.failpoints import unarmed
from finagent.services.kill_switch import KillSwitch
from finagent.services.market_data.daily_features import DailyFeatures
from finagent.services.market_data.feature_cache import FeatureCache, FeatureCachePolicy
from finagent.services.market_data.feed import Feed

DAY = date(2008, 10, 1)
OPEN = datetime(2008, 10, 1, 13, 30, tzinfo=UTC)
SESSION = Session(DAY, OPEN, OPEN + timedelta(minutes=390))
NEXT_SESSION = Session(DAY + timedelta(days=1), OPEN + timedelta(days=1), OPEN + timedelta(days=1, minutes=390))
CASH = Decimal(100_000)


@dataclass
class Desk:
    """What a test works with. `halt_file` stands for the HALT file beside the store."""

    clock: VirtualClock
    reads: SqliteReads
    queue: SqliteJobQueue
    halt_file: list[str] = field(default_factory=list)
    session: Session = SESSION
    next_session: Session = NEXT_SESSION

    def __post_init__(self) -> None:
        self.kill_switch = KillSwitch(self.reads, self.queue, self.clock, lambda: bool(self.halt_file), StartGate.OPEN)

    def minute(self, minute: float) -> datetime:
        return OPEN + timedelta(minutes=minute)

    async def commit(self, *records: Any) -> list[Job]:
        """Commit records, or effects as they stand."""
        effect = Effect()
        for record in records:
            effect += record if isinstance(record, Effect) else Effect((record,))
        return await self.queue.submit(effect)

    def job(self, kind: str, key: str = "", attempts: int = 0, crashes: int = 0, **payload: Any) -> Job:
        """A job as a handler is given it."""
        return Job(1, kind, payload, 1, 50, self.clock.now(), attempts, crashes, 1, "trace", key or f"{kind}:1")

    def waiting(self, kind: str) -> list[tuple[str, str, str]]:
        """(key, status, run_at) of the jobs of a type that are not done, in order of time."""
        sql = "SELECT dedup_key, status, run_at FROM job_queue WHERE type = ? AND status != 'DONE' ORDER BY run_at, id"
        return self.reads.rows(sql, (kind,))

    def keys(self, kind: str) -> list[str]:
        """Keys of all jobs of a type ever published."""
        return [row[0] for row in self.reads.rows("SELECT dedup_key FROM job_queue WHERE type = ? ORDER BY id", (kind,))]

    def told(self, kind: str) -> int:
        """How many events of that kind the stories hold."""
        return int(self.reads.rows("SELECT count(*) FROM decision_event WHERE kind = ?", (kind,))[0][0])

    def state(self) -> TradingStateRecord:
        return self.kill_switch.state()

    async def run(self, fired: int = 5, entry: str = "first") -> str:
        """A run of the scan `fired` minutes after the open; its id."""
        run = identity.run_id("led-test", entry, self.minute(fired))
        at = self.minute(fired)
        await self.commit(PipelineRun(run, entry, DAY, at, RunState.RUNNING, 3, 1, 0, {}, "", None))
        return run

    async def candidate(self, run: str, symbol: str, direction: Direction = Direction.UP, **facts: float) -> GapCandidate:
        """A candidate of the run as the scanner commits it: 4 % up on twice the volume, high 104, low 102."""
        decision, now = identity.decision_id(run, symbol), self.clock.now()
        known: dict[str, Any] = {
            "gap": 0.04,
            "previous_close": 100.0,
            "open": 104.0,
            "high": 104.0,
            "low": 102.0,
            "last": 103.9,
            "cumulative_volume": 2e6,
            "relative_volume": 2.0,
            "dollar_volume_mean": 9e8,
            "minutes_since_open": 5,
        }
        candidate = GapCandidate(
            decision, run, symbol, DAY, direction, identity.trace_id(decision), now, GapFacts(**{**known, **facts})
        )
        vector = FeatureVector(decision, now, now, "spec", (0.04, 0.7, 0.95), "OK")
        await self.commit(candidate, vector, SymbolRun(run, symbol, Stage.SCAN, SymbolState.RUNNING, ""))
        return candidate

    async def planned(
        self, run: str, symbol: str, quantity: int = 100, side: Side = Side.BUY, score: float = 0.7, entry: str = "104.01"
    ) -> TradePlan:
        """A candidate with its score and its plan: entry 104.01, limit 104.27, stop 102.00, target 108.03."""
        candidate = await self.candidate(run, symbol, Direction.UP if side is Side.BUY else Direction.DOWN)
        trigger, sign = Decimal(entry), side.sign
        plan = TradePlan(
            candidate.decision_id,
            run,
            symbol,
            side,
            quantity,
            trigger,
            trigger + sign * Decimal("0.26"),
            trigger - sign * Decimal("2.01"),
            trigger + sign * Decimal("4.02"),
            self.clock.now() + timedelta(minutes=30),
            "by hand",
        )
        await self.commit(Prediction(candidate.decision_id, "m1", "spec", score, self.clock.now()), plan)
        return plan

    async def approved(self, symbol: str = "IBM", quantity: int = 100, rank: int = 0, **plan: Any) -> TradePlan:
        """A planned candidate that the gate let pass whole, in a run of its own."""
        run = await self.run(entry=f"for {symbol}")
        drawn = await self.planned(run, symbol, quantity, **plan)
        verdict = RiskDecision(
            drawn.decision_id,
            run,
            rank,
            Verdict.APPROVED,
            RiskCode.OK,
            Decimal(0),
            Decimal(0),
            quantity,
            quantity * drawn.entry_limit,
            (),
            self.clock.now(),
        )
        await self.commit(verdict)
        return drawn


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A store with every table and no rows."""
    path = tmp_path / "finagent.db"
    upgrade(path, WRITER, unarmed)
    return path


WRITER = WriterPolicy(1, 1000, group_operations_max=500, database_bytes_max=0, probe_bytes=4096)


@asynccontextmanager
async def opened(database: Path) -> AsyncIterator[Desk]:
    """An active account of 100,000 USD, five minutes into the session of 2008-10-01."""
    clock, reads = VirtualClock(OPEN), SqliteReads(database)
    queue = SqliteJobQueue(
        database,
        reads=reads,
        clock=clock,
        policy=DurableQueuePolicy(2000, 10, 5, 1000, 30, 500, 2000, 5),
        writer_policy=WRITER,
        failpoints=unarmed,
        build_hash="build",
        settings_hash="settings",
        worker_id="worker",
        carries_market_clock=True,
    )
    await queue.recover()
    desk = Desk(clock, reads, queue)
    await desk.commit(
        LedgerIdentity(1, "led-test", "SIM-1", 7, "", str(CASH), "settings", OPEN),
        MarketClock(1, "by hand", OPEN, "RUNNING"),
        TradingStateRecord(1, TradingState.ACTIVE, "first start", "test", OPEN),
        AccountSnapshot(DAY, "OPEN", OPEN, CASH, CASH, 0, 0),
    )
    clock.set(OPEN + timedelta(minutes=5))
    yield desk
    await queue.close()
    reads.close()


@pytest.fixture
async def desk(database: Path) -> AsyncIterator[Desk]:
    async with opened(database) as desk:
        yield desk


@pytest.fixture
def open_desk() -> Callable[[Path], AbstractAsyncContextManager[Desk]]:
    """Makes a store in a folder and opens its desk: for tests that need several."""

    def open_(folder: Path) -> AbstractAsyncContextManager[Desk]:
        upgrade(folder / "finagent.db", WRITER, unarmed)
        return opened(folder / "finagent.db")

    return open_


def features_of(market: MarketDataPort) -> FeatureCache:
    """Features of the days of a market, kept in memory alone."""
    days = DailyFeatures(market, 5, asyncio.to_thread)
    return FeatureCache(
        market, days, None, FeatureCachePolicy("test", 3600.0, 4), lambda: datetime.max.replace(tzinfo=UTC), lambda: 0.0
    )


class ArrayMarket:
    """A market of one-minute bars held in arrays: every symbol stands at 100 USD with 10,000 shares a minute, until a test
    writes something else into the columns of `bars` or `prior`."""

    source_id = "arrays"
    notice = "written by a test"

    def __init__(self, symbols: tuple[str, ...], session: Session) -> None:
        self.symbols = symbols
        shape = (session.minutes, len(symbols))
        price, volume = np.full(shape, 100.0), np.full(shape, 1e4)
        self.bars = SessionBars(
            session, symbols, price.copy(), price.copy(), price.copy(), price.copy(), volume, np.zeros(shape, dtype=np.uint8)
        )
        self.previous_close = np.full(len(symbols), 100.0)
        self.dollar_volume_mean = np.full(len(symbols), 1e9)
        self.cumulative_volume_mean = np.full(len(symbols), 2.5e4)
        self.excluded: dict[str, str] = {}
        self.history = no_history(symbols)
        self.failures: list[Exception] = []

    def sessions(self) -> tuple[Session, ...]:
        return (self.bars.session,)

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        volumes = np.tile(self.cumulative_volume_mean, (len(minutes), 1))
        return PriorFacts(session, self.symbols, self.previous_close, self.dollar_volume_mean, minutes, volumes, self.excluded)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return self.history

    async def session_bars(self, session: Session) -> SessionBars:
        if self.failures:
            raise self.failures.pop(0)
        return replace(self.bars, session=session)

    def gap(self, symbol: str, fraction: float) -> None:
        """The symbol opens away from its previous close and stays there, in a range of 1 USD."""
        column = self.symbols.index(symbol)
        price = 100.0 * (1 + fraction)
        for array, value in ((self.bars.open, price), (self.bars.close, price)):
            array[:, column] = value
        self.bars.high[:, column], self.bars.low[:, column] = price + 0.5, price - 0.5


@pytest.fixture
def market(desk: Desk) -> ArrayMarket:
    return ArrayMarket(("AAPL", "GOOG", "IBM", "MSFT"), desk.session)


@pytest.fixture
def open_feed(desk: Desk, market: ArrayMarket) -> Callable[..., Awaitable[Feed]]:
    """Opens the session in a feed and takes in the bars complete by now, or by the instant that is named."""

    async def open_(complete: datetime | None = None) -> Feed:
        feed = Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))
        await feed.open_session(desk.session, (5, 15, 30))
        feed.advance(complete)
        return feed

    return open_


@pytest.fixture
def array_market() -> type[ArrayMarket]:
    """For tests that need a market of their own size."""
    return ArrayMarket
