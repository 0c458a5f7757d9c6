"""Sends whose answer says nothing, by the hundred: the real order protocol on the real store at the simulated broker.

`python -m tests.stateful.ambiguous_outcomes 100000` goes on until so many were seen, in both lives of a used client_order_id, and
ends with 3 where one was lost, doubled, taken for refused, or left in doubt.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.unit.adapters.broker.scripted_market import ScriptedMarket, fault_rates, make_broker
from tests.unit.services.conftest import WRITER, Desk, opened
from tests.unit.services.execution.conftest import Floor, working

from finagent.adapters.broker.simulated.client import BrokerClientPolicy, SimulatedBrokerClient
from finagent.adapters.broker.simulated.transport import InProcessBroker
from finagent.adapters.database.migrate import upgrade
from finagent.domain.orders import BrokerOrder, Leg, OrderState
from finagent.domain.risk import RiskCode, RiskDecision, Verdict
from finagent.services.failpoints import unarmed

FOUND_SOMETHING_WRONG = 3
DECISIONS_A_DAY = 60
SHARES = 1
FILLS, RESTS = "99.90", "104.01"  # USD; the market stands at 100: an order that ended is the one to double
FATES = {"dropped": 0.4, "reply_lost": 0.4, "late": 0.15, "look_up_withheld": 0.3, "cancel_dropped": 0.1}
STEPS = (*range(6, 45), 200, *range(391, 411))  # minutes of the session at which we look


@dataclass
class Tally:
    """What came of it. An orphan is an order at the broker of which we once said that it never came there; `false_rejected` one
    of which we once said that the broker had refused it."""

    decisions: int = 0
    ambiguous: int = 0
    duplicate: int = 0
    orphan: int = 0
    false_rejected: int = 0
    in_doubt: int = 0
    without_outcome: int = 0

    @property
    def wrong(self) -> int:
        return self.duplicate + self.orphan + self.false_rejected + self.in_doubt + self.without_outcome

    def __iadd__(self, other: "Tally") -> "Tally":
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


async def day(folder: Path, decisions: int, seed: int, *, forever: bool) -> Tally:
    """A day of so many entries at a broker that answers one in twenty."""
    upgrade(folder / "finagent.db", WRITER, unarmed)
    terms: dict[str, Any] = {
        "leverage": Decimal(10_000),
        "deduplicates_forever": forever,
        "faults": fault_rates(**FATES, late_minutes_max=5),
    }
    transport = InProcessBroker(make_broker(folder, ScriptedMarket(), seed, account_id="SIM-1", **terms))
    async with opened(folder / "finagent.db") as desk:
        client = SimulatedBrokerClient(desk.clock, transport, BrokerClientPolicy(60, 60, forever))
        broker: Any = client
        async with working(Floor(desk, broker)) as floor:
            await client.advance(desk.clock.now())
            plans = [await approved(desk, number) for number in range(decisions)]
            floor.processor.offer([job for plan in plans for job in await desk.commit(floor.execute(plan))])
            await floor.processor.drain_instant(desk.clock.now())
            for minute in STEPS:
                await _step(desk, floor, client, desk.minute(minute))
            tally = _tally(desk, folder / "broker-simulator.db", decisions)
        await client.close()
    return tally


async def approved(desk: Desk, number: int) -> Any:
    """A plan of a share that the gate let pass; every other one rests at the broker."""
    run = await desk.run(entry=f"number {number}")
    plan = await desk.planned(run, "IBM", SHARES, entry=FILLS if number % 2 else RESTS)
    notional, now = SHARES * plan.entry_limit, desk.clock.now()
    verdict = RiskDecision(
        plan.decision_id, run, 0, Verdict.APPROVED, RiskCode.OK, Decimal(0), Decimal(0), SHARES, notional, (), now
    )
    await desk.commit(verdict)
    return plan


async def _step(desk: Desk, floor: Floor, client: SimulatedBrokerClient, at: datetime) -> None:
    before = desk.clock.now()
    while (due := desk.queue.next_due()) is not None and due < at:  # an instant of its own for what is due in between
        between = max(due, before + timedelta(seconds=1))
        if between >= at:
            break
        desk.clock.set(between)
        await client.advance(between)
        await floor.now(before)
        before = between
    desk.clock.set(at)
    await client.advance(at)
    await floor.now(before)


def _tally(desk: Desk, ledger: Path, decisions: int) -> Tally:
    reads = desk.reads
    entries = [order for order in reads.find(BrokerOrder) if order.leg is Leg.ENTRY]
    with closing(sqlite3.connect(ledger)) as broker:
        rows = broker.execute("SELECT client_order_id FROM ledger_order WHERE parent_broker_order_id IS NULL").fetchall()
    at_broker = Counter(name for (name,) in rows)
    return Tally(
        decisions=decisions,
        ambiguous=desk.told("order_unresolved"),
        duplicate=sum(count - 1 for count in at_broker.values()),
        orphan=len(at_broker.keys() & (_told(desk, "order_never_arrived") | _told(desk, "order_denied"))),
        false_rejected=len(at_broker.keys() & _told(desk, "order_refused")),
        in_doubt=sum(order.state.live or order.state is OrderState.PARKED for order in entries),
        without_outcome=decisions - desk.told("signal_ended"),
    )


def _told(desk: Desk, kind: str) -> set[str]:
    """The orders of which such an event was ever told: what is said later does not unsay it."""
    rows = desk.reads.rows("SELECT body FROM decision_event WHERE kind = ?", (kind,))
    return {json.loads(body)["client_order_id"] for (body,) in rows}


def main(wanted: int) -> int:
    """Days in both lives of an id until enough was in doubt."""
    totals = {forever: Tally() for forever in (True, False)}
    for forever, total in totals.items():
        seed = 0
        while total.ambiguous < wanted / len(totals):
            seed += 1
            with tempfile.TemporaryDirectory() as folder:
                total += asyncio.run(day(Path(folder), DECISIONS_A_DAY, seed, forever=forever))
            sys.stderr.write(f"an id is used {'once' if forever else 'while it is open'}: {total.ambiguous} ambiguous\n")
    named = {("used once" if forever else "used while open"): asdict(total) for forever, total in totals.items()}
    sys.stdout.write(json.dumps(named, indent=2) + "\n")
    return FOUND_SOMETHING_WRONG if any(total.wrong for total in totals.values()) else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
