"""Alpaca's bars, quotes and corporate actions as ours. Numbers are numbers there, times RFC 3339 text or msgpack timestamps."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.adapters.broker.alpaca.wire import amount, instant, rows, text
from finagent.adapters.market_data.alpaca.pages import next_token

SPLITS = ("forward_splits", "reverse_splits")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a symbol that starts at `at`; USD and shares. Whether it can be true is judged where it is kept."""

    symbol: str
    at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask of a symbol, USD and round lots."""

    symbol: str
    at: datetime
    bid: float
    bid_size: float
    ask: float
    ask_size: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last trade of a symbol, USD, and its last quote."""

    symbol: str
    at: datetime
    price: float
    quote: Quote | None


@dataclass(frozen=True, slots=True)
class SplitAction:
    """`value` new shares per old one from the open of `ex_date` on."""

    symbol: str
    ex_date: date
    value: float


def page_of_bars(body: Any) -> tuple[list[Bar], str | None]:
    """The bars of a page and the token of the next one. Raises Unreadable for what is none."""
    told = body.get("bars") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        raise Unreadable("an answer without bars")
    return [bar(symbol, row) for symbol, bars in told.items() for row in rows(bars)], next_token(body)


def bar(symbol: str, row: Any) -> Bar:
    """A bar of REST or of the stream. What is no number in it is NaN, which makes it a bad bar rather than none."""
    at = moment(row)
    return Bar(symbol, at, *(_number(row.get(name)) for name in ("o", "h", "l", "c", "v")))


def quote(row: Any) -> Quote:
    """A quote of the stream, which names its symbol."""
    return _quote(text(row, "S"), row)


def snapshots(body: Any) -> dict[str, Snapshot]:
    """The last trade and quote by symbol; a symbol that never traded has neither and is left out."""
    if not isinstance(body, dict):
        raise Unreadable("an answer without snapshots")
    told = {symbol: row for symbol, row in body.items() if isinstance(row, dict) and row.get("latestTrade")}
    return {symbol: _snapshot(symbol, row) for symbol, row in told.items()}


def _snapshot(symbol: str, row: Any) -> Snapshot:
    trade, told = row["latestTrade"], row.get("latestQuote")
    return Snapshot(symbol, moment(trade), float(amount(trade, "p")), _quote(symbol, told) if told else None)


def _quote(symbol: str, row: Any) -> Quote:
    numbers = [float(amount(row, name)) for name in ("bp", "bs", "ap", "as")]
    return Quote(symbol, moment(row), *numbers)


def page_of_splits(body: Any) -> tuple[list[SplitAction], str | None]:
    """The splits of a page of corporate actions and the token of the next one."""
    told = body.get("corporate_actions") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        raise Unreadable("an answer without corporate actions")
    return [split for kind in SPLITS for split in _splits(told.get(kind) or [])], next_token(body)


def _splits(told: Any) -> Iterator[SplitAction]:
    for row in rows(told):
        new, old = float(amount(row, "new_rate")), float(amount(row, "old_rate"))
        if new <= 0 or old <= 0:
            raise Unreadable(f"a split of {new} for {old}")
        try:
            day = date.fromisoformat(text(row, "ex_date"))
        except ValueError as error:
            raise Unreadable(f"ex_date is {row.get('ex_date')!r}: not a date") from error
        yield SplitAction(text(row, "symbol"), day, new / old)


def _number(told: Any) -> float:
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else float("nan")


def moment(row: Any) -> datetime:
    """The time of a message: text over REST, a timestamp in msgpack."""
    at = row.get("t") if isinstance(row, dict) else None
    if at is not None and hasattr(at, "to_datetime"):
        return datetime.fromtimestamp(int(at.seconds), UTC).replace(microsecond=int(at.nanoseconds) // 1000)
    return instant(text(row, "t"))
