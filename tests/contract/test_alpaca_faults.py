"""What goes wrong between Alpaca and its client, each fault with its truth: point 14 and the points of the streams."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from alpaca.trading.stream import TradingStream
from tests.contract.alpaca_api import KEYS, Alpaca
from tests.contract.alpaca_api import alpaca as sound_alpaca
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket, fault_rates
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.broker.alpaca.trade_updates import TradeUpdates
from finagent.adapters.broker.alpaca_simulator.faults import FaultKind
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.domain.orders import OrderState
from finagent.domain.ports.order_execution import TradeUpdate

alpaca = partial(sound_alpaca, judged=False)  # what fails here is not what the official OpenAPI says
ORDERS = {"method": "POST", "path": "/v2/orders"}


async def script(venue: Alpaca, *entries: dict[str, Any]) -> None:
    (await venue.http.post("/control/faults", json={"script": list(entries)})).raise_for_status()


async def named(venue: Alpaca, name: str) -> httpx.Response:
    return await venue.http.get("/v2/orders:by_client_order_id", params={"client_order_id": name})


@pytest.mark.parametrize(
    ("fault", "raised", "applied"),
    [
        ({"kind": "reset_before"}, httpx.ReadError, False),
        ({"kind": "reset_after"}, httpx.ReadError, True),
        ({"kind": "reset_at_byte", "byte": 9}, httpx.ReadError, True),
        ({"kind": "reset_at_byte", "byte": 300}, httpx.ReadError, True),
        ({"kind": "hang_before"}, httpx.ReadTimeout, False),
        ({"kind": "hang_after"}, httpx.ReadTimeout, True),
    ],
)
async def test_point_14_a_lost_answer_has_one_truth(
    tmp_path: Path, fault: dict[str, Any], raised: type[Exception], applied: bool
) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await script(venue, {**ORDERS, **fault})
        patience = httpx.Timeout(20, read=0.5 if raised is httpx.ReadTimeout else 20)  # only a hang may run into it
        with pytest.raises(raised):
            async with httpx.AsyncClient(base_url=venue.url, headers=KEYS, timeout=patience, verify=False) as client:
                await Alpaca(venue.url, client, venue.market).post(client_order_id="one")
        assert (await named(venue, "one")).status_code == (200 if applied else 404)
        assert (await venue.post(client_order_id="one")).status_code == (422 if applied else 200)


@pytest.mark.parametrize(
    ("fault", "status", "body", "applied"),
    [
        ({"kind": "html_before", "status": 503}, 503, "<html>", False),
        ({"kind": "html_after", "status": 502}, 502, "<html>", True),
        ({"kind": "html_after", "status": 504}, 504, "<html>", True),
        ({"kind": "truncated"}, 200, "{", True),
        ({"kind": "rate_limited"}, 429, "rate limit exceeded.", False),
        ({"kind": "delay", "seconds": 0.01}, 200, '"status":"new"', True),
    ],
)
async def test_point_14_a_bad_answer_has_one_truth(
    tmp_path: Path, fault: dict[str, Any], status: int, body: str, applied: bool
) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await script(venue, {**ORDERS, **fault})
        answer = await venue.post(client_order_id="one")
        assert (answer.status_code, body in answer.text) == (status, True)
        assert (await named(venue, "one")).status_code == (200 if applied else 404)
        if fault["kind"] == "truncated":
            with pytest.raises(ValueError, match=r"line 1"):
                answer.json()


async def test_point_14_an_unknown_status_after_acceptance(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await script(venue, {**ORDERS, "kind": "unknown_status"})
        assert (await venue.post(client_order_id="one")).json()["status"] == "unheard_of"
        assert (await named(venue, "one")).json()["status"] == "new"


async def test_point_3_an_order_may_be_visible_late(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await script(venue, {**ORDERS, "kind": "hidden", "look_ups": 2})
        await venue.post(client_order_id="one")
        assert [(await named(venue, "one")).status_code for _ in range(3)] == [404, 404, 200]


async def test_point_14_a_request_may_be_applied_long_after_its_sender_gave_up(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await script(venue, {**ORDERS, "kind": "late", "minutes": 2})
        with pytest.raises(httpx.ReadError):
            await venue.post(client_order_id="one", type="limit", limit_price="50")
        assert (await named(venue, "one")).status_code == 404
        await venue.to(2)
        assert (await named(venue, "one")).status_code == 404
        await venue.to(3)
        assert (await named(venue, "one")).status_code == 200


async def test_point_6_an_accepted_order_may_be_rejected_afterwards(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        await script(venue, {**ORDERS, "kind": "rejected"})
        assert (await venue.post(client_order_id="one")).json()["status"] == "new"
        await venue.to(2)
        rejected = (await named(venue, "one")).json()
        assert (rejected["status"], rejected["failed_at"], rejected["filled_qty"]) == (
            "rejected",
            "2008-10-01T13:32:00.000000000Z",
            "0",
        )


async def test_point_6_a_fill_may_come_after_the_cancel_was_taken(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        order = (await venue.post()).json()
        await script(venue, {"method": "DELETE", "path": "/v2/orders/*", "kind": "cancel_late", "minutes": 1})
        assert (await venue.http.delete(f"/v2/orders/{order['id']}")).status_code == 204
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "pending_cancel"
        await venue.to(2)
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "filled"


async def test_point_14_a_cancel_may_be_lost_though_it_was_taken(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await venue.to(1)
        order = (await venue.post(type="limit", limit_price="50")).json()
        await script(venue, {"method": "DELETE", "path": "/v2/orders/*", "kind": "cancel_lost"})
        assert (await venue.http.delete(f"/v2/orders/{order['id']}")).status_code == 204
        await venue.to(2)
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "new"


async def test_the_nth_request_meets_the_script_and_no_other(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        await script(venue, {"method": "GET", "path": "/v2/account", "kind": "rate_limited", "nth": 2, "times": 3})
        seen = [(await venue.http.get("/v2/account")).status_code for _ in range(6)]
        assert seen == [200, 429, 429, 429, 200, 200]
        assert (await venue.http.post("/control/faults", json={"script": [{"kind": "odd"}]})).status_code == 422


async def test_point_12_requests_are_bounded_a_minute_and_the_headers_count(tmp_path: Path) -> None:
    policy = AlpacaSimulatorPolicy(requests_per_minute=2, requests_by="market")
    async with alpaca(tmp_path, policy=policy) as venue:
        await venue.to(1)
        answers = [await venue.http.get("/v2/clock") for _ in range(3)]
        await venue.to(2)
        later = await venue.http.get("/v2/clock")
    assert [answer.status_code for answer in (*answers, later)] == [200, 200, 429, 200]
    refused = answers[2]
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert int(refused.headers["x-ratelimit-reset"]) == SESSIONS[0].instant_of(2).timestamp()


async def test_drawn_faults_are_the_same_for_the_same_request_in_the_same_instant(tmp_path: Path) -> None:
    rates = {FaultKind.HTML_AFTER: 0.5}
    seen = []
    for attempt in ("a", "b"):
        (tmp_path / attempt).mkdir()
        async with alpaca(tmp_path / attempt, policy=AlpacaSimulatorPolicy(fault_rates=rates, seed=3)) as venue:
            await venue.to(1)
            seen.append([(await venue.post(client_order_id=f"o{n}")).status_code for n in range(8)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 502}


async def test_in_lock_step_a_look_up_shares_the_fate_of_an_order_of_its_instant_and_reads_are_answered(tmp_path: Path) -> None:
    """Whether a process that died in between sends or looks must decide nothing."""
    lossy = AlpacaSimulatorPolicy(fault_rates={FaultKind.RESET_AFTER: 0.5}, faulty_reads=False, seed=3)
    async with alpaca(tmp_path, policy=lossy) as venue:
        await venue.to(1)
        names, lost = [f"order-{number}" for number in range(12)], set()
        for name in names:
            assert (await named(venue, name)).status_code == 404, "an id that never came"
            try:
                await venue.post(client_order_id=name)
            except httpx.ReadError:
                lost.add(name)
        assert lost
        assert lost != set(names)
        for name in names:
            with pytest.raises(httpx.ReadError) if name in lost else nullcontext():
                assert (await named(venue, name)).status_code == 200
        assert len(await venue.get("/v2/orders", status="all")) == len(names)
        await venue.to(2)
        answered = set()
        for name in names:
            with suppress(httpx.ReadError):
                assert (await named(venue, name)).status_code == 200
                answered.add(name)
        assert answered & lost, "an instant later look-ups have fates of their own"


async def test_the_brokers_own_lost_answers_are_resets(tmp_path: Path) -> None:
    async with alpaca(tmp_path, faults=fault_rates(reply_lost=1.0)) as venue:
        await venue.to(1)
        with pytest.raises(httpx.ReadError):
            await venue.post(client_order_id="one")
        await venue.to(2)
        assert (await named(venue, "one")).json()["status"] == "filled"


# -- streams -----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def updates(venue: Alpaca) -> AsyncIterator[ClientConnection]:
    """A connection that listens to trade updates."""
    key, secret = KEYS.values()
    async with connect(venue.url.replace("http", "ws") + "/stream") as socket:
        await socket.send(json.dumps({"action": "authenticate", "data": {"key_id": key, "secret_key": secret}}))
        hello = await told(socket)
        assert hello == {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
        await socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        assert await told(socket) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        yield socket


async def told(socket: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        return json.loads(await socket.recv())


async def test_point_13_trade_updates_are_json_in_binary_frames(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue, updates(venue) as socket:
        await venue.to(1)
        await venue.post(
            client_order_id="one",
            order_class="bracket",
            take_profit={"limit_price": "110"},
            stop_loss={"stop_price": "95"},
        )
        frame = await socket.recv()
        assert isinstance(frame, bytes)
        new = json.loads(frame)["data"]
        assert (new["event"], new["order"]["client_order_id"], len(new["order"]["legs"])) == ("new", "one", 2)
        await venue.to(2)
        fill, target = (await told(socket))["data"], (await told(socket))["data"]
        assert (fill["event"], fill["qty"], fill["price"], fill["position_qty"]) == ("fill", "10", "100", "10")
        assert (target["event"], target["order"]["type"]) == ("new", "limit")
        fills = await venue.get("/v2/account/activities/FILL")
        assert fills[0]["id"].endswith(fill["execution_id"])
        await venue.http.delete(f"/v2/orders/{target['order']['id']}")
        await venue.to(3)
        assert [(await told(socket))["data"]["event"] for _ in range(2)] == ["canceled", "canceled"]


async def test_point_13_the_official_sdk_hears_of_every_fill(tmp_path: Path) -> None:
    async with alpaca(tmp_path, partial_fill_rate=1.0) as venue:
        await venue.to(1)
        heard: asyncio.Queue[Any] = asyncio.Queue(maxsize=100)

        async def hear(update: Any) -> None:
            heard.put_nowait(update)

        key, secret = KEYS.values()
        stream: Any = TradingStream(key, secret, url_override=venue.url.replace("http", "ws") + "/stream")
        stream.subscribe_trade_updates(hear)
        await stream._start_ws()
        consuming = asyncio.ensure_future(stream._consume())
        await venue.http.get("/v2/clock")
        order = (await venue.post()).json()
        minute, seen = 1, list[Any]()
        async with asyncio.timeout(10):
            while not seen or seen[-1].event != "fill":
                if seen:
                    minute += 1
                    await venue.to(minute)
                seen.append(await heard.get())
        consuming.cancel()
        with suppress(asyncio.CancelledError):
            await consuming
        await stream.close()
        assert seen[0].event == "new"
        assert sum(update.qty for update in seen[1:]) == 10
        assert {update.event for update in seen[1:-1]} <= {"partial_fill"}
        assert str(seen[-1].order.id) == order["id"]


@pytest.mark.parametrize(
    "kind", [None, FaultKind.DUPLICATE, FaultKind.NULL_DATA, FaultKind.DROP], ids=lambda kind: kind.value if kind else "sound"
)
async def test_a_sign_comes_with_every_connection_and_whatever_is_told(tmp_path: Path, kind: FaultKind | None) -> None:
    lossy = AlpacaSimulatorPolicy(fault_rates={kind: 1.0} if kind else {})
    async with alpaca(tmp_path, policy=lossy) as venue:
        await venue.to(1)
        signs, came = [0], asyncio.Event()

        def sign() -> None:
            signs[0] += 1
            came.set()

        kept: list[TradeUpdate] = []

        async def keep(update: TradeUpdate) -> None:
            if not kept:
                signs_before_it.append(signs[0])
            kept.append(update)

        key, secret = KEYS.values()
        signs_before_it: list[int] = []
        stream = TradeUpdates(Keys(key, secret), venue.url.replace("http", "ws") + "/stream", keep, sign)
        running = asyncio.create_task(stream.run_forever())
        async with asyncio.timeout(60):
            await came.wait()
            while not (await venue.get("/control/clock"))["listeners"]:
                pass
            before = signs[0]
            assert (await venue.post(client_order_id="one")).status_code == 200
            while signs[0] == before or not (kept or kind is FaultKind.DROP):  # one that broke off signs when it is back
                came.clear()
                await came.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert stream.trouble == ""
        assert {(each.event, each.client_order_id, each.state) for each in kept} <= {("new", "one", OrderState.ACCEPTED)}
        assert len({each.update_id for each in kept}) == (kind is not FaultKind.DROP)
        if kind is None:
            assert signs_before_it == [before], "kept before anybody looks"


async def test_wrong_keys_are_the_streams_trouble_and_no_storm(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue:
        stream = TradeUpdates(Keys("x", "planted-secret"), venue.url.replace("http", "ws") + "/stream", _ignored, lambda: None)
        tried = asyncio.Event()
        stream._wait_before_reconnect = partial(_waited, tried)  # type: ignore[method-assign] # where the SDK pauses
        running = asyncio.create_task(stream.run_forever())
        async with asyncio.timeout(60):
            await tried.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert stream.trouble == "failed to authenticate"


async def _ignored(_update: TradeUpdate) -> None: ...


async def _waited(tried: asyncio.Event, _retries: int) -> None:
    tried.set()
    await asyncio.Event().wait()


async def test_point_13_wrong_keys_are_told_and_the_stream_ends(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue, connect(venue.url.replace("http", "ws") + "/stream") as socket:
        await socket.send(json.dumps({"action": "authenticate", "data": {"key_id": "x", "secret_key": "y"}}))
        assert (await told(socket))["data"]["status"] == "unauthorized"
        with pytest.raises(ConnectionClosedOK):
            await told(socket)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("duplicate", ["a", "a", "b"]),
        ("reordered", ["b", "a"]),
        ("missing", ["b"]),
        ("null_data", [None, "a", "b"]),
        ("drop", ["closed"]),
    ],
)
async def test_point_13_stream_messages_come_twice_late_never_or_empty(
    tmp_path: Path, kind: str, expected: list[str | None]
) -> None:
    async with alpaca(tmp_path) as venue, updates(venue) as socket:
        await venue.to(1)
        await script(venue, {"method": "STREAM", "path": "trade_updates", "kind": kind})
        for name in ("a", "b"):
            await venue.post(client_order_id=name)
        heard: list[str | None] = []
        while len(heard) < len(expected):
            try:
                data = (await told(socket))["data"]
            except ConnectionClosedError as error:
                heard.append("closed" if error.rcvd is None else "ended")  # 1006: no closing handshake
                break
            heard.append(data and data["order"]["client_order_id"])
        assert heard == expected


async def test_stream_faults_are_drawn_by_seed_and_tell_the_same_twice(tmp_path: Path) -> None:
    heard = []
    for attempt in ("a", "b"):
        (tmp_path / attempt).mkdir()
        rates = {FaultKind.DUPLICATE: 0.4, FaultKind.MISSING: 0.3}
        policy = AlpacaSimulatorPolicy(fault_rates=rates, seed=5)
        async with alpaca(tmp_path / attempt, policy=policy) as venue, updates(venue) as socket:
            await venue.to(1)
            for number in range(12):
                await venue.post(client_order_id=f"o{number}")
            await script(venue, {"method": "STREAM", "path": "trade_updates", "kind": "null_data"})
            await venue.post(client_order_id="last")
            names: list[str] = []
            while (data := (await told(socket))["data"]) is not None:
                names.append(data["order"]["client_order_id"])
            heard.append(names)
    assert heard[0] == heard[1]
    assert len(heard[0]) > len(set(heard[0]))
    assert len(set(heard[0])) < 12


async def test_point_13_a_mute_socket_stays_open_and_a_new_one_replays_nothing(tmp_path: Path) -> None:
    async with alpaca(tmp_path) as venue, updates(venue) as mute:
        await venue.to(1)
        await script(venue, {"method": "STREAM", "path": "trade_updates", "kind": "mute"})
        await venue.post(client_order_id="a")
        async with updates(venue) as fresh:
            await venue.post(client_order_id="b")
            assert (await told(fresh))["data"]["order"]["client_order_id"] == "b"
        await (await mute.ping())
        assert await venue.get("/v2/orders:by_client_order_id", client_order_id="a")


async def test_the_market_does_not_need_listeners(tmp_path: Path) -> None:
    async with alpaca(tmp_path, ScriptedMarket(walk=3)) as venue:
        await venue.to(60)
        assert (await venue.get("/control/clock"))["at"] == "2008-10-01T14:30:00.000000Z"
