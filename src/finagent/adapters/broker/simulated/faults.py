"""What goes wrong with a request, drawn from (seed, method, id, market instant) and nothing else.

The same request in the same instant meets the same fault in any process, however often it is repeated. Nothing is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeVar

from finagent.adapters.broker.simulated.policy import FaultRates
from finagent.domain.chance import uniform
from finagent.domain.time import to_text

T = TypeVar("T")


class Fault(Enum):
    """The fate of a request; the name is what the ledger keeps."""

    NONE = ""
    DROPPED = "DROPPED"  # never reached the broker, no answer
    REPLY_LOST = "REPLY_LOST"  # applied, no answer
    LATE = "LATE"  # no answer, applied minutes later
    REFUSED = "REFUSED"  # the broker says no for reasons of its own
    WITHHELD = "WITHHELD"  # a look-up without an answer

    @property
    def silent(self) -> bool:
        """The client gets no answer."""
        return self not in (Fault.NONE, Fault.REFUSED)


@dataclass(frozen=True, slots=True)
class FaultDraw:
    """Draws fates; see the module for the key."""

    rates: FaultRates
    seed: int

    def submit(self, client_order_id: str, at: datetime) -> Fault:
        rates = self.rates
        return self._draw(
            "submit",
            client_order_id,
            at,
            (
                (Fault.DROPPED, rates.dropped),
                (Fault.REPLY_LOST, rates.reply_lost),
                (Fault.LATE, rates.late),
                (Fault.REFUSED, rates.refused),
            ),
        )

    def look_up(self, client_order_id: str, at: datetime) -> Fault:
        return self._draw("look_up", client_order_id, at, ((Fault.WITHHELD, self.rates.look_up_withheld),))

    def cancel(self, broker_order_id: str, at: datetime) -> Fault:
        rates = self.rates
        pairs = ((Fault.DROPPED, rates.cancel_dropped), (Fault.REPLY_LOST, rates.cancel_reply_lost))
        return self._draw("cancel", broker_order_id, at, pairs)

    def late_minutes(self, client_order_id: str, at: datetime) -> int:
        """By how many minutes a late request is late."""
        return 1 + int(uniform(self.seed, "late", client_order_id, to_text(at)) * self.rates.late_minutes_max)

    def disorder(self, items: Sequence[T], ids: Sequence[str], until: datetime) -> list[T]:
        """The executions of an answer, some told twice and in another order."""
        key = to_text(until)
        told = list(zip(ids, items, strict=True))
        if self.rates.execution_repeated:
            told += [pair for pair in told if uniform(self.seed, "repeated", pair[0], key) < self.rates.execution_repeated]
        if self.rates.activity_shuffled and uniform(self.seed, "shuffled", key) < self.rates.activity_shuffled:
            places = [(uniform(self.seed, "place", name, n, key), n) for n, (name, _) in enumerate(told)]
            told = [told[n] for _, n in sorted(places)]
        return [item for _, item in told]

    def _draw(self, method: str, name: str, at: datetime, kinds: tuple[tuple[Fault, float], ...]) -> Fault:
        draw = uniform(self.seed, method, name, to_text(at))
        for fault, rate in kinds:
            draw -= rate
            if draw < 0:
                return fault
        return Fault.NONE
