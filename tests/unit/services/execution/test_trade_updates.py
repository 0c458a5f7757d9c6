"""F-43: what the broker's stream tells is kept until REST has told it too, and parked where it does not."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from finagent.adapters.broker.alpaca.trade_updates import trade_update
from finagent.domain.errors import Permanent, Transient
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Job
from finagent.domain.orders import BrokerOrder, OrderState
from finagent.domain.ports.order_execution import TradeUpdate
from finagent.services.execution.trade_updates import TradeUpdateInbox

CHECK_SECONDS, PATIENCE_SECONDS = 15, 900


@dataclass
class Box:
    """An inbox on a floor, and when its owner last looked at the broker."""

    desk: Any
    inbox: TradeUpdateInbox
    looked_at: datetime
    claimed: list[Job] = field(default_factory=list)

    def look(self) -> None:
        self.looked_at = self.desk.clock.now() + timedelta(microseconds=1)

    async def check(self) -> list[datetime]:
        """Run the oldest job that waits as the processor does; when those come that it publishes."""
        if not self.claimed:
            self.desk.clock.set(datetime.fromisoformat(self.desk.waiting("trade_update")[0][2]))
            due = await self.desk.queue.claim(self.desk.clock.now(), 100)
            self.claimed = [job for job in due if job.type == "trade_update"]
        job = self.claimed.pop(0)
        try:
            effect = await self.inbox.check(job, self.desk.reads)
        except Permanent as error:
            await self.desk.queue.fail(job, str(error), None)
            raise
        await self.desk.queue.submit(effect, job)
        return [next_.run_at for next_ in effect.next if next_.run_at is not None]


@pytest.fixture
def box(desk: Any) -> Box:
    box = Box(desk, None, desk.clock.now())  # type: ignore[arg-type]  # each needs the other
    box.inbox = TradeUpdateInbox(desk.reads, desk.queue, desk.clock, lambda: box.looked_at, CHECK_SECONDS, PATIENCE_SECONDS)
    return box


async def entered(desk: Any, floor: Any, broker: Any, shares: int) -> str:
    """An entry of which the broker has filled so many shares, which nobody has looked at."""
    name: str = await floor.bracket(await desk.approved())
    if shares:
        broker.trade(broker.named(name), shares, "104.02")
    return name


def fill(name: str, shares: int, state: OrderState = OrderState.PARTIALLY_FILLED) -> TradeUpdate:
    return TradeUpdate(f"{name} {shares} {state}", "partial_fill", "b-0", name, state, shares)


async def test_an_update_is_kept_once_however_often_it_is_told(desk: Any, box: Box) -> None:
    for _ in range(3):
        await box.inbox.receive(fill("fa-1", 10))

    assert [status for _, status, _ in desk.waiting("trade_update")] == ["SCHEDULED"]


async def test_what_a_look_has_told_is_done(desk: Any, floor: Any, broker: Any, box: Box) -> None:
    name = await entered(desk, floor, broker, 40)
    await box.inbox.receive(fill(name, 40))
    await floor.now()

    assert await box.check() == []
    assert desk.waiting("trade_update") == []


async def test_an_older_update_than_what_is_known_is_done(desk: Any, floor: Any, broker: Any, box: Box) -> None:
    name = await entered(desk, floor, broker, 100)
    await floor.now()
    for told in (fill(name, 0, OrderState.ACCEPTED), fill(name, 30), fill(name, 100, OrderState.FILLED)):
        await box.inbox.receive(told)

    assert [await box.check() for _ in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    ("shares", "state"), [(50, OrderState.PARTIALLY_FILLED), (40, OrderState.CANCELLED)], ids=["fill", "end"]
)
async def test_what_no_look_confirms_is_looked_at_again_and_parked_in_the_end(
    desk: Any, floor: Any, broker: Any, box: Box, shares: int, state: OrderState
) -> None:
    name = await entered(desk, floor, broker, 40)
    await floor.now()
    await box.inbox.receive(fill(name, shares, state))
    began, waits = desk.clock.now(), list[datetime]()
    for _ in range(6):
        box.look()
        waits += await box.check()
    assert [(at - began).total_seconds() for at in waits] == [30, 60, 120, 240, 480, 960]
    box.look()
    with pytest.raises(Permanent, match=f"{shares} shares filled.*finagent reconcile"):
        await box.check()

    assert [status for _, status, _ in desk.waiting("trade_update")] == ["PARKED"]


async def test_while_the_broker_is_silent_nothing_is_parked(desk: Any, floor: Any, broker: Any, box: Box) -> None:
    name = await entered(desk, floor, broker, 0)
    await box.inbox.receive(fill(name, 50))
    while desk.clock.now() < desk.minute(300):
        assert len(await box.check()) == 1

    broker.trade(broker.named(name), 50, "104.02")
    await floor.now()
    assert await box.check() == []


async def test_somebody_elses_order_is_left_to_the_look_that_names_it(desk: Any, box: Box) -> None:
    await box.inbox.receive(fill("somebody's", 10))
    assert len(await box.check()) == 1, "nobody has looked yet"
    box.look()
    assert await box.check() == []


async def test_a_leg_is_known_by_the_brokers_name(desk: Any, floor: Any, broker: Any, box: Box) -> None:
    name = await entered(desk, floor, broker, 100)
    await floor.now()
    target = TradeUpdate("leg", "fill", "b-0-TARGET", "the broker's own", OrderState.FILLED, 100)
    await box.inbox.receive(target)
    assert len(await box.check()) == 1, "not known to be filled"
    broker.trade("b-0-TARGET", 100, "108.03")
    await floor.now()
    assert await box.check() == []
    traces = desk.reads.rows("SELECT DISTINCT trace_id FROM job_queue WHERE type = 'trade_update'")
    assert traces == [(trace_id(desk.reads.get(BrokerOrder, name).decision_id),)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("text", "event is None"),
        ({"event": "fill"}, "id is None"),
        ({"event": "fill", "order": {"id": "b-0", "type": "limit", "filled_qty": "NaN"}}, "not a finite amount"),
        ({"event": "fill", "order": {"id": "b-0", "type": "limit", "status": "unheard_of"}}, "filled_qty is None"),
    ],
)
async def test_a_message_that_cannot_be_read_is_parked_with_its_text_and_the_next_goes_on(
    desk: Any, floor: Any, broker: Any, box: Box, data: Any, why: str
) -> None:
    name = await entered(desk, floor, broker, 0)
    await box.inbox.receive(trade_update(data))
    await box.inbox.receive(fill(name, 0, OrderState.ACCEPTED))

    with pytest.raises(Permanent, match=why):
        await box.check()
    parked = desk.reads.rows("SELECT last_error FROM job_queue WHERE type = 'trade_update' AND status = 'PARKED'")
    assert [json.dumps(data, sort_keys=True) in error for (error,) in parked] == [True]
    (_, _, running) = desk.reads.rows("SELECT type, status, payload FROM job_queue WHERE type = 'trade_update'")[1]
    assert json.loads(running)["client_order_id"] == name


async def test_a_store_that_takes_nothing_costs_the_message_and_not_the_stream(
    desk: Any, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_effect: Any) -> None:
        raise Transient("the disk is full")

    monkeypatch.setattr(desk.queue, "submit", full)
    await box.inbox.receive(fill("fa-1", 10))
