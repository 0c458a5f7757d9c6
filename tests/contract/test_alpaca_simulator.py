"""The simulated Alpaca keeps Alpaca's contract: its official OpenAPI, its own SDK, and what is known of its behaviour."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from alpaca.common.enums import Sort
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetOrderByIdRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    StopLossRequest,
    TakeProfitRequest,
)
from tests.contract.alpaca_api import KEYS, Alpaca, OpenApi, alpaca
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket

BRACKET = {"order_class": "bracket", "take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "95"}}


@pytest.fixture(scope="session")
def trading_api(market_data_folder: Path) -> OpenApi:
    file = market_data_folder / "alpaca-openapi" / "trading-api.json"
    if not file.is_file():
        pytest.skip(f"Alpaca's official OpenAPI is not there: {file}")
    return OpenApi(file)


def sdk(venue: Alpaca) -> TradingClient:
    key, secret = KEYS.values()
    return TradingClient(key, secret, paper=True, url_override=venue.url)


async def off_loop(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


async def test_every_trading_answer_is_what_the_official_openapi_says(tmp_path: Path, trading_api: OpenApi) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        bought = await venue.post(**BRACKET, client_order_id="one")
        trading_api.judge("POST", "/v2/orders", 200, bought.json())
        await venue.to(2)
        order_id = bought.json()["id"]
        for path, template in (
            ("/v2/orders", None),
            (f"/v2/orders/{order_id}", "/v2/orders/{order_id}"),
            ("/v2/orders:by_client_order_id", None),
            ("/v2/positions", None),
            ("/v2/positions/AAPL", "/v2/positions/{symbol_or_asset_id}"),
            ("/v2/account", None),
            ("/v2/account/configurations", None),
            ("/v2/account/activities", None),
            ("/v2/clock", None),
            ("/v2/calendar", None),
            ("/v2/assets", None),
            ("/v2/assets/IBM", "/v2/assets/{symbol_or_asset_id}"),
        ):
            query = {"status": "all", "nested": "true", "client_order_id": "one", "start": "2008-10-01", "end": "2008-12-31"}
            trading_api.judge("GET", template or path, 200, await venue.get(path, **query))
        cancelled = await venue.http.delete("/v2/orders")
        assert len(cancelled.json()) == 2
        trading_api.judge("DELETE", "/v2/orders", 207, cancelled.json())
        await venue.to(3)
        closed = await venue.http.delete("/v2/positions")
        assert [item["status"] for item in closed.json()] == [200]
        trading_api.judge("DELETE", "/v2/positions", 207, closed.json())


async def test_the_official_sdk_trades_a_bracket_to_its_target(tmp_path: Path) -> None:
    market = ScriptedMarket()
    market.script["AAPL"] = {3: (111, 112, 111, 111, 1e4)}
    async with alpaca(tmp_path, market) as venue:
        await venue.to(1)
        client = sdk(venue)
        request = LimitOrderRequest(
            symbol="AAPL",
            qty=10,
            side=OrderSide.BUY,
            time_in_force=TimeInForce.DAY,
            limit_price=101,
            order_class=OrderClass.BRACKET,
            take_profit=TakeProfitRequest(limit_price=110),
            stop_loss=StopLossRequest(stop_price=95),
            client_order_id="entry",
        )
        placed = await off_loop(lambda: client.submit_order(request))
        assert (placed.status, [leg.status for leg in placed.legs]) == (OrderStatus.NEW, [OrderStatus.HELD] * 2)
        await venue.to(2)
        entry = await off_loop(lambda: client.get_order_by_client_id("entry"))
        assert (entry.status, entry.filled_qty, entry.filled_avg_price, entry.legs) == (OrderStatus.FILLED, "10", "100", None)
        nested = await off_loop(lambda: client.get_order_by_id(entry.id, GetOrderByIdRequest(nested=True)))
        assert [(leg.type.value, leg.status) for leg in nested.legs] == [
            ("limit", OrderStatus.NEW),
            ("stop", OrderStatus.HELD),
        ]
        position = await off_loop(lambda: client.get_open_position("AAPL"))
        assert (position.qty, position.qty_available, position.avg_entry_price) == ("10", "0", "100")
        await venue.to(3)
        ended = await off_loop(lambda: client.get_order_by_id(entry.id, GetOrderByIdRequest(nested=True)))
        assert [leg.status for leg in ended.legs] == [OrderStatus.FILLED, OrderStatus.CANCELED]
        assert ended.legs[0].filled_at == SESSIONS[0].instant_of(3)
        assert await off_loop(client.get_all_positions) == []


async def test_the_official_sdk_reads_account_clock_calendar_and_assets(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        client = sdk(venue)
        account = await off_loop(client.get_account)
        assert (account.cash, account.equity, account.buying_power) == ("100000", "100000", "200000")
        clock = await off_loop(client.get_clock)
        assert (clock.is_open, clock.timestamp.utcoffset().total_seconds()) == (True, -4 * 3600)
        assert clock.timestamp == SESSIONS[0].instant_of(1)
        assets = await off_loop(client.get_all_assets)
        assert [asset.symbol for asset in assets] == ["AAPL", "IBM", "MSFT"]
        assert isinstance(assets[0].id, UUID)


async def test_half_days_close_early_in_clock_and_calendar(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        days = await venue.get("/v2/calendar", start="2008-11-26", end="2008-12-01")
    assert [(day["date"], day["open"], day["close"], day["session_close"]) for day in days] == [
        ("2008-11-26", "09:30", "16:00", "2000"),
        ("2008-11-28", "09:30", "13:00", "1700"),
        ("2008-12-01", "09:30", "16:00", "2000"),
    ]


async def test_point_1_keys_are_asked_for_and_wrong_ones_are_told_apart(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        async with httpx.AsyncClient(base_url=venue.url) as nobody:
            without = await nobody.get("/v2/account")
        wrong = await venue.http.get("/v2/account", headers={"APCA-API-SECRET-KEY": "other"})
    assert (without.status_code, without.json()) == (401, {"message": "unauthorized."})
    assert (wrong.status_code, wrong.json()) == (403, {"message": "forbidden."})


async def test_point_2_money_is_text_and_times_have_nine_decimals(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        order = (await venue.post(type="limit", limit_price=100.5)).json()
        clock = await venue.get("/v2/clock")
    assert (order["limit_price"], order["qty"], order["filled_avg_price"], order["notional"]) == ("100.5", "10", None, None)
    assert order["submitted_at"] == "2008-10-01T13:31:00.000001000Z"
    assert clock["timestamp"] == "2008-10-01T09:31:00.000000000-04:00"
    assert "subtag" in order


@pytest.mark.parametrize("forever", [True, False])
async def test_point_3_a_client_order_id_is_unique_for_ever_or_among_open_orders(tmp_path: Path, forever: bool) -> None:
    async with alpaca(tmp_path, deduplicates_forever=forever) as venue:
        await venue.to(1)
        assert (await venue.http.get("/v2/orders:by_client_order_id?client_order_id=one")).status_code == 404
        first = (await venue.post(client_order_id="one", type="limit", limit_price=50)).json()
        again = await venue.post(client_order_id="one", type="limit", limit_price=50)
        assert (again.status_code, again.json()) == (422, {"code": 40010001, "message": "client_order_id must be unique"})
        assert (await venue.http.delete(f"/v2/orders/{first['id']}")).status_code == 204
        await venue.to(2)
        reused = await venue.post(client_order_id="one", type="limit", limit_price=50)
        assert reused.status_code == (422 if forever else 200)
        assert len((await venue.post(client_order_id=None)).json()["client_order_id"]) == 36
        assert (await venue.post(client_order_id="x" * 129)).status_code == 422


async def test_point_4_open_orders_reserve_buying_power_and_shares(tmp_path: Path) -> None:
    async with alpaca(tmp_path, short_selling=False) as venue:
        await venue.to(1)
        await venue.post(type="limit", limit_price="90", qty="1000")
        assert (await venue.get("/v2/account"))["buying_power"] == "110000"
        beyond = await venue.post(symbol="IBM", type="limit", limit_price="100", qty="1101")
        assert (beyond.status_code, beyond.json()["code"]) == (403, 40310000)
        assert beyond.json()["message"] == "insufficient buying power"
        assert (beyond.json()["buying_power"], beyond.json()["cost_basis"]) == ("110000", "110100")
        await venue.post(symbol="MSFT", qty="70")
        await venue.to(2)
        await venue.post(symbol="MSFT", qty="70", side="sell", type="limit", limit_price="120")
        held = await venue.post(symbol="MSFT", qty="70", side="sell")
    assert (held.status_code, held.json()) == (
        403,
        {
            "code": 40310000,
            "message": "insufficient qty available for order (requested: 70, available: 0)",
            "available": "0",
            "existing_qty": "70",
            "held_for_orders": "70",
            "symbol": "MSFT",
        },
    )


@pytest.mark.parametrize(
    ("order", "status", "code", "message"),
    [
        ({"type": "limit", "limit_price": "290.123"}, 422, 42210000, "invalid limit_price 290.123. sub-penny increment"),
        ({"qty": "1.5", **BRACKET}, 422, 42210000, "fractional orders must be simple orders"),
        ({"qty": "1.5", "time_in_force": "gtc"}, 422, 42210000, "fractional orders must be DAY orders"),
        ({"qty": None, "notional": "100"}, 403, 40310000, "is not fractionable"),
        ({"extended_hours": True}, 422, 40010001, 'only type="limit" is allowed for extended hours orders'),
        ({"symbol": "NOPE"}, 422, 42210000, 'could not find asset "NOPE"'),
        ({"qty": "0"}, 422, 42210000, "qty must be > 0"),
        ({"side": "hold"}, 422, 40010001, "invalid side"),
        ({"qty": "NaN"}, 422, 40010001, "not finite"),
    ],
)
async def test_point_5_orders_that_nobody_can_take_are_refused_by_code(
    tmp_path: Path, order: dict[str, Any], status: int, code: int, message: str
) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        answer = await venue.post(**order)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert message in answer.json()["message"]


async def test_point_7_a_group_is_cancelled_as_one_and_a_filled_entry_cannot_be(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        entry = (await venue.post(**BRACKET)).json()
        await venue.to(2)
        refused = await venue.http.delete(f"/v2/orders/{entry['id']}")
        assert (refused.status_code, refused.json()["code"]) == (422, 42210000)
        assert refused.json()["message"] == 'order is already in "filled" state'
        assert (await venue.http.delete(f"/v2/orders/{entry['legs'][0]['id']}")).status_code == 204
        under_way = await venue.get(f"/v2/orders/{entry['id']}", nested="true")
        assert [leg["status"] for leg in under_way["legs"]] == ["pending_cancel"] * 2
        await venue.to(3)
        ended = await venue.get(f"/v2/orders/{entry['id']}", nested="true")
        assert [leg["status"] for leg in ended["legs"]] == ["canceled"] * 2


async def test_point_7_both_legs_may_fill(tmp_path: Path) -> None:
    market = ScriptedMarket()
    market.script["AAPL"] = {4: (100, 112, 100, 111, 1e4)}
    async with alpaca(tmp_path, market, double_fill_rate=1.0, short_selling=True) as venue:
        await venue.to(1)
        entry = (await venue.post(**BRACKET)).json()
        await venue.to(4)
        ended = await venue.get(f"/v2/orders/{entry['id']}", nested="true")
        assert [leg["status"] for leg in ended["legs"]] == ["filled", "filled"]
        assert (await venue.get("/v2/positions/AAPL"))["qty"] == "-10"


async def test_point_8_a_multi_status_tells_half_a_success(tmp_path: Path) -> None:
    async with alpaca(tmp_path, judged=False) as venue:  # the official file knows no item that failed; the SDK does
        await venue.to(1)
        await venue.post()
        await venue.post(symbol="IBM", **BRACKET)
        await venue.to(2)
        answer = await venue.http.delete("/v2/positions", params={"cancel_orders": "True"})
        assert answer.status_code == 207
        assert [(item["symbol"], item["status"]) for item in answer.json()] == [("AAPL", 200), ("IBM", 403)]
        await venue.to(3)
        assert [p["symbol"] for p in await venue.get("/v2/positions")] == ["IBM"]
        assert (await venue.http.delete("/v2/positions/IBM")).status_code == 200
        await venue.to(4)
        assert await venue.get("/v2/positions") == []


async def test_point_9_a_market_order_after_the_close_waits_for_the_next_day(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.at(SESSIONS[0].closes_at)
        assert (await venue.get("/v2/clock"))["is_open"] is False
        order = (await venue.post()).json()
        assert order["status"] == "accepted"
        await venue.at(SESSIONS[1].opens_at)
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "new"
        await venue.to(1, SESSIONS[1])
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "filled"


async def test_point_11_orders_are_paged_by_time_even_within_one_instant(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        for number in range(7):
            await venue.post(client_order_id=f"o{number}", type="limit", limit_price="50")
        client = sdk(venue)

        def pages() -> list[str]:
            seen: list[str] = []
            after = SESSIONS[0].opens_at
            while True:
                asked = GetOrdersRequest(status=QueryOrderStatus.ALL, limit=3, after=after, direction=Sort.ASC)
                page = [order for order in client.get_orders(asked) if isinstance(order, Order)]
                if not page:
                    return seen
                seen += [order.client_order_id for order in page]
                after = page[-1].submitted_at

        seen = await off_loop(pages)
        assert seen == [f"o{number}" for number in range(7)]
        assert (await venue.http.get("/v2/orders", params={"limit": 501})).status_code == 422


async def test_fills_are_paged_by_token(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        for symbol in ("AAPL", "IBM", "MSFT"):
            await venue.post(symbol=symbol)
        await venue.to(2)
        first = await venue.get("/v2/account/activities/FILL", page_size=2, direction="asc")
        rest = await venue.get("/v2/account/activities/FILL", page_size=2, direction="asc", page_token=first[-1]["id"])
        assert sorted(fill["symbol"] for fill in first + rest) == ["AAPL", "IBM", "MSFT"]
        assert {(fill["type"], fill["cum_qty"], fill["leaves_qty"]) for fill in first} == {("fill", "10", "0")}
        await off_loop(lambda: sdk(venue).close_position("AAPL", ClosePositionRequest(qty="4")))
        market = MarketOrderRequest(symbol="AAPL", qty=1, side=OrderSide.SELL, time_in_force=TimeInForce.DAY)
        await off_loop(lambda: sdk(venue).submit_order(market))
        await venue.to(3)
        assert (await venue.get("/v2/positions/AAPL"))["qty"] == "5"


async def test_point_7_a_replaced_order_is_another_order(tmp_path: Path, trading_api: OpenApi) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        old = (await venue.post(client_order_id="old", type="limit", limit_price="50")).json()
        answer = await venue.http.patch(
            f"/v2/orders/{old['id']}", json={"limit_price": "101", "qty": "7", "client_order_id": "new"}
        )
        new = answer.json()
        trading_api.judge("PATCH", "/v2/orders/{order_id}", 200, new)
        assert (new["replaces"], new["status"], new["qty"], new["limit_price"]) == (old["id"], "new", "7", "101")
        was = await venue.get(f"/v2/orders/{old['id']}")
        assert (was["status"], was["replaced_by"], was["canceled_at"]) == ("replaced", new["id"], None)
        assert (await venue.http.patch(f"/v2/orders/{old['id']}", json={"qty": "8"})).status_code == 422
        await venue.to(2)
        assert (await venue.get("/v2/positions/AAPL"))["qty"] == "7"


async def test_point_7_a_leg_is_replaced_within_its_group(tmp_path: Path) -> None:
    market = ScriptedMarket()
    market.script["AAPL"] = {4: (100, 106, 100, 106, 1e4)}
    async with alpaca(tmp_path, market) as venue:
        await venue.to(1)
        entry = (await venue.post(**BRACKET)).json()
        assert (await venue.http.patch(f"/v2/orders/{entry['id']}", json={"qty": "8"})).status_code == 422
        await venue.to(2)
        target = entry["legs"][0]["id"]
        moved = (await venue.http.patch(f"/v2/orders/{target}", json={"limit_price": "105"})).json()
        await venue.to(4)
        nested = await venue.get(f"/v2/orders/{entry['id']}", nested="true")
        assert {leg["id"]: leg["status"] for leg in nested["legs"]} == {moved["id"]: "filled", entry["legs"][1]["id"]: "canceled"}
        assert await venue.get("/v2/positions") == []


async def test_point_4_a_small_account_makes_three_day_trades_and_no_fourth(tmp_path: Path) -> None:
    async with alpaca(tmp_path, start_cash_usd=Decimal(20_000)) as venue:
        minute = 1
        for _ in range(4):
            await venue.to(minute)
            bought = await venue.post(qty="1")
            assert bought.status_code == 200
            minute += 1
            await venue.to(minute)
            sold = await venue.post(qty="1", side="sell")
            minute += 1
        assert (sold.status_code, sold.json()["code"]) == (403, 40310100)
        assert (await venue.get("/v2/account"))["daytrade_count"] == 3
        await venue.to(1, SESSIONS[1])
        assert (await venue.post(qty="1", side="sell")).status_code == 200  # what was opened yesterday may go
        assert (await venue.post(symbol="IBM", **BRACKET)).status_code == 403


async def test_point_4_an_order_on_the_other_side_of_an_open_one_is_refused(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await venue.post(qty="5")
        await venue.to(2)
        await venue.post(qty="5", side="sell", type="stop", stop_price="90")
        wash = await venue.post(qty="5")
    assert (wash.status_code, wash.json()["code"]) == (403, 40310000)
    assert wash.json()["message"] == "potential wash trade detected. use complex orders"


async def test_point_7_what_a_replaced_order_has_filled_counts_for_the_new_one(tmp_path: Path) -> None:
    market = ScriptedMarket()
    market.script["AAPL"] = {2: (100, 100, 100, 100, 4)}
    async with alpaca(tmp_path, market) as venue:
        await venue.to(1)
        old = (await venue.post(type="limit", limit_price="100")).json()
        await venue.to(2)
        assert (await venue.get(f"/v2/orders/{old['id']}"))["filled_qty"] == "4"
        too_few = await venue.http.patch(f"/v2/orders/{old['id']}", json={"qty": "4"})
        assert (too_few.status_code, too_few.json()["code"]) == (422, 42210000)
        assert (await venue.http.patch(f"/v2/orders/{old['id']}", json={"qty": "9"})).json()["qty"] == "5"
        await venue.to(3)
        assert (await venue.get("/v2/positions/AAPL"))["qty"] == "9"
