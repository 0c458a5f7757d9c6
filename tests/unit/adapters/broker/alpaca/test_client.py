"""OrderExecutionPort at Alpaca: what its answers say, in pages, in any zone, of foreign orders, and of which account."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.adapters.broker.alpaca.scripted_alpaca import (
    NOW,
    POLICY,
    Answer,
    Desk,
    a_request,
    account,
    an_order,
    scripted_alpaca,
)

from finagent.adapters.broker.alpaca.client import ACTIVITIES_PER_PAGE, ORDERS_PER_PAGE
from finagent.adapters.broker.alpaca.orders import order_data
from finagent.domain.errors import BadInput, InvariantViolated, Transient
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, SendOutcome, Side
from finagent.domain.ports.order_execution import BrokerPosition, Found

POST, ORDERS, FILLS, LOOK_UP = (
    "POST /v2/orders",
    "GET /v2/orders",
    "GET /v2/account/activities/FILL",
    "GET /v2/orders:by_client_order_id",
)
LEGS = [
    an_order(id="t", client_order_id="x1", side="sell", limit_price="110", status="new"),
    an_order(id="s", client_order_id="x2", side="sell", type="stop", limit_price=None, stop_price="95", status="held"),
]


def a_fill(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"2026::{number}",
        "activity_type": "FILL",
        "transaction_time": "2026-11-24T14:59:30.5Z",
        "type": "partial_fill",
        "price": "100.2",
        "qty": "4",
        "side": "sell_short",
        "symbol": "IBM",
        "order_id": "o",
        **fields,
    }


async def test_an_order_reads_as_our_report_with_its_legs() -> None:
    filled = an_order(order_class="bracket", status="new", filled_qty="4", filled_avg_price="100.21", legs=LEGS)
    async with scripted_alpaca() as desk:
        desk.script.says(POST, filled)
        report = (await desk.client.submit(a_request())).report
    assert report is not None
    assert (report.state, report.filled_quantity, report.average_price) == (OrderState.PARTIALLY_FILLED, 4, Decimal("100.21"))
    assert report.updated_at == datetime(2026, 11, 24, 14, 59, 0, 123456, UTC)
    assert [(leg.leg, leg.parent_broker_order_id, leg.state, leg.side) for leg in report.legs] == [
        (Leg.TARGET, report.broker_order_id, OrderState.ACCEPTED, Side.SELL),
        (Leg.STOP, report.broker_order_id, OrderState.HELD, Side.SELL),
    ]


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-inf", "", "ten", True, None, ["1"]])
async def test_an_amount_that_is_none_is_no_account(amount: Any) -> None:
    async with scripted_alpaca() as desk:
        desk.script.says("GET /v2/account", account(cash=amount))
        with pytest.raises(Transient, match="cash"):
            await desk.client.account()


async def test_only_the_account_that_the_settings_name_is_traded() -> None:
    async with scripted_alpaca(pinned=False) as desk:
        sent = await desk.client.submit(a_request())
        assert (sent.outcome, desk.script.asked) == (SendOutcome.DENIED, [])
        desk.script.says("GET /v2/account", account(account_number="PA2"))
        with pytest.raises(BadInput, match=r"PA2.*PA1"):
            await desk.client.account()
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.DENIED
        desk.script.says("GET /v2/account", account())
        told = await desk.client.account()
        assert (told.account_id, told.cash, told.buying_power) == ("PA1", Decimal("100000.5"), Decimal(400002))
        desk.script.says("GET /v2/account", account(account_number="PA2"))
        with pytest.raises(InvariantViolated, match="PA2"):
            await desk.client.account()


@pytest.mark.parametrize(("name", "live"), [("PA1", True), ("123456789", False)])
def test_the_number_of_a_paper_account_begins_with_pa(name: str, live: bool) -> None:
    with pytest.raises(BadInput, match=name):
        replace(POLICY, account_id=name, live=live)


async def test_a_no_counts_when_no_request_can_arrive_any_more() -> None:
    async with scripted_alpaca() as desk:
        with pytest.raises(Transient, match="15:05"):
            await desk.client.barrier()
        desk.time += timedelta(seconds=POLICY.settle_seconds)
        await desk.client.barrier()
        desk.script.says(POST, an_order(), Answer(504, ""))
        await desk.client.submit(a_request())
        await desk.client.barrier()
        await desk.client.submit(a_request())
        with pytest.raises(Transient):
            await desk.client.barrier()
        desk.time += timedelta(seconds=POLICY.settle_seconds)
        await desk.client.barrier()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(404, {"code": 40410000, "message": "order not found for fa-1"}), Found.NO),
        (Answer(404, "<html>not here</html>"), Found.UNKNOWN),
        (Answer(403, {"message": "forbidden."}), Found.UNKNOWN),
        (Answer(500, ""), Found.UNKNOWN),
        (Answer(200, an_order(status="?")), Found.UNKNOWN),
        (Answer(200, an_order(client_order_id="fa-2")), Found.UNKNOWN),
        (Answer(200, an_order()), Found.YES),
    ],
)
async def test_only_the_brokers_own_404_says_that_it_does_not_know_an_order(answer: Answer, found: Found) -> None:
    async with scripted_alpaca() as desk:
        desk.script.says(LOOK_UP, answer)
        assert (await desk.client.look_up("fa-1")).found is found


async def a_day_of_orders(desk: Desk, count: int) -> list[str]:
    orders = [
        an_order(id=f"o{n:04}", submitted_at=(NOW + timedelta(microseconds=n // 3)).isoformat().replace("+00:00", "Z"))
        for n in range(count)
    ]
    pages = [orders[:ORDERS_PER_PAGE], orders[ORDERS_PER_PAGE - 30 : 2 * ORDERS_PER_PAGE - 30]]
    desk.script.says(ORDERS, *pages, [], [])
    return [order["id"] for order in orders]


async def test_open_orders_are_read_to_the_last_page() -> None:
    async with scripted_alpaca() as desk:
        names = await a_day_of_orders(desk, ORDERS_PER_PAGE + 100)
        assert [report.broker_order_id for report in await desk.client.open_orders()] == names
        first, second, *_ = [asked.query for asked in desk.script.requests(ORDERS)]
        assert (first["status"], first["nested"], first["limit"]) == ("all", "true", "500")
        last = NOW + timedelta(microseconds=(ORDERS_PER_PAGE - 1) // 3 - 1)
        assert second["after"] == last.isoformat().replace("+00:00", "Z"), "the instant of the last one again"


async def test_a_page_that_failed_fails_the_read() -> None:
    async with scripted_alpaca(read_attempts=1) as desk:
        await a_day_of_orders(desk, ORDERS_PER_PAGE + 100)
        desk.script.answers[ORDERS][1] = Answer(500, "")
        with pytest.raises(Transient):
            await desk.client.open_orders()


async def test_legs_are_open_orders_of_their_own_and_know_their_parent_after_it_filled() -> None:
    parent = an_order(id="p", order_class="bracket", status="filled", filled_qty="10", filled_avg_price="100", legs=LEGS)
    async with scripted_alpaca() as desk:
        desk.script.says(ORDERS, [parent], [*LEGS, an_order(id="foreign", qty="0.5", type="trailing_stop")])
        found = {report.broker_order_id: report for report in await desk.client.open_orders()}
    assert {name: (r.parent_broker_order_id, r.leg) for name, r in found.items()} == {
        "t": ("p", Leg.TARGET),
        "s": ("p", Leg.STOP),
        "foreign": (None, None),
    }
    assert found["foreign"].quantity == 1, "a part of a share cannot be overlooked"


async def test_an_open_order_that_cannot_be_read_fails_the_read() -> None:
    async with scripted_alpaca(read_attempts=1) as desk:
        desk.script.says(ORDERS, [an_order(), an_order(id="odd", status="?")])
        with pytest.raises(Transient, match="odd"):
            await desk.client.open_orders()


async def test_activity_has_every_page_of_executions_and_what_changed_in_the_span() -> None:
    fills = [a_fill(number) for number in range(ACTIVITIES_PER_PAGE + 1)]
    outside = a_fill(999, transaction_time="2026-11-24T10:00:00.1-05:00")
    old = an_order(id="old", updated_at="2026-11-24T14:00:00Z", legs=[an_order(id="leg", updated_at="2026-11-24T14:59:59Z")])
    async with scripted_alpaca() as desk:
        desk.script.says(FILLS, fills[:ACTIVITIES_PER_PAGE], [fills[-1], outside])
        desk.script.says(ORDERS, [old, an_order(id="new"), an_order(id="odd", status="?")])
        told = await desk.client.activity(NOW - timedelta(minutes=1), NOW)
        first, second = [asked.query for asked in desk.script.requests(FILLS)]
    assert [execution.execution_id for execution in told.executions] == [fill["id"] for fill in fills]
    assert {(e.side, e.quantity, e.price, e.at) for e in told.executions} == {
        (Side.SELL, 4, Decimal("100.2"), datetime(2026, 11, 24, 14, 59, 30, 500000, UTC))
    }
    assert [report.broker_order_id for report in told.orders] == ["old", "leg", "new"], "a leg comes with its parent"
    assert ("page_token" in first, second["page_token"]) == (False, fills[ACTIVITIES_PER_PAGE - 1]["id"])


async def test_positions_are_whole_shares_and_anything_else_is_named() -> None:
    rows = [
        {"symbol": "IBM", "qty": "10", "side": "long"},
        {"symbol": "AAPL", "qty": "-3", "side": "short"},
        {"symbol": "TSLA", "qty": "11.5", "side": "long"},
    ]
    async with scripted_alpaca() as desk:
        desk.script.says("GET /v2/positions", rows)
        assert await desk.client.positions() == (
            BrokerPosition("IBM", 10),
            BrokerPosition("AAPL", -3),
            BrokerPosition("TSLA", 11),
            BrokerPosition("TSLA (a part of a share, 0.5)", 1),
        )


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"type": OrderType.MARKET, "limit_price": None}, {"type": "market"}),
        ({"type": OrderType.STOP, "limit_price": None, "stop_price": Decimal(90)}, {"type": "stop", "stop_price": 90.0}),
        (
            {"order_class": OrderClass.BRACKET, "take_profit_price": Decimal("110.1"), "stop_loss_price": Decimal("95.2")},
            {"order_class": "bracket", "take_profit": {"limit_price": 110.1}, "stop_loss": {"stop_price": 95.2}},
        ),
        (
            {"order_class": OrderClass.OCO, "side": Side.SELL, "stop_loss_price": Decimal("95.2")},
            {"order_class": "oco", "take_profit": {"limit_price": 100.25}, "stop_loss": {"stop_price": 95.2}, "side": "sell"},
        ),
    ],
)
def test_each_kind_of_order_is_the_sdks_request(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    told = order_data(a_request(**fields)).to_request_fields()
    assert {name: told[name] for name in sent} == sent
    assert (told["client_order_id"], told["extended_hours"], told["time_in_force"]) == ("fa-1", False, "day")


@pytest.mark.parametrize(
    "fields",
    [
        {"order_class": OrderClass.BRACKET, "take_profit_price": Decimal(110)},
        {"client_order_id": ""},
        {"client_order_id": "x" * 129},
        {"limit_price": Decimal("NaN")},
        {"type": OrderType.MARKET},
    ],
)
async def test_a_request_that_nobody_could_take_never_leaves(fields: dict[str, Any]) -> None:
    async with scripted_alpaca() as desk:
        assert (await desk.client.submit(a_request(**fields))).outcome is SendOutcome.DENIED
        assert desk.script.asked == []
