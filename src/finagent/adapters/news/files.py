"""NewsPort over files: symbol (or several, by commas), timestamp, headline [, known_at, source, url]. Imports pandas."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from finagent.adapters.market_data.bar_files import instants, read_table
from finagent.domain.errors import BadInput
from finagent.domain.identity import digest
from finagent.domain.ports.news import HEADLINE_LENGTH_MAX, Article

KNOWN_AT = "known_at"


class FileNews:
    """A row that tells a headline anew, later known, is the article as it reads from then on."""

    def __init__(self, paths: Sequence[Path]) -> None:
        found = [article for path in paths for article in _read(path)]
        self._articles = sorted(found, key=lambda article: (article.at, article.article_id, article.known_at))
        self._at = [article.at for article in self._articles]

    async def articles(self, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        wanted = set(symbols)
        first, last = bisect_left(self._at, since), bisect_right(self._at, until)
        known = [each for each in self._articles[first:last] if each.known_at <= until and wanted & set(each.symbols)]
        return tuple({article.article_id: article for article in known}.values())


def _read(path: Path) -> list[Article]:
    raw = read_table(path).reset_index(drop=True)
    raw["symbol"] = raw["symbol"].fillna("").astype(str)
    at = instants(raw, "timestamp", path.name)
    known = instants(raw, KNOWN_AT, path.name) if KNOWN_AT in raw.columns else at
    early = known < at
    if early.any():
        row = raw[early].iloc[0]
        raise BadInput(
            f"{path.name}: {KNOWN_AT}: {int(early.sum())} headlines are known before they were published, first of "
            f"{row['symbol']} at {row['timestamp']}"
        )
    rows = zip(raw["symbol"], at, known, _texts(raw, "headline"), _texts(raw, "source"), _texts(raw, "url"), strict=True)
    found = []
    for symbol, published, since, headline, source, url in rows:
        symbols = tuple(filter(None, (each.strip() for each in symbol.split(","))))
        name = digest("article", symbol, published.isoformat(), source, url, length=16)
        article = Article(
            name, published.to_pydatetime(), since.to_pydatetime(), headline[:HEADLINE_LENGTH_MAX], source, symbols, url
        )
        found.append(article)
    return found


def _texts(raw: pd.DataFrame, name: str) -> list[str]:
    return [str(value) for value in raw[name].fillna("")] if name in raw.columns else [""] * len(raw)
