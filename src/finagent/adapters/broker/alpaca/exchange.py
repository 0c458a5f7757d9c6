"""What Alpaca says of the exchange: its clock, its sessions and the assets that can be traded. Its calendar is in exchange time
without a zone; the SDK's own models would give naive times."""

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from alpaca.trading.client import TradingClient
from alpaca.trading.enums import AssetClass, AssetStatus
from alpaca.trading.requests import GetAssetsRequest, GetCalendarRequest

from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.broker.alpaca.wire import AlpacaAccount, account, instant, rows, text
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session
from finagent.domain.time import EXCHANGE_ZONE


@dataclass(frozen=True, slots=True)
class ExchangeClock:
    """The broker's clock: `at` against ours is the skew."""

    at: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime


@dataclass(frozen=True, slots=True)
class Asset:
    """A symbol and what may be done with it; `shortable` only where it is also easy to borrow, as Alpaca demands."""

    symbol: str
    exchange: str
    tradable: bool
    shortable: bool


class AlpacaExchange:
    """Reads; each raises Transient when there is no usable answer."""

    def __init__(self, rest: AlpacaRest) -> None:
        self._rest = rest

    async def clock(self) -> ExchangeClock:
        return await self._rest.read(TradingClient.get_clock, _clock)

    async def account(self) -> AlpacaAccount:
        """The account of the keys, and what it may not do."""
        return await self._rest.read(TradingClient.get_account, account)

    async def sessions(self, first: date, last: date) -> tuple[Session, ...]:
        """Sessions from `first` to `last`, the unscheduled closures among them that no library knows yet."""
        span = GetCalendarRequest(start=first, end=last)
        return await self._rest.read(lambda sdk: sdk.get_calendar(span), lambda body: tuple(_session(row) for row in rows(body)))

    async def assets(self) -> dict[str, Asset]:
        """Active US equities by symbol."""
        wanted = GetAssetsRequest(status=AssetStatus.ACTIVE, asset_class=AssetClass.US_EQUITY)
        return await self._rest.read(
            lambda sdk: sdk.get_all_assets(wanted), lambda body: {asset.symbol: asset for asset in map(_asset, rows(body))}
        )


def _clock(body: Any) -> ExchangeClock:
    at, opens, closes = (instant(text(body, name)) for name in ("timestamp", "next_open", "next_close"))
    return ExchangeClock(at, _flag(body, "is_open"), opens, closes)


def _session(body: Any) -> Session:
    try:
        day = date.fromisoformat(text(body, "date"))
        opens, closes = (datetime.combine(day, time.fromisoformat(text(body, name)), EXCHANGE_ZONE) for name in ("open", "close"))
        return Session(day, instant(opens.isoformat()), instant(closes.isoformat()))
    except (ValueError, BadInput) as error:
        raise Unreadable(f"a session of the calendar: {error}") from error


def _asset(body: Any) -> Asset:
    shortable = _flag(body, "shortable") and _flag(body, "easy_to_borrow")
    return Asset(text(body, "symbol"), text(body, "exchange"), _flag(body, "tradable"), shortable)


def _flag(body: Any, name: str) -> bool:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, bool):
        raise Unreadable(f"{name} is {value!r}: neither true nor false")
    return value
