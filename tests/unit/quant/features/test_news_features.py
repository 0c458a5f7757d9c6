"""What is written, as numbers, by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from finagent.quant.features.catalogue import NEWS
from finagent.quant.features.news_features import ScoredArticle, news_features, no_news

NOW = datetime(2024, 1, 2, 14, 35, tzinfo=UTC)
NAMES = [row[0] for row in NEWS]


def article(hours: float, score: float, *symbols: str) -> ScoredArticle:
    return ScoredArticle(NOW - timedelta(hours=hours), symbols, score)


def told(symbol: str, *articles: ScoredArticle) -> dict[str, float]:
    values = news_features(articles, ("IBM", "AAPL"), NOW)
    return dict(zip(NAMES, values[("IBM", "AAPL").index(symbol)].tolist(), strict=True))


def test_two_articles_by_hand() -> None:
    found = told("IBM", article(8.0, -0.5, "IBM"), article(4.0, 0.9, "IBM", "AAPL"))
    assert found["news_count_24h"] == 2.0
    assert found["news_age"] == 4.0
    assert found["news_sentiment_24h"] == pytest.approx(0.2)
    assert found["news_sentiment_decay_4h"] == pytest.approx(0.9 / 2 - 0.5 / 4)


def test_what_is_about_others_or_too_old_or_not_out_yet_does_not_count() -> None:
    nothing = told("IBM")
    assert nothing == dict(zip(NAMES, (0.0, 24.0, 0.0, 0.0), strict=True))
    assert told("IBM", article(1.0, 1.0, "AAPL"), article(24.1, 1.0, "IBM"), article(-0.1, 1.0, "IBM")) == nothing


def test_a_symbol_that_an_article_names_twice_counts_once() -> None:
    assert told("IBM", article(1.0, 1.0, "IBM", "IBM"))["news_count_24h"] == 1.0


def test_no_news_are_not_the_same_as_unknown_ones() -> None:
    assert np.isnan(no_news(2)).all()
    assert np.isfinite(news_features([], ("IBM",), NOW)).all()
