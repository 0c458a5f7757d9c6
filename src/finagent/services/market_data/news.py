"""What is written about symbols as features: articles, scored off the event loop."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import structlog

from finagent.domain.bars import Floats
from finagent.domain.errors import Transient
from finagent.domain.ports.news import NewsPort, SentimentScorer
from finagent.quant.features.catalogue import NEWS_HOURS
from finagent.quant.features.news_features import ScoredArticle, news_features, no_news

log = structlog.get_logger(__name__)
ARTICLES_MAX = 2000  # of one question, the latest: scoring one takes 20 us
OffLoop = Callable[[Callable[[Sequence[str]], Sequence[float]], Sequence[str]], Awaitable[Sequence[float]]]


class NewsFeatures:
    """Of the articles of a source."""

    def __init__(self, source: NewsPort, scorer: SentimentScorer, off_loop: OffLoop) -> None:
        self._source, self._scorer, self._off_loop = source, scorer, off_loop

    async def of(self, symbols: Sequence[str], now: datetime) -> Floats:
        """[symbols, features] of catalogue.NEWS; NaN where the source does not answer, and nothing else waits for it."""
        try:
            articles = await self._source.articles(tuple(symbols), now - timedelta(hours=NEWS_HOURS), now)
        except Transient as error:
            log.warning("news_unknown", symbols=len(symbols), error=str(error))
            return no_news(len(symbols))
        latest = articles[-ARTICLES_MAX:]
        scores = await self._off_loop(self._scorer.scores, [article.headline for article in latest])
        scored = [ScoredArticle(article.at, article.symbols, score) for article, score in zip(latest, scores, strict=True)]
        return news_features(scored, symbols, now)
