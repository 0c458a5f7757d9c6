"""Market data as it stands: the session's bars flow into the feature state, prices are asked here and nowhere else."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite

import numpy as np
import structlog

from finagent.domain.bars import BarBlock, Floats, PriorFacts, Quotes, SessionBars, no_quotes
from finagent.domain.errors import InvariantViolated, Transient
from finagent.domain.money import exact
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.quotes import QuotePort
from finagent.domain.sessions import MINUTE, Session
from finagent.quant.features.candidate_features import candidate_rows
from finagent.quant.features.catalogue import BARS
from finagent.quant.features.feature_state import NEVER, FeatureState
from finagent.quant.features.gap_scan import ScanResult, ScanRules, scan
from finagent.quant.features.news_features import no_news
from finagent.services.market_data.feature_cache import FeatureCache
from finagent.services.market_data.news import NewsFeatures
from finagent.services.market_data.return_history import ReturnHistory

log = structlog.get_logger(__name__)


class Feed:
    """One session at a time. What was already seen of it is rebuilt by feeding its bars again."""

    def __init__(
        self,
        market: MarketDataPort,
        clock: Clock,
        rules: ScanRules,
        days: FeatureCache,
        news: NewsFeatures | None = None,
        quotes: QuotePort | None = None,
        returns: ReturnHistory | None = None,
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._market, self._clock, self._rules, self._timed = market, clock, rules, timed
        self._days, self._news, self._quotes, self._returns = days, news, quotes, returns
        self._state = FeatureState(market.symbols)
        self._bars: SessionBars | None = None
        self._prior: PriorFacts | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._market.symbols

    @property
    def session(self) -> Session:
        """The session being fed; raises InvariantViolated before the first."""
        if self._bars is None:
            raise InvariantViolated("no session is open in the feed")
        return self._bars.session

    async def open_session(self, session: Session, scan_minutes: tuple[int, ...]) -> None:
        """Load what was known before the open and the session's bars; nothing of the session is known yet."""
        if self._bars is not None and self._bars.session == session:
            return
        prior, bars = await self._market.prior_facts(session, scan_minutes), await self._market.session_bars(session)
        self._prior, self._bars = prior, bars
        self._state.reset(session)
        try:
            await self._days.before(session)  # ready before a scan needs them
        except Transient as error:
            log.warning("daily_features_unknown", session=session.date.isoformat(), error=str(error))
        if self._returns is not None:
            await self._returns.before(session)  # and before the gate does

    def follows(self, at: datetime) -> bool:
        """Whether the session of that instant is the one being fed."""
        return self._bars is not None and self._bars.session.opens_at <= at <= self._bars.session.closes_at

    @property
    def minutes_behind(self) -> int:
        """Minutes of the session that are over and whose bars were not taken in yet; none in lock-step."""
        return self.session.minute_of(self._clock.now()) - self._state.minute

    def advance(self, complete: datetime | None = None) -> BarBlock | None:
        """Take in all bars complete by then, as far as they are known; returns the last one, None when there was no new one.
        None: by now."""
        if self._bars is None:
            return None
        block = None
        for minute in range(self._state.minute + 1, self._bars.session.minute_of(complete or self._clock.now()) + 1):
            block = self._bars.block(minute)
            self._state.update(block)
        return block

    def scan(self) -> ScanResult:
        """One pass over the universe as of now."""
        if self._prior is None:
            raise InvariantViolated("no session is open in the feed")
        with self._timed():
            return scan(self._state, self._prior, self.session.minute_of(self._clock.now()), self._rules)

    async def daily_features(self) -> Floats:
        """Of the session being fed, as of the close before [symbols, features], ready since it was opened. Where the history of
        days cannot be had now they are unknown, and nothing else waits for them."""
        try:
            return await self._days.before(self.session)
        except Transient as error:
            log.warning("daily_features_unknown", session=self.session.date.isoformat(), error=str(error))
            return np.full(BARS.shape(len(self.symbols)), np.nan)

    async def candidate_rows(self, found: ScanResult) -> Floats:
        """The features of each candidate of that scan, the best first (see candidate_features)."""
        now = self._clock.now()
        symbols = [found.symbols[column] for column in found.ranked.columns]
        days, quotes = await self.daily_features(), await self._last_quotes(now)
        news = await self._news.of(symbols, now) if self._news is not None else no_news(len(symbols))
        return candidate_rows(found, self.session, days, quotes, news)

    async def _last_quotes(self, now: datetime) -> Quotes:
        if self._quotes is None:
            return no_quotes(len(self.symbols))
        try:
            return await self._quotes.quotes(now)
        except Transient as error:
            log.warning("quotes_unknown", error=str(error))
            return no_quotes(len(self.symbols))

    @property
    def simulated(self) -> bool:
        """Whether the minutes of the session being fed are made up."""
        return self._bars is not None and self._bars.simulated

    def exclusions(self) -> dict[str, str]:
        """Symbols out for the session, and why."""
        return self._prior.excluded if self._prior is not None else {}

    @property
    def unusable_fraction(self) -> float:
        """How much of the universe is out for the session, or has more bad bars than a scan takes. Bars that are late are no bad
        ones: how old a price may be is asked where it is used."""
        unusable = self._state.bad_bars > self._rules.bad_bars_max
        unusable[[self._state.index[symbol] for symbol in self.exclusions() if symbol in self._state.index]] = True
        return float(unusable.mean())

    def mark(self, symbol: str) -> Decimal | None:
        """What a share is counted for: its last price, before the first bar its previous close; None when neither is known."""
        last = self.last_price(symbol)[0]
        column = self._state.index.get(symbol)
        if last is not None or column is None or self._prior is None:
            return last
        previous = float(self._prior.previous_close[column])
        return exact(previous) if isfinite(previous) else None

    def last_price(self, symbol: str) -> tuple[Decimal | None, float]:
        """The last price of the session in USD and its age in seconds; (None, infinity) before the first bar."""
        column = self._state.index.get(symbol)
        if column is None or self._bars is None or self._state.last_minute[column] == NEVER:
            return None, float("inf")
        age: timedelta = self._clock.now() - self.session.opens_at - int(self._state.last_minute[column]) * MINUTE
        return exact(float(self._state.last[column])), age.total_seconds()
