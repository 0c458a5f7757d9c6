"""What was written about a symbol."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

TEXT_LENGTH_MAX = 500  # characters of a headline that are kept


def legible(text: str) -> str:
    """What may be shown of a text from outside: no control characters, no marks that turn it round, and not all of a long one."""
    return "".join(each for each in text[: 4 * TEXT_LENGTH_MAX] if each.isprintable())[:TEXT_LENGTH_MAX]


@dataclass(frozen=True, slots=True)
class Article:
    """A headline as its source wrote it; nothing here is believed or traded on but the number that a scorer makes of it. `at` is
    when it was published, `known_at` since when it reads so: later, where it was revised."""

    article_id: str
    at: datetime
    known_at: datetime
    headline: str
    source: str
    symbols: tuple[str, ...]
    url: str


class NewsPort(Protocol):
    """Articles by symbol and time. May take long; runs off the event loop."""

    async def articles(self, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        """Those about any of the symbols published in [since, until] that read so by then, oldest first, each once. Transient
        without a usable answer: that is not the same as no news."""
        ...


class SentimentScorer(Protocol):
    """What a headline says of the companies in it. Its formula is part of the features made of it: see the catalogue."""

    def scores(self, headlines: Sequence[str]) -> Sequence[float]:
        """One number in [-1, 1] each, whatever the text; 0 where it says nothing. May take long; runs off the event loop."""
        ...
