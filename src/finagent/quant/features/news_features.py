"""What is written about symbols, as numbers: how much, how lately, and in which tone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.catalogue import NEWS, NEWS_HOURS, SENTIMENT_HALF_LIFE_HOURS

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ScoredArticle:
    """`score` in [-1, 1] of an article about `symbols`."""

    at: datetime
    symbols: tuple[str, ...]
    score: float


def news_features(articles: Sequence[ScoredArticle], symbols: Sequence[str], now: datetime) -> Floats:
    """[symbols, features] of catalogue.NEWS; articles that are older than it looks back, or not out yet, do not count."""
    place = {symbol: number for number, symbol in enumerate(symbols)}
    values = np.zeros((len(symbols), len(NEWS)))
    count, age, mean, decayed = values.T
    age.fill(NEWS_HOURS)
    for article in articles:
        hours = (now - article.at) / HOUR
        if not 0.0 <= hours <= NEWS_HOURS:
            continue
        for row in {place[symbol] for symbol in article.symbols if symbol in place}:
            count[row] += 1.0
            age[row] = min(age[row], hours)
            mean[row] += article.score
            decayed[row] += article.score * 0.5 ** (hours / SENTIMENT_HALF_LIFE_HOURS)
    mean /= np.maximum(count, 1.0)
    return values


def no_news(symbols: int) -> Floats:
    """[symbols, features]: nobody knows what is written."""
    return np.full((symbols, len(NEWS)), np.nan)
