"""A start takes the last instant for finished and goes on with the one after it."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from finagent.bootstrap import Application, Wraps, build_application
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import MarketClock
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, reads=lambda reads: cast(Reads, LateStart(reads)))
    return build_application(settings, **overrides, wraps=wrapped)


class LateStart:
    """Until the clock moves, it says that it is a minute later than the process before left it."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        clock = reads.get(MarketClock, 1)
        began = clock is not None and reads.count(AccountSnapshot) > 0
        self._left_at: datetime | None = clock.at if clock is not None and began else None

    def get(self, record_type: type[Any], *key: Any) -> Any:
        record = self._reads.get(record_type, *key)
        if isinstance(record, MarketClock) and record.at == self._left_at:
            return replace(record, at=record.at + timedelta(minutes=1))
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reads, name)
