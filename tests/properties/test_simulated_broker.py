"""What holds in the broker's ledger whatever is asked of it."""

import asyncio
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.adapters.broker.scripted_day import ScriptedDay, ledger_rows
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket, fault_rates, make_broker

from finagent.domain.bars import SessionBars
from finagent.domain.time import from_text, to_text

FAULTS = {"dropped": 0.1, "reply_lost": 0.1, "late": 0.1, "late_minutes_max": 5, "refused": 0.05, "cancel_dropped": 0.2}
TERMS: dict[str, Any] = {
    "partial_fill_rate": 0.3,
    "volume_fraction": Decimal("0.05"),
    "commission_usd_per_share": Decimal("0.0035"),
    "faults": fault_rates(**FAULTS),
}
days = st.builds(ScriptedDay, seed=st.integers(0, 10_000), symbols=st.just(("AAPL", "IBM")))
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def played(folder: Path, day: ScriptedDay, **terms: Any) -> dict[str, list[Any]]:
    broker = make_broker(folder, ScriptedMarket(walk=day.seed), **{**TERMS, **terms})
    for at in day.instants():
        day.play(at, broker.handle)
    broker.handle({"method": "advance", "at": to_text(day.session.closes_at)})
    broker.close()
    return ledger_rows(folder)


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    """A fresh folder at each call."""

    def folder() -> Path:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        path.mkdir()
        return path

    return folder


@few
@given(day=days)
def test_quantities_cash_and_groups_add_up(folders: Any, day: ScriptedDay) -> None:
    rows = played(folders(), day)
    orders = {row["broker_order_id"]: row for row in rows["ledger_order"]}
    filled, value, cash = defaultdict[str, int](int), defaultdict[str, Decimal](Decimal), Decimal(100_000)
    position, leaving = defaultdict[str, int](int), defaultdict[str, int](int)
    for row in sorted(rows["ledger_execution"], key=lambda row: str(row["market_time"])):
        order, quantity, price = orders[row["broker_order_id"]], row["quantity"], Decimal(row["price"])
        sign = 1 if row["side"] == "BUY" else -1
        filled[row["broker_order_id"]] += quantity
        value[row["broker_order_id"]] += quantity * price
        cash -= sign * quantity * price + Decimal(row["fee"])
        position[row["symbol"]] += sign * quantity
        assert Decimal(row["fee"]) == quantity * Decimal("0.0035")
        assert from_text(row["market_time"]) > from_text(order["market_time"])
        if order["leg"] in ("STOP", "TARGET"):
            leaving[order["group_id"]] += quantity
    assert Decimal(rows["ledger_account"][0]["cash"]) == cash
    assert all(held >= 0 for held in position.values()), "nobody may sell short"
    for name, order in orders.items():
        assert order["filled_quantity"] == filled[name] <= order["quantity"]
        assert Decimal(order["notional"]) == value[name]
        assert (order["status"] == "FILLED") == (filled[name] == order["quantity"])
    for group, quantity in leaving.items():
        first = orders[group]
        entered = first["filled_quantity"] if first["order_class"] == "BRACKET" else first["quantity"]
        assert quantity <= entered
        ends = [row["status"] for row in orders.values() if row["group_id"] == group and row["leg"] != "ENTRY"]
        assert ends.count("FILLED") <= 1


@few
@given(day=days)
def test_every_fill_lies_in_a_bar_and_within_its_limit(folders: Any, day: ScriptedDay) -> None:
    rows = played(folders(), day)
    bars: SessionBars = asyncio.run(ScriptedMarket(walk=day.seed).session_bars(SESSIONS[0]))
    orders = {row["broker_order_id"]: row for row in rows["ledger_order"]}
    traded = defaultdict[tuple[str, str], int](int)
    for row in rows["ledger_execution"]:
        column, minute = bars.symbols.index(row["symbol"]), SESSIONS[0].minute_of(from_text(row["market_time"])) - 1
        price, limit = Decimal(row["price"]), orders[row["broker_order_id"]]["limit_price"]
        assert Decimal(repr(float(bars.low[minute, column]))) <= price <= Decimal(repr(float(bars.high[minute, column])))
        assert price == price.quantize(Decimal("0.01"))
        if limit is not None:
            assert price <= Decimal(limit) if row["side"] == "BUY" else price >= Decimal(limit)
        traded[row["symbol"], row["market_time"]] += row["quantity"]
        assert traded[row["symbol"], row["market_time"]] <= bars.volume[minute, column] * 0.05


@few
@given(day=days, kill=st.integers(1, 60), after=st.booleans())
def test_a_broker_killed_at_any_commit_and_an_instant_repeated_end_in_the_same_ledger(
    folders: Any, day: ScriptedDay, kill: int, after: bool
) -> None:
    reference = played(folders(), day)
    folder, label, passages = folders(), f"broker_commit.{'after' if after else 'before'}", 0

    class Killed(BaseException):
        pass

    def failpoints(passed: str) -> None:
        nonlocal passages
        passages += passed == label
        if passages == kill and passed == label:
            raise Killed

    def opened() -> Any:
        return make_broker(folder, ScriptedMarket(walk=day.seed), failpoints=failpoints, **TERMS)

    broker = opened()
    for at in day.instants():
        try:
            day.play(at, broker.handle)
        except Killed:
            broker.close()
            broker = opened()
            day.play(at, broker.handle, again=True)
    broker.handle({"method": "advance", "at": to_text(day.session.closes_at)})
    broker.close()

    assert ledger_rows(folder) == reference


@few
@given(day=days, stride=st.integers(2, 60))
def test_one_long_step_is_many_short_ones(folders: Any, day: ScriptedDay, stride: int) -> None:
    """An agent that was away finds the market where it would be, each effect at its own instant."""
    quiet = day.minutes + 10
    ends = []
    for step in (1, stride):
        folder = folders()
        broker = make_broker(folder, ScriptedMarket(walk=day.seed), **TERMS)
        for at in day.instants():
            day.play(at, broker.handle)
        for minute in [*range(quiet, quiet + 60, step), quiet + 60]:
            broker.handle({"method": "advance", "at": to_text(day.session.instant_of(minute))})
        broker.close()
        ends.append(ledger_rows(folder))

    assert ends[0] == ends[1]
