"""The inbox of the broker's stream: what it tells is kept as a job before anything else, until REST has told it too.

REST is the truth, and what the stream tells makes us look there at once. The job looks back somewhat later: an update that no
look confirms, or that cannot be read, is parked for a person; the others and the stream go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent, Transient
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import TradeUpdate
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.time import from_text, to_text

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TradeUpdateInbox:
    """`looked_at`: the instant of the last look at the broker's activity that had an answer. An update is compared with what
    looks have found `check_seconds` after it came, then at growing intervals; after `patience_seconds` a look that does not
    confirm it contradicts it."""

    reads: Reads
    queue: JobQueue
    clock: Clock
    looked_at: Callable[[], datetime]
    check_seconds: float
    patience_seconds: float

    async def receive(self, update: TradeUpdate) -> None:
        """Commit an update; told twice, it is kept once. Never raises for want of a place: the look that follows tells it all."""
        order = _ours(update.client_order_id, update.broker_order_id, self.reads)
        trace = trace_id(order.decision_id) if order is not None else ""
        try:
            await self.queue.submit(Effect(next=(update_job(update, self.clock.now(), self.check_seconds, trace),)))
        except Transient as error:
            log.warning("trade_update_not_kept", update_id=update.update_id, error=str(error))

    async def check(self, job: Job, reads: Reads) -> Effect:
        """Done when a look has told what the update told, or that the order is somebody else's."""
        told = job.payload
        if told["text"]:
            raise Permanent(f"a trade update that cannot be read: {told['text']}")
        now, received_at = self.clock.now(), from_text(told["received_at"])
        looked = self.looked_at() > received_at
        order = _ours(told["client_order_id"], told["broker_order_id"], reads)
        if (order is None and looked) or (order is not None and _knows(order, told["state"], told["filled_quantity"])):
            return Effect()
        waited = now - received_at
        if looked and waited > timedelta(seconds=self.patience_seconds):
            raise Permanent(
                f"the broker's stream told {told['event']} of order {told['broker_order_id']} ({told['filled_quantity']} shares "
                f"filled), and {waited.total_seconds():.0f} s later its REST interface does not: run `finagent reconcile`"
            )
        at = now + max(waited, timedelta(seconds=self.check_seconds))
        return Effect(next=(Next(job.type, f"trade_update:{told['update_id']}:{to_text(at)}", told, at, trace_id=job.trace_id),))


def update_job(update: TradeUpdate, received_at: datetime, check_seconds: float, trace: str = "") -> Next:
    """The job that keeps an update; publishing it twice does nothing."""
    payload = {
        "update_id": update.update_id,
        "event": update.event,
        "broker_order_id": update.broker_order_id,
        "client_order_id": update.client_order_id,
        "state": update.state.value if update.state else "",
        "filled_quantity": update.filled_quantity,
        "received_at": to_text(received_at),
        "text": update.text,
    }
    at = received_at + timedelta(seconds=check_seconds)
    return Next("trade_update", f"trade_update:{update.update_id}", payload, at, trace_id=trace)


def _ours(client_order_id: str, broker_order_id: str, reads: Reads) -> BrokerOrder | None:
    """Our order by our id, or by the broker's: a leg has none of ours there."""
    own = reads.get(BrokerOrder, client_order_id)
    if own is not None or not broker_order_id:
        return own
    found = reads.find(BrokerOrder, broker_order_id=broker_order_id)
    return found[0] if found else None


def _knows(order: BrokerOrder, state: str, filled_quantity: int) -> bool:
    """What we know of the order is what was told, or came after it."""
    if order.outcome is not SendOutcome.CONFIRMED or order.filled_quantity < filled_quantity:
        return False
    return not order.state.live or OrderState(state).live
