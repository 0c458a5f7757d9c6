"""NewsPort of a simulated market: its gaps, as a newspaper tells them."""

from datetime import datetime

import numpy as np

from finagent.domain.bars import BarQuality
from finagent.domain.identity import digest
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.news import Article
from finagent.domain.sessions import Session

GAP_FRACTION_MIN = 0.02  # below it nobody writes


class SimulatedNews:
    """An article about each gap, out when the first bar of its session is complete."""

    def __init__(self, market: MarketDataPort) -> None:
        self._market = market

    async def articles(self, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        wanted = set(symbols)
        found = [
            article
            for session in self._market.sessions()
            if since <= session.instant_of(1) <= until
            for article in await self.of_session(session)
            if wanted & set(article.symbols)
        ]
        return tuple(sorted(found, key=lambda article: (article.at, article.article_id)))

    async def of_session(self, session: Session) -> tuple[Article, ...]:
        """In the order of the symbols."""
        bars, facts = await self._market.session_bars(session), await self._market.prior_facts(session, ())
        traded = (bars.quality[0] == BarQuality.OK) & (bars.volume[0] >= 1) & (facts.previous_close > 0)
        gaps = np.where(traded, bars.open[0], np.nan) / np.where(traded, facts.previous_close, np.nan) - 1.0
        found = []
        for column in np.flatnonzero(np.abs(gaps) >= GAP_FRACTION_MIN).tolist():
            symbol, gap, at = bars.symbols[column], float(gaps[column]), session.instant_of(1)
            headline = f"{symbol} opens {abs(gap):.1%} {'above' if gap > 0 else 'below'} the previous close"
            number = str(int(digest("news", symbol, session.date.isoformat(), length=12), 16))
            found.append(Article(number, at, at, headline, "simulated", (symbol,), "https://example.com/news"))
        return tuple(found)
