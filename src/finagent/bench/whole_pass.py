"""The second figure of `finagent bench scan`: one whole pass, from the scan's start to the committed intents of 20 candidates."""

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np

from finagent.bench.contest import Row, spread
from finagent.bootstrap import Application, Parts, Wraps, build_application
from finagent.domain.bars import BarQuality, DailyHistory, Floats, PriorFacts, SessionBars
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import Job
from finagent.domain.orders import Leg, OrderIntent
from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.services.progress import Onlookers
from finagent.services.queue.processor import Handler
from finagent.settings import Settings, load_settings

SYMBOLS = 10_000
CANDIDATES = 20
DAYS = 45
OPENS_AT = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
SESSION = Session(date(2024, 1, 2), OPENS_AT, OPENS_AT + timedelta(minutes=30))
OVERRIDES = (
    "scan.gap_fraction_min=0.04",
    "scan.relative_volume_min=1.5",
    "http.enabled=false",
    f"risk.positions_max={CANDIDATES}",
    f"risk.orders_per_day_max={CANDIDATES}",
    f"risk.messages_per_minute_max={CANDIDATES}",
    "risk.position_fraction_max=0.05",
    "risk.sector_fraction_max=1",
)


class GapMarket:
    """A session of 30 quiet minutes in which every 500th of 10,000 symbols opened 6 % higher on three times its volume."""

    source_id = "bench:whole-pass"
    notice = "generated bars for a benchmark"

    def __init__(self) -> None:
        self.symbols = tuple(f"S{number:05d}" for number in range(SYMBOLS))
        previous = np.linspace(20.0, 220.0, SYMBOLS).round(2)
        gapped = np.arange(SYMBOLS) % (SYMBOLS // CANDIDATES) == 0
        self._previous: Floats = previous
        self._open: Floats = np.where(gapped, previous * 1.06, previous * 1.001).round(2)
        self._volume: Floats = np.where(gapped, 300_000.0, 100_000.0)
        chance = np.random.Generator(np.random.Philox(key=7))
        close = previous * np.exp(0.01 * chance.standard_normal((DAYS, SYMBOLS)))
        days = tuple(SESSION.date - timedelta(days=back) for back in range(DAYS, 0, -1))
        volume, whole = np.full(close.shape, 1e8), np.ones(close.shape)
        self._days = DailyHistory(days, self.symbols, close, close, close, close, volume, whole)

    def sessions(self) -> tuple[Session, ...]:
        """The one session."""
        return (SESSION,)

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        """Ordinary volume of 100,000 shares a minute."""
        usual = np.repeat(np.asarray(minutes, dtype=np.float64)[:, np.newaxis] * 100_000.0, SYMBOLS, axis=1)
        return PriorFacts(session, self.symbols, self._previous, self._previous * 1e6, minutes, usual, {})

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        """As many days as the gate needs to know a symbol."""
        return self._days

    async def session_bars(self, session: Session) -> SessionBars:
        """Prices breathe by half a per cent around the open, so that each candidate has a range."""
        wave = (1.0 + 0.005 * np.sin(np.arange(session.minutes)))[:, np.newaxis]
        close = (self._open * wave).round(2)
        open_ = np.vstack([self._open, close[:-1]])
        high, low = np.maximum(open_, close), np.minimum(open_, close)
        volume = np.repeat(self._volume[np.newaxis, :], session.minutes, axis=0)
        return SessionBars(session, self.symbols, open_, high, low, close, volume, np.full(close.shape, BarQuality.OK, np.uint8))


class Stopwatch(Onlookers):
    """Starts with the scan's handler, stops with the commit that brings the last entry intent."""

    def __init__(self) -> None:
        super().__init__()
        self._entries = 0
        self._started = 0.0
        self.seconds: float | None = None
        self.application: Application | None = None

    def around(self, _parts: Parts, handlers: dict[str, Handler]) -> dict[str, Handler]:
        """The application's handlers with the scan's start noted."""
        scan = handlers["scan"]

        async def noted(jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
            self._started = time.perf_counter()
            return await scan(jobs, reads)

        return {**handlers, "scan": noted}

    def committed(self, effect: Effect) -> None:
        """Counts entry intents as their commits return."""
        self._entries += sum(1 for record in effect.records if isinstance(record, OrderIntent) and record.leg is Leg.ENTRY)
        if self._entries == CANDIDATES and self.seconds is None:
            self.seconds = time.perf_counter() - self._started
            if self.application is not None:
                self.application.stop()


@dataclass(frozen=True, slots=True)
class Pass:
    """One measured pass, and what one durable write cost on the same disk right after it."""

    seconds: float
    sync_seconds: float


def whole_pass(repeats: int, overrides: Sequence[str] = ()) -> Row:
    """Fresh folder, fresh store and one pass a repeat; the floor is a single fsync: nothing durable is faster."""
    passes = [asyncio.run(_one_pass(overrides)) for _ in range(repeats)]
    seconds = [each.seconds for each in passes]
    return Row(
        figure=f"whole pass over {SYMBOLS:,} symbols: scan to committed intents of {CANDIDATES} candidates, synchronous=FULL",
        unit="ms",
        better="lower",
        ours=median(seconds) * 1e3,
        floor=median(each.sync_seconds for each in passes) * 1e3,
        peers={},
        repeats=repeats,
        spread=spread(seconds),
    )


async def _one_pass(overrides: Sequence[str]) -> Pass:
    with tempfile.TemporaryDirectory(prefix="finagent-bench-") as folder:
        watch = Stopwatch()
        async with build_application(
            _settings(Path(folder), overrides), market=GapMarket(), observer=watch, wraps=Wraps(handlers=watch.around)
        ) as application:
            watch.application = application
            await application.run()
        if watch.seconds is None:
            raise InvariantViolated(f"the pass did not bring {CANDIDATES} entry intents: the benchmark would measure other work")
        return Pass(watch.seconds, _sync_seconds(Path(folder) / "sync"))


def _settings(folder: Path, overrides: Sequence[str]) -> Settings:
    return load_settings(overrides=(*OVERRIDES, *overrides, f"storage.directory={folder}"))


def _sync_seconds(path: Path) -> float:
    with path.open("wb") as file:
        file.write(bytes(4096))
        file.flush()
        started = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - started
