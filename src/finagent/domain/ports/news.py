"""What was written about a symbol."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Article:
    """A headline as its source wrote it; nothing here is believed or traded on. `at` is when it was published."""

    article_id: str
    at: datetime
    headline: str
    source: str
    symbols: tuple[str, ...]
    url: str


class NewsPort(Protocol):
    """Articles by symbol and time. May take long; runs off the event loop."""

    async def articles(self, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        """Those about any of the symbols published in [since, until], oldest first, each once. Transient without a usable
        answer: that is not the same as no news."""
        ...
