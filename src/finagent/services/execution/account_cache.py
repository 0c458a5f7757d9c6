"""What the broker says the account holds, for whoever looks at it often: read again when it is old, and after every fill."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finagent.domain.effect import Effect
from finagent.domain.orders import Fill
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import BrokerAccount, BrokerPosition, OrderExecutionPort


@dataclass(frozen=True, slots=True)
class BrokerHoldings:
    """Account and positions, read from the broker from `read_at` on."""

    account: BrokerAccount
    positions: tuple[BrokerPosition, ...]
    read_at: datetime


class AccountCache:
    """For people and metrics alone: reconciliation and exits ask the broker itself."""

    def __init__(self, broker: OrderExecutionPort, clock: Clock, seconds_max: float) -> None:
        self._broker, self._clock, self._age_max = broker, clock, timedelta(seconds=seconds_max)
        self._known: BrokerHoldings | None = None
        self._drops = 0
        self._asking = asyncio.Lock()

    async def read(self) -> BrokerHoldings:
        """At most `seconds_max` old and of after the last fill; those who ask together ask the broker once. Transient without an
        answer: what was known before is no answer."""
        async with self._asking:
            if self._known is not None and self._clock.now() - self._known.read_at <= self._age_max:
                return self._known
            drops, now = self._drops, self._clock.now()
            holdings = BrokerHoldings(await self._broker.account(), await self._broker.positions(), now)
            self._known = holdings if drops == self._drops else None
            return holdings

    def committed(self, effects: Sequence[Effect]) -> None:
        """A fill changes what the account holds, and what is being read just now may be of before it."""
        if self._known is None and not self._asking.locked():
            return  # nobody looks
        if any(isinstance(record, Fill) for effect in effects for record in effect.records):
            self._known = None
            self._drops += 1
