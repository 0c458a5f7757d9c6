"""The broker, and a simulated one's market, with a failpoint on both sides of every call: the one seam to the outside."""

from dataclasses import dataclass
from datetime import datetime

from finagent.domain.ports.order_execution import (
    Activity,
    BrokerAccount,
    BrokerPosition,
    LookUp,
    Objection,
    OrderExecutionPort,
    OrderReport,
    OrderRequest,
    SendResult,
    SimulatedVenue,
    no_objection,
)
from finagent.services.failpoints import Failpoints, around


@dataclass(frozen=True, slots=True)
class BrokerCalls:
    """OrderExecutionPort, as the broker's own."""

    broker: OrderExecutionPort
    failpoints: Failpoints

    @property
    def deduplicates_forever(self) -> bool:
        return self.broker.deduplicates_forever

    @property
    def stop_entry_brackets(self) -> bool:
        return self.broker.stop_entry_brackets

    async def barrier(self) -> None:
        with around(self.failpoints, "barrier"):
            await self.broker.barrier()

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        with around(self.failpoints, "send"):
            return await self.broker.submit(request, objection)

    async def look_up(self, client_order_id: str) -> LookUp:
        with around(self.failpoints, "look_up"):
            return await self.broker.look_up(client_order_id)

    async def cancel(self, broker_order_id: str) -> bool:
        with around(self.failpoints, "cancel"):
            return await self.broker.cancel(broker_order_id)

    async def activity(self, since: datetime, until: datetime) -> Activity:
        with around(self.failpoints, "activity"):
            return await self.broker.activity(since, until)

    async def open_orders(self) -> tuple[OrderReport, ...]:
        with around(self.failpoints, "open_orders"):
            return await self.broker.open_orders()

    async def positions(self) -> tuple[BrokerPosition, ...]:
        with around(self.failpoints, "positions"):
            return await self.broker.positions()

    async def account(self) -> BrokerAccount:
        with around(self.failpoints, "account"):
            return await self.broker.account()


@dataclass(frozen=True, slots=True)
class VenueCalls:
    """SimulatedVenue, as the venue's own."""

    venue: SimulatedVenue
    failpoints: Failpoints

    async def advance(self, at: datetime) -> None:
        with around(self.failpoints, "advance"):
            await self.venue.advance(at)
