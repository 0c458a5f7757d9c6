"""Minute bars for a window of sessions, bridged from real or simulated daily bars."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date
from threading import Lock
from typing import Generic, Protocol, TypeVar

import numpy as np

from finagent.adapters.market_data.bridge import DailyBars, MinuteBars, MinuteBridge
from finagent.adapters.market_data.daily_panel import HistoryPolicy, KnownPanels
from finagent.domain.bars import BarQuality, DailyHistory, Floats, PriorFacts, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class BridgedMarketPolicy:
    """History needed before an open, and how many sessions' bars stay in memory (390 x symbols x 41 bytes each)."""

    history: HistoryPolicy
    cached_sessions_max: int

    def __post_init__(self) -> None:
        if self.cached_sessions_max < 1:
            raise BadInput(f"cached_sessions_max is {self.cached_sessions_max}: at least one session must fit")


class Defects(Protocol):
    """What goes wrong with a session's good bars: halts, missing minutes, null bars, bad ticks. Pure in its argument."""

    def __call__(self, bars: SessionBars) -> SessionBars:
        """The bars as a feed would deliver them."""
        ...


class BridgedMarket:
    """MarketDataPort over daily bars and the minute bridge, for the panel's sessions from `first` to `last`.

    `source_id` and `notice` are the caller's, who knows where the daily bars are from; `source_id` must name everything
    that the bars depend on: content, window, seed, defects.
    """

    def __init__(
        self,
        panels: KnownPanels,
        bridge: MinuteBridge,
        *,
        first: date,
        last: date,
        source_id: str,
        notice: str,
        policy: BridgedMarketPolicy,
        defects: Defects | None = None,
    ) -> None:
        self._panels, panel = panels, panels.first
        self._bridge = bridge
        self._sessions = tuple(session for session in panel.sessions if first <= session.date <= last)
        if not self._sessions:
            known = f"{panel.sessions[0].date} to {panel.sessions[-1].date}" if panel.sessions else "no session at all"
            raise BadInput(f"no session from {first} to {last}: the daily bars cover {known}")
        self._source_id = source_id
        self._notice = notice
        self._policy = policy
        self._defects = defects
        self._bars = _Kept[SessionBars](policy.cached_sessions_max)
        history = policy.history
        self._shares = _Kept[Floats](history.mean_sessions + history.hole_sessions_max + 1)

    @property
    def source_id(self) -> str:
        return self._source_id

    @property
    def notice(self) -> str:
        return self._notice

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._panels.first.symbols

    def sessions(self) -> tuple[Session, ...]:
        return self._sessions

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        def known() -> PriorFacts:
            return self._panels.at(session.opens_at).prior_facts(session, minutes, self._policy.history, self._volume_shares)

        return await asyncio.to_thread(known)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return await asyncio.to_thread(lambda: self._panels.at(session.opens_at).daily_history(session, first))

    async def session_bars(self, session: Session) -> SessionBars:
        return await asyncio.to_thread(self._bars.fetch, session, lambda: self._generate(session))

    def _volume_shares(self, session: Session, minutes: tuple[int, ...]) -> Floats:
        def make() -> Floats:
            shares = self._bridge.cumulative_volume_shares(session.date, session.minutes, self.symbols)
            rows = np.clip(np.array(minutes, dtype=np.intp), 0, session.minutes)
            return np.vstack([np.zeros(len(self.symbols)), shares])[rows]

        return self._shares.fetch((session, minutes), make)

    def _generate(self, session: Session) -> SessionBars:
        panel = self._panels.first
        day = panel.day_of(session)
        daily = DailyBars(panel.open[day], panel.high[day], panel.low[day], panel.close[day], panel.volume[day])
        present = np.flatnonzero(np.isfinite(daily.close))
        minute = self._bridge.bars(
            session.date,
            session.minutes,
            tuple(self.symbols[place] for place in present),
            DailyBars(*(column[present] for column in daily)),
        )
        shape = (session.minutes, len(self.symbols))
        whole = MinuteBars(*(np.full(shape, np.nan) for _ in MinuteBars._fields))
        for column, part in zip(whole, minute, strict=True):
            column[:, present] = part
        quality = np.full(shape, BarQuality.MISSING, dtype=np.uint8)
        quality[:, [place for place, symbol in enumerate(self.symbols) if symbol in panel.excluded[day]]] = BarQuality.BAD
        quality[:, present] = BarQuality.OK
        bars = SessionBars(session, self.symbols, **whole._asdict(), quality=quality, simulated=True)
        return bars if self._defects is None else self._defects(bars)


class _Kept(Generic[V]):
    """The most recently used values, at most `limit`; asked from several threads, a value may be made twice, never half."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = Lock()

    def fetch(self, key: Hashable, make: Callable[[], V]) -> V:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value
