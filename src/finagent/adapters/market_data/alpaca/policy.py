"""The terms on which Alpaca's market data are read. Nothing here needs its SDK."""

from dataclasses import dataclass

from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.domain.errors import BadInput


@dataclass(frozen=True, slots=True)
class AlpacaMarketPolicy:
    """`feed` is that of minutes, live and past, since only like volumes can be compared; `history_feed` that of whole days.
    A request names at most `symbols_per_request`. A stream without a bar for `reconnect_seconds` of a session is opened anew."""

    feed: str
    history_feed: str
    stream_url: str
    symbols: tuple[str, ...]
    history: HistoryPolicy
    symbols_per_request: int
    reconnect_seconds: float

    def __post_init__(self) -> None:
        if not self.symbols:
            raise BadInput("market_data.symbols is empty: at Alpaca it names the universe, such as [AAPL, MSFT]")
        if len(set(self.symbols)) != len(self.symbols):
            raise BadInput("market_data.symbols: one comes twice")
