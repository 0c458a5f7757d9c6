"""The broker's rules, one behaviour a test, request by request."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket, broker_policy, fault_rates, make_broker

from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.policy import FaultRates
from finagent.adapters.broker.simulated.wire import Json, request_to_json
from finagent.domain.bars import BarQuality
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.orders import OrderClass, OrderType, Side, TimeInForce
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.sessions import Session
from finagent.domain.time import to_text

MARKET = OrderRequest(
    client_order_id="a",
    symbol="IBM",
    side=Side.BUY,
    quantity=10,
    type=OrderType.MARKET,
    limit_price=None,
    stop_price=None,
    order_class=OrderClass.SIMPLE,
    time_in_force=TimeInForce.DAY,
)


def limit(price: str, **changes: Any) -> OrderRequest:
    return replace(MARKET, type=OrderType.LIMIT, limit_price=Decimal(price), **changes)


def bracket(price: str, target: str, stop: str, **changes: Any) -> OrderRequest:
    legs = {"take_profit_price": Decimal(target), "stop_loss_price": Decimal(stop)}
    return limit(price, order_class=OrderClass.BRACKET, **legs, **changes)


def oco(target: str, stop: str, **changes: Any) -> OrderRequest:
    order = {"side": Side.SELL, "order_class": OrderClass.OCO, "stop_loss_price": Decimal(stop)}
    return limit(target, **{**order, **changes})


class Desk:
    """A broker at an instant, asked in the fewest words."""

    def __init__(self, folder: Path, market: ScriptedMarket, **terms: Any) -> None:
        self.folder, self.market, self.terms = folder, market, terms
        self.broker: SimulatedBroker = make_broker(folder, market, **terms)
        self.at = SESSIONS[0].opens_at

    def ask(self, method: str, **body: Any) -> Json:
        return self.broker.handle({"method": method, "at": to_text(self.at), **body})

    def to(self, minute: int, session: Session = SESSIONS[0]) -> "Desk":
        return self.to_instant(session.instant_of(minute))

    def to_instant(self, at: datetime) -> "Desk":
        self.at = at
        self.ask("advance")
        return self

    def submit(self, request: OrderRequest) -> Json:
        return self.ask("submit", request=request_to_json(request))

    def sent(self, request: OrderRequest) -> Json:
        answer = self.submit(request)
        assert answer["status"] == 200, answer
        body: Json = answer["body"]
        return body

    def refused(self, request: OrderRequest) -> tuple[int, int]:
        answer = self.submit(request)
        assert answer["status"] >= 400, answer
        self.message = answer["body"]["message"]
        return answer["status"], answer["body"]["code"]

    def order(self, name: str = "a") -> Json:
        body: Json = self.ask("look_up", client_order_id=name)["body"]
        return body

    def legs(self, name: str = "a") -> dict[str, tuple[str, int, int]]:
        return {leg["leg"]: (leg["state"], leg["quantity"], leg["filled_quantity"]) for leg in self.order(name)["legs"]}

    def fills(self) -> list[tuple[int, str, str]]:
        told = self.ask("activity", since=to_text(SESSIONS[0].opens_at), until=to_text(self.at))["body"]["executions"]
        return [(row["quantity"], row["price"], row["at"][11:16]) for row in told]

    def reopened(self) -> "Desk":
        self.broker.close()
        self.broker = make_broker(self.folder, self.market, **self.terms)
        return self


@pytest.fixture
def market() -> ScriptedMarket:
    return ScriptedMarket()


@pytest.fixture
def desk(tmp_path: Path, market: ScriptedMarket) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(minute: int = 1, **terms: Any) -> Desk:
        desks.append(Desk(tmp_path, market, **terms).to(minute))
        return desks[-1]

    yield make
    for made in desks:
        made.broker.close()


# -- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected", "words"),
    [
        (replace(MARKET, quantity=0), (422, 42210000), "qty must be > 0"),
        (replace(MARKET, quantity=-5), (422, 42210000), "qty must be > 0"),
        (replace(MARKET, symbol="NOPE"), (422, 42210000), 'could not find asset "NOPE"'),
        (limit("99.123"), (422, 42210000), "sub-penny"),
        (limit("-1"), (422, 42210000), "must be > 0"),
        (limit("NaN"), (422, 42210000), "must be > 0"),
        (replace(MARKET, limit_price=Decimal(5)), (422, 42210000), "not valid"),
        (limit("99", take_profit_price=Decimal(101)), (422, 42210000), "no legs"),
        (replace(MARKET, side=Side.SELL), (403, 40310000), "requested: 10, available: 0"),
        (limit("100", quantity=2001), (403, 40310000), "insufficient buying power"),
        (bracket("100", "99", "98"), (422, 42210000), "either side"),
        (bracket("100", "101", "100"), (422, 42210000), "either side"),
        (replace(bracket("100", "101", "99"), stop_loss_price=None), (422, 42210000), "require"),
        (oco("101", "99"), (403, 40310000), "insufficient qty"),
        (oco("99", "101"), (422, 42210000), "beyond the market"),
        (oco("101", "99", take_profit_price=Decimal(102)), (422, 42210000), "differs"),
        (replace(oco("101", "99"), stop_loss_price=None), (422, 42210000), "require"),
    ],
)
def test_an_order_that_is_refused_leaves_no_trace_but_its_request(
    desk: Any, request_: OrderRequest, expected: tuple[int, int], words: str
) -> None:
    table = desk()
    assert table.refused(request_) == expected
    assert words in table.message
    assert table.ask("look_up", client_order_id="a")["status"] == 404
    assert table.ask("open_orders")["body"] == []


def test_a_bracket_entry_by_stop_is_a_setting(desk: Any) -> None:
    stop_limit = replace(bracket("101", "105", "95"), type=OrderType.STOP_LIMIT, stop_price=Decimal("100.50"))
    table = desk(stop_entry_brackets=False)
    assert table.refused(stop_limit) == (422, 40010001)
    assert table.message == "bracket orders must be market or limit orders"


def test_buying_power_is_reserved_by_open_orders_and_released(desk: Any) -> None:
    table = desk(leverage=Decimal(1))
    first = table.sent(limit("99", quantity=600))
    assert table.ask("account")["body"]["buying_power"] == "40600"
    assert table.refused(limit("99", quantity=600, client_order_id="b")) == (403, 40310000)
    table.ask("cancel", broker_order_id=first["broker_order_id"])
    table.to(2).sent(limit("99", quantity=600, client_order_id="b"))


def test_a_market_order_reserves_more_than_the_last_price(desk: Any) -> None:
    table = desk(leverage=Decimal(1))
    assert table.refused(replace(MARKET, quantity=962)) == (403, 40310000)
    table.sent(replace(MARKET, quantity=961))
    assert table.ask("account")["body"]["buying_power"] == "56"


def test_before_the_first_bar_the_last_price_is_the_previous_close(desk: Any, market: ScriptedMarket) -> None:
    table = desk(0, leverage=Decimal(1))
    assert table.refused(replace(MARKET, quantity=962)) == (403, 40310000)
    assert market.loaded == []
    table.sent(replace(MARKET, quantity=961))
    assert table.to(1).fills() == [(961, "100", "13:31")]


def test_buying_power_follows_equity_and_leverage(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {3: (100.0, 110.0, 100.0, 110.0, 1e4)}
    table = desk()
    table.sent(replace(MARKET, quantity=500))
    assert table.to(2).ask("account")["body"] == {"account_id": "simulated", "cash": "50000", "buying_power": "150000"}
    assert table.to(3).ask("account")["body"]["buying_power"] == "155000"


def test_shares_promised_to_other_exits_cannot_be_sold_again(desk: Any) -> None:
    table = desk()
    table.sent(MARKET)
    table.to(2).sent(oco("105", "95", quantity=7, client_order_id="b"))
    assert table.refused(replace(MARKET, side=Side.SELL, quantity=4, client_order_id="c")) == (403, 40310000)
    assert "available: 3" in table.message
    table.sent(replace(MARKET, side=Side.SELL, quantity=3, client_order_id="c"))


def test_what_a_live_bracket_bought_belongs_to_its_legs(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {2: (100.0, 100.0, 100.0, 100.0, 6.0), 3: (101.0, 101.0, 101.0, 101.0, 9e3)}
    table = desk()
    first = table.sent(bracket("100", "105", "95"))
    table.to(2)
    assert table.order()["filled_quantity"] == 6
    assert table.refused(oco("105", "95", quantity=6, client_order_id="b")) == (403, 40310000)
    table.ask("cancel", broker_order_id=first["broker_order_id"])
    table.to(3).sent(oco("105", "95", quantity=6, client_order_id="b"))
    assert table.legs() == {"TARGET": ("CANCELLED", 10, 0), "STOP": ("CANCELLED", 10, 0)}


def test_an_order_that_could_meet_our_own_is_a_wash_trade(desk: Any) -> None:
    table = desk()
    table.sent(replace(MARKET, quantity=20))
    table.to(2).sent(limit("101", side=Side.SELL, client_order_id="b"))
    assert table.refused(replace(MARKET, client_order_id="c")) == (403, 40310000)
    assert "wash trade" in table.message
    assert table.refused(limit("101", client_order_id="c")) == (403, 40310000)
    table.sent(limit("100.99", client_order_id="c"))


def test_short_selling_is_a_setting(desk: Any) -> None:
    table = desk(short_selling=True)
    table.sent(replace(MARKET, side=Side.SELL))
    assert table.to(2).ask("positions")["body"] == [["IBM", -10]]
    assert table.refused(replace(MARKET, quantity=11, client_order_id="b")) == (403, 40310000)
    table.sent(replace(MARKET, client_order_id="b"))
    assert table.to(3).ask("positions")["body"] == []


# -- how orders trade --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [BarQuality.HALTED, BarQuality.MISSING, BarQuality.BAD, BarQuality.FILLED])
def test_a_bar_in_which_nothing_traded_trades_nothing(desk: Any, market: ScriptedMarket, quality: BarQuality) -> None:
    market.broken = {("IBM", 2): quality}
    market.script["IBM"] = {3: (100.0, 100.0, 100.0, 100.0, 0.0)}
    table = desk()
    table.sent(MARKET)
    assert table.to(3).fills() == []
    assert table.to(4).fills() == [(10, "100", "13:34")]


def test_a_stop_through_a_halt_fills_where_the_market_reopens(desk: Any, market: ScriptedMarket) -> None:
    market.broken = {("IBM", minute): BarQuality.HALTED for minute in range(4, 9)}
    market.script["IBM"] = {9: (88.0, 89.0, 87.0, 88.5, 1e4)}
    table = desk()
    table.sent(bracket("100", "105", "95"))
    assert table.to(9).fills() == [(10, "100", "13:32"), (10, "88", "13:39")]
    assert table.legs() == {"TARGET": ("CANCELLED", 10, 0), "STOP": ("FILLED", 10, 10)}


def test_one_bar_that_touches_both_is_the_stop(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {4: (100.0, 106.0, 94.0, 100.0, 1e4)}
    table = desk()
    table.sent(bracket("100", "105", "95"))
    assert table.to(4).fills()[1:] == [(10, "95", "13:34")]


def test_orders_of_a_symbol_share_the_volume(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {2: (100.0, 100.0, 100.0, 100.0, 250.0)}
    table = desk(volume_fraction=Decimal("0.1"))
    table.sent(replace(MARKET, quantity=20))
    table.sent(replace(MARKET, quantity=20, client_order_id="b"))
    assert sorted(quantity for quantity, _, _ in table.to(2).fills()) == [5, 20]


def test_a_target_that_fills_in_part_reduces_its_stop(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {4: (105.0, 105.0, 105.0, 105.0, 6.0), 5: (94.0, 94.0, 94.0, 94.0, 9e3)}
    table = desk()
    table.sent(bracket("100", "105", "95"))
    assert table.to(4).legs() == {"TARGET": ("PARTIALLY_FILLED", 10, 6), "STOP": ("ACCEPTED", 4, 0)}
    assert table.to(5).legs() == {"TARGET": ("CANCELLED", 10, 6), "STOP": ("FILLED", 4, 4)}
    assert table.ask("positions")["body"] == []


def test_a_stop_once_elected_sells_on_without_its_target(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {4: (95.0, 95.0, 95.0, 95.0, 6.0), 5: (106.0, 106.0, 106.0, 106.0, 9e3)}
    table = desk()
    table.sent(bracket("100", "105", "95"))
    assert table.to(4).legs() == {"TARGET": ("CANCELLED", 10, 0), "STOP": ("PARTIALLY_FILLED", 10, 6)}
    assert table.reopened().to(5).fills()[1:] == [(6, "95", "13:34"), (4, "106", "13:35")]


def test_an_elected_stop_limit_is_remembered_over_a_restart(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {2: (102.0, 103.0, 102.0, 102.0, 1e4), 3: (100.4, 100.4, 100.4, 100.4, 1e4)}
    table = desk()
    table.sent(replace(limit("100.50"), type=OrderType.STOP_LIMIT, stop_price=Decimal("100.45")))
    assert table.to(2).fills() == []
    assert table.reopened().to(3).fills() == [(10, "100.4", "13:33")]


def test_chance_cuts_fills_short_and_the_rest_follows(desk: Any) -> None:
    table = desk(partial_fill_rate=0.6)
    for number in range(12):
        table.sent(replace(MARKET, quantity=100, client_order_id=f"p{number}"))
    first = table.to(2).fills()
    assert len(first) == 12
    assert 2 <= sum(quantity < 100 for quantity, _, _ in first) <= 11
    assert sum(quantity for quantity, _, _ in table.to(60).fills()) == 1200


def test_a_day_order_ends_with_its_session_and_a_gtc_order_does_not(desk: Any) -> None:
    table = desk()
    table.sent(bracket("90", "105", "80"))
    table.sent(limit("90", time_in_force=TimeInForce.GTC, client_order_id="b"))
    table.to(390)
    assert table.order()["state"] == "EXPIRED"
    assert {state for state, _, _ in table.legs().values()} == {"CANCELLED"}
    table.sent(limit("90", client_order_id="c"))
    table.to_instant(SESSIONS[1].opens_at)
    assert [table.order(name)["state"] for name in "bc"] == ["ACCEPTED", "ACCEPTED"]
    table.to(210, SESSIONS[1])
    assert [table.order(name)["state"] for name in "bc"] == ["ACCEPTED", "EXPIRED"]


def test_a_restart_in_the_middle_of_a_day_forgets_nothing(desk: Any, market: ScriptedMarket) -> None:
    market.script["IBM"] = {6: (105.0, 106.0, 105.0, 106.0, 1e4)}
    table = desk()
    table.sent(bracket("100", "105", "95"))
    assert table.to(4).reopened().to(4).legs() == {"TARGET": ("ACCEPTED", 10, 0), "STOP": ("ACCEPTED", 10, 0)}
    table.to(6)
    assert table.ask("account")["body"]["cash"] == "100050"
    assert table.reopened().ask("account")["body"]["cash"] == "100050"


def test_the_ledger_of_another_account_or_seed_is_refused(desk: Any, tmp_path: Path) -> None:
    table = desk()
    table.broker.close()
    with pytest.raises(BadInput, match="seed 7, not of simulated with seed 8"):
        make_broker(tmp_path, seed=8)
    table.broker = make_broker(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        {"method": "sell_all"},
        {"method": "submit"},
        {"method": "submit", "request": {**request_to_json(MARKET), "side": "HOLD"}},
        {"method": "submit", "request": {**request_to_json(MARKET), "limit_price": "ten"}},
        {"method": "activity", "since": "yesterday"},
        {"method": "account", "at": "noon"},
        {"method": "account", "at": "2008-10-01T13:31:00"},
    ],
)
def test_a_request_that_cannot_be_read_changes_nothing(desk: Any, body: Json) -> None:
    table = desk()
    assert table.broker.handle({"at": to_text(table.at), **body})["status"] == 400
    assert table.ask("open_orders")["body"] == []


def test_a_full_ledger_answers_503_forgets_what_it_could_not_store_and_goes_on(desk: Any) -> None:
    table = desk()
    table.sent(limit("90"))
    connection = table.broker._ledger._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    answers = [table.submit(limit("50", quantity=1, client_order_id=f"f{n}"))["status"] for n in range(60)]
    assert set(answers) == {200, 503}
    connection.execute("PRAGMA max_page_count = 100000")
    assert len(table.ask("open_orders")["body"]) == 1 + answers.count(200)
    table.sent(limit("50", quantity=1, client_order_id=f"f{answers.index(503)}"))


def test_a_market_that_is_away_for_a_moment_answers_503(tmp_path: Path) -> None:
    class Flaky(ScriptedMarket):
        async def session_bars(self, session: Session) -> Any:
            if not self.loaded:
                self.loaded.append(session.date)
                raise Transient("the feed timed out")
            return await super().session_bars(session)

    table = Desk(tmp_path, Flaky()).to(1)
    assert table.submit(MARKET)["status"] == 503
    table.to(1).sent(MARKET)
    table.broker.close()


def test_a_ledger_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"broker-simulator\.db cannot be opened"):
        make_broker(tmp_path / "absent")
    (tmp_path / "broker-simulator.db").mkdir()
    with pytest.raises(Unavailable, match=r"broker-simulator\.db cannot be opened"):
        make_broker(tmp_path)


def test_a_client_that_lost_its_broker_brings_it_up_to_date(desk: Any) -> None:
    """Idle instants are not on the disk; the client's next request says how far it had advanced."""
    table = desk()
    table.sent(limit("90"))
    table.to(30).reopened()
    advanced = to_text(table.at)
    assert table.submit(replace(MARKET, client_order_id="b"))["status"] == 409
    answer = table.ask("submit", advanced=advanced, request=request_to_json(replace(MARKET, client_order_id="b")))
    assert answer["status"] == 200


# -- faults ------------------------------------------------------------------------------------------------------------------


def test_a_dropped_submit_never_was_and_a_look_up_of_its_instant_shares_the_silence(desk: Any) -> None:
    table = desk(faults=fault_rates(dropped=1.0))
    assert table.submit(MARKET) == {"withheld": True}
    assert table.ask("look_up", client_order_id="a") == {"withheld": True}
    assert table.to(2).ask("look_up", client_order_id="a")["status"] == 404
    assert table.fills() == []


def test_a_lost_reply_leaves_an_order(desk: Any) -> None:
    table = desk(faults=fault_rates(reply_lost=1.0))
    assert table.submit(MARKET) == {"withheld": True}
    assert table.ask("look_up", client_order_id="a") == {"withheld": True}
    assert table.to(2).order()["state"] == "FILLED"


def test_a_late_submit_applies_minutes_later_even_over_a_restart(desk: Any) -> None:
    table = desk(faults=fault_rates(late=1.0, late_minutes_max=5))
    for number in range(8):
        assert table.submit(replace(MARKET, client_order_id=f"l{number}")) == {"withheld": True}
    table.to_instant(table.at + timedelta(seconds=1))
    assert {table.ask("look_up", client_order_id=f"l{n}")["status"] for n in range(8)} == {404}
    due = {at for _, _, at in table.reopened().to(20).fills()}
    assert len(due) > 1
    assert due <= {f"13:{minute}" for minute in range(33, 38)}


def test_a_late_submit_whose_id_is_used_by_then_is_dropped(desk: Any, tmp_path: Path) -> None:
    table = desk(faults=fault_rates(late=1.0, late_minutes_max=5))
    table.submit(MARKET)
    table.broker.close()
    table.broker = make_broker(tmp_path)
    table.sent(MARKET)
    assert table.to(20).fills() == [(10, "100", "13:32")]


def test_a_late_day_order_does_not_reach_the_next_day(desk: Any) -> None:
    table = desk(389, faults=fault_rates(late=1.0))
    table.submit(MARKET)
    table.submit(replace(MARKET, time_in_force=TimeInForce.GTC, client_order_id="b"))
    table.to(5, SESSIONS[1])
    assert table.ask("look_up", client_order_id="a")["status"] == 404
    assert table.order("b")["state"] == "FILLED"


def test_the_brokers_whim_is_an_explicit_refusal(desk: Any) -> None:
    table = desk(faults=fault_rates(refused=1.0))
    assert table.refused(MARKET) == (422, 42210000)
    assert table.ask("look_up", client_order_id="a")["status"] == 404


def test_a_cancel_is_dropped_or_answered_by_silence(desk: Any) -> None:
    table = desk(faults=fault_rates(cancel_dropped=1.0))
    name = table.sent(limit("90"))["broker_order_id"]
    assert table.ask("cancel", broker_order_id=name) == {"withheld": True}
    assert table.to(2).order()["state"] == "ACCEPTED"
    table.terms["faults"] = fault_rates(cancel_reply_lost=1.0)
    table.reopened().to(2)
    assert table.ask("cancel", broker_order_id=name) == {"withheld": True}
    assert table.to(3).order()["state"] == "CANCELLED"


def test_a_look_up_is_withheld_by_its_own_chance_in_later_instants(desk: Any) -> None:
    table = desk(faults=fault_rates(look_up_withheld=0.5))
    table.sent(limit("90"))
    assert table.order()["state"] == "ACCEPTED"
    answers = {}
    for minute in range(2, 40):
        answers[minute] = table.to(minute).ask("look_up", client_order_id="a")
        assert table.ask("look_up", client_order_id="a") == answers[minute]
    assert 5 < sum("withheld" in answer for answer in answers.values()) < 33


def test_executions_are_told_twice_and_in_disorder_the_same_way_each_time(desk: Any) -> None:
    table = desk(faults=fault_rates(execution_repeated=0.5, activity_shuffled=1.0), volume_fraction=Decimal("0.0001"))
    table.sent(replace(MARKET, quantity=20))
    told = table.to(30).fills()
    assert table.fills() == told
    assert len(set(told)) == 20 < len(told) < 40
    assert told != sorted(told, key=lambda fill: fill[2])


def test_every_fate_depends_on_seed_method_id_and_instant(tmp_path: Path) -> None:
    """Whatever was asked before, the same request in the same instant meets the same fault."""
    rates = fault_rates(dropped=0.2, reply_lost=0.2, late=0.2, refused=0.2)
    fates = []
    for number, order in enumerate((range(30), reversed(range(30)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        broker = make_broker(folder, faults=rates)
        at = to_text(SESSIONS[0].instant_of(1))
        broker.handle({"method": "advance", "at": at})
        asked = {}
        for n in order:
            request = request_to_json(limit("50", quantity=1, client_order_id=f"n{n}"))
            answer = broker.handle({"method": "submit", "at": at, "request": request})
            asked[n] = answer.get("status", 0)
        broker.close()
        fates.append(asked)
    assert fates[0] == fates[1]
    assert set(fates[0].values()) == {0, 200, 422}


@pytest.mark.parametrize(
    "change",
    [
        {"spread_bps": Decimal(-1)},
        {"volume_fraction": Decimal(0)},
        {"partial_fill_rate": 1.5},
        {"partial_fill_rate": float("nan")},
        {"start_cash_usd": Decimal(0)},
        {"leverage": Decimal("NaN")},
    ],
)
def test_terms_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        broker_policy(**change)


def test_fault_rates_that_make_no_sense_are_refused() -> None:
    for rates in ({"dropped": 0.6, "late": 0.6}, {"dropped": -0.1}, {"late_minutes_max": 0}, {"refused": float("nan")}):
        with pytest.raises(BadInput):
            fault_rates(**rates)
    assert isinstance(fault_rates(dropped=0.5, cancel_dropped=0.6), FaultRates)
