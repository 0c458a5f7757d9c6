"""NewsPort over files: symbol (or several, by commas), timestamp, headline [, known_at, source, url]. Imports pandas."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from finagent.adapters.market_data.bar_files import KNOWN_AT, instants, known_since, read_table
from finagent.domain.identity import digest
from finagent.domain.ports.news import Article, legible


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
    raw["timestamp"] = at
    known = known_since(raw, path.name).fillna(at) if KNOWN_AT in raw.columns else at
    of_one_time: Counter[tuple[object, ...]] = Counter()  # rows of one place and one time are articles of their own
    rows = zip(raw["symbol"], at, known, _texts(raw, "headline"), _texts(raw, "source"), _texts(raw, "url"), strict=True)
    found = []
    for symbol, published, since, headline, source, url in rows:
        symbols = tuple(filter(None, (each.strip() for each in symbol.split(","))))
        place = (symbol, published, source, url, since)
        name = digest("article", symbol, published.isoformat(), source, url, of_one_time[place], length=16)
        of_one_time[place] += 1
        times = published.to_pydatetime(), since.to_pydatetime()
        found.append(Article(name, *times, legible(headline), legible(source), symbols, legible(url)))
    return found


def _texts(raw: pd.DataFrame, name: str) -> list[str]:
    return [str(value) for value in raw[name].fillna("")] if name in raw.columns else [""] * len(raw)
