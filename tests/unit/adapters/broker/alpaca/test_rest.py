"""What the SDK and the network do to a request, each by name: hangs, resets, repeats, bodies that are none."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from alpaca.trading.models import Order
from pydantic import ValidationError
from tests.unit.adapters.broker.alpaca.scripted_alpaca import (
    HTTP,
    ORDER_ID,
    REST,
    Answer,
    Desk,
    a_request,
    an_order,
    scripted_alpaca,
)

from finagent.adapters.broker.alpaca.errors import NotSent
from finagent.adapters.broker.alpaca.policy import LIVE_URL, PAPER_URL
from finagent.domain.errors import BadInput, Permanent, Transient
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.order_execution import Found

POST, LOOK_UP, CANCEL, POSITIONS = (
    "POST /v2/orders",
    "GET /v2/orders:by_client_order_id",
    f"DELETE /v2/orders/{ORDER_ID}",
    "GET /v2/positions",
)


async def outcome_of(desk: Desk, *answers: Answer | Any) -> SendOutcome:
    desk.script.says(POST, *answers)
    return (await desk.client.submit(a_request())).outcome


@pytest.mark.parametrize("status", [504, 429, 503, 502, 500])
async def test_an_order_is_posted_once_whatever_the_answer(status: int) -> None:
    """The SDK posts again on 504 and 429: an order that was applied would look refused, or be placed four times."""
    async with scripted_alpaca() as desk:
        answers = [Answer(status, {"code": 42910000, "message": "rate limit exceeded."}), Answer(body=an_order())]
        assert await outcome_of(desk, *answers) is SendOutcome.UNRESOLVED
        assert len(desk.script.requests(POST)) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(422, {"code": 40010001, "message": "client_order_id must be unique"}), SendOutcome.UNRESOLVED),
        (Answer(422, {"code": 42210000, "message": "client_order_id must be unique"}), SendOutcome.UNRESOLVED),
        (Answer(422, {"code": 40010001, "message": "words of tomorrow"}), SendOutcome.UNRESOLVED),
        (Answer(422, {"code": 40010001, "message": "bracket orders must be market or limit orders"}), SendOutcome.REFUSED),
        (Answer(422, {"code": 42210000, "message": "invalid limit_price 290.123. sub-penny increment"}), SendOutcome.REFUSED),
        (Answer(403, {"code": 40310000, "message": "insufficient buying power", "buying_power": "1"}), SendOutcome.REFUSED),
        (Answer(403, {"code": 40310100, "message": "trade denied due to pattern day trading"}), SendOutcome.REFUSED),
        (Answer(403, {"message": "forbidden."}), SendOutcome.REFUSED),
        (Answer(401, {"message": "unauthorized."}), SendOutcome.REFUSED),
        (Answer(403, "<html>a proxy says no</html>"), SendOutcome.UNRESOLVED),
        (Answer(408, {"code": 1, "message": "request timeout"}), SendOutcome.UNRESOLVED),
        (Answer(502, "<html>Bad Gateway</html>"), SendOutcome.UNRESOLVED),
        (Answer(200, "<html>maintenance</html>"), SendOutcome.UNRESOLVED),
        (Answer(302, "", {"Location": "http://127.0.0.1:1/"}), SendOutcome.UNRESOLVED),
        (Answer(200, ""), SendOutcome.UNRESOLVED),
        (Answer(200, "[]"), SendOutcome.UNRESOLVED),
        (Answer(200, json.dumps(an_order())[:-40]), SendOutcome.UNRESOLVED),
        (Answer(200, an_order(status="accepted_on_mars")), SendOutcome.UNRESOLVED),
        (Answer(200, an_order(id=None)), SendOutcome.UNRESOLVED),
        (Answer(200, an_order(limit_price="NaN")), SendOutcome.UNRESOLVED),
        (Answer(200, json.dumps(an_order()).replace('"100.25"', "Infinity")), SendOutcome.UNRESOLVED),
        (Answer(200, an_order(client_order_id="fa-2")), SendOutcome.UNRESOLVED),
        (Answer(200, an_order()), SendOutcome.CONFIRMED),
    ],
    ids=lambda value: f"{value.status}-{str(value.body)[:60]}" if isinstance(value, Answer) else value.value,
)
async def test_what_each_answer_to_an_order_means(answer: Answer, outcome: SendOutcome) -> None:
    async with scripted_alpaca() as desk:
        assert await outcome_of(desk, answer) is outcome
        assert len(desk.script.requests(POST)) == 1


async def test_a_value_that_the_sdk_does_not_know_is_no_exception_after_acceptance() -> None:
    told = an_order(status="accepted_on_mars")
    with pytest.raises(ValidationError):
        Order(**told)
    async with scripted_alpaca() as desk:
        assert await outcome_of(desk, told) is SendOutcome.UNRESOLVED


async def test_a_reset_at_any_byte_leaves_the_order_unresolved() -> None:
    data = Answer(body=an_order()).data()
    end_of_head = data.index(b"\r\n\r\n") + 4
    async with scripted_alpaca(breaker_failures=10**6) as desk:
        cuts = [0, 1, 12, end_of_head - 1, end_of_head, end_of_head + 1, len(data) // 2, len(data) - 1]
        for number, cut in enumerate(cuts, 1):
            assert await outcome_of(desk, Answer(body=an_order(), cut=cut)) is SendOutcome.UNRESOLVED, cut
            assert len(desk.script.requests(POST)) == number


async def test_a_broker_that_hangs_costs_the_deadline_and_its_thread_but_no_cancel() -> None:
    """alpaca-py#415: the SDK waits for ever."""
    async with scripted_alpaca(deadline_seconds=1.0, breaker_failures=10**6) as desk:
        desk.script.says(POST, Answer(hang=True, body=an_order()))
        desk.script.says(CANCEL, Answer(204))
        desk.script.says(LOOK_UP, an_order())
        hung = await asyncio.gather(*(desk.client.submit(a_request()) for _ in range(REST.threads)))
        assert [result.outcome for result in hung] == [SendOutcome.UNRESOLVED] * REST.threads

        third = await desk.client.submit(a_request())
        assert (third.outcome, "thread" in third.message) == (SendOutcome.DENIED, True)
        assert len(desk.script.requests(POST)) == REST.threads
        assert await desk.client.cancel(ORDER_ID)
        assert (await desk.client.look_up("fa-1")).found is Found.YES

        desk.script.release.set()
        desk.script.says(POST, an_order())
        async with asyncio.timeout(10):
            while (await desk.client.submit(a_request())).outcome is not SendOutcome.CONFIRMED:
                pass


async def test_an_order_that_waited_for_a_thread_asks_again_whether_it_may_leave() -> None:
    said = ""
    async with scripted_alpaca() as desk:
        desk.script.says("GET /v2/positions", Answer(hang=True, body=[]))
        desk.script.says("POST /v2/orders", an_order())
        hung = [asyncio.create_task(desk.client.positions()) for _ in range(REST.threads)]
        await desk.script.until_asked("GET /v2/positions", REST.threads)
        sending = asyncio.create_task(desk.client.submit(a_request(), lambda: said))
        said = "HALTED: by hand"
        desk.script.release.set()
        result = await sending
        await asyncio.gather(*hung)

        assert (result.outcome, result.message) == (SendOutcome.DENIED, said)
        assert desk.script.requests("POST /v2/orders") == []
        said = ""
        assert (await desk.client.submit(a_request(), lambda: said)).outcome is SendOutcome.CONFIRMED, "the thread came back"


async def test_a_thread_gives_a_silent_broker_up_by_itself() -> None:
    bounds = replace(HTTP, deadline_seconds=0.5, read_seconds=1.0)
    async with scripted_alpaca(threads=1, http=bounds, breaker_failures=10**6) as desk:
        desk.script.says(POST, Answer(hang=True, body=an_order()))
        desk.script.says(POSITIONS, [])
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.UNRESOLVED
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await desk.client.positions() == ()
                    break
                except Transient:  # the one thread still waits
                    continue


async def test_a_process_may_end_while_a_thread_waits() -> None:
    async with scripted_alpaca(deadline_seconds=0.1) as desk:
        desk.script.says(POST, Answer(hang=True, body=an_order()))
        await desk.client.submit(a_request())
        async with asyncio.timeout(5):
            await desk.client.close()


async def test_an_answer_that_drips_or_never_ends_is_given_up_by_its_thread() -> None:
    bounds = replace(HTTP, deadline_seconds=1.0, answer_bytes_max=2000)
    async with scripted_alpaca(threads=1, http=bounds, breaker_failures=10**6) as desk:
        for answer in (Answer(body=an_order(), drip_seconds=0.01), Answer(body="x" * 5000)):
            assert await outcome_of(desk, answer) is SendOutcome.UNRESOLVED
        desk.script.says(POSITIONS, [])
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await desk.client.positions() == ()
                    break
                except Transient:
                    continue


async def test_what_never_connected_was_not_sent() -> None:
    async with scripted_alpaca(url="http://127.0.0.1:1", pinned=False) as desk:
        with pytest.raises(NotSent):
            await desk.client.account()


async def test_a_safe_read_is_tried_again_and_a_failed_one_is_never_empty() -> None:
    async with scripted_alpaca() as desk:
        desk.script.says(POSITIONS, Answer(503, "<html/>"), Answer(body=[], cut=3), Answer(body=[]))
        assert await desk.client.positions() == ()
        assert len(desk.script.requests(POSITIONS)) == 3
        desk.script.says(POSITIONS, Answer(200, "[{"))
        with pytest.raises(Transient):
            await desk.client.positions()
        desk.script.says(POSITIONS, Answer(200, {"positions": []}))
        with pytest.raises(Transient):
            await desk.client.positions()


async def test_wrong_keys_are_asked_once_and_named_without_being_shown() -> None:
    async with scripted_alpaca() as desk:
        desk.script.says(POSITIONS, Answer(401, {"message": "unauthorized."}))
        with pytest.raises(Permanent, match="APCA_API_KEY_ID") as caught:
            await desk.client.positions()
        assert len(desk.script.requests(POSITIONS)) == 1
        assert "planted-secret" not in f"{caught.value!r} {caught.value.__cause__!r} {vars(desk.rest)}"
        assert desk.script.asked[-1].headers["apca-api-secret-key"] == "planted-secret"


async def test_a_silent_broker_gets_no_order_but_cancels_and_one_probe() -> None:
    async with scripted_alpaca(breaker_failures=2, read_attempts=1) as desk:
        desk.script.says(POSITIONS, Answer(503, ""), Answer(503, ""), Answer(503, ""), [])
        desk.script.says(POST, an_order())
        desk.script.says(CANCEL, Answer(204))
        for _ in range(2):
            with pytest.raises(Transient):
                await desk.client.positions()
        sent = await desk.client.submit(a_request())
        assert (sent.outcome, desk.script.requests(POST)) == (SendOutcome.DENIED, [])
        with pytest.raises(Transient):
            await desk.client.positions()
        assert len(desk.script.requests(POSITIONS)) == 2

        desk.seconds += REST.breaker_seconds
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.DENIED, "an order is no probe"
        with pytest.raises(Transient):
            await desk.client.positions()
        assert len(desk.script.requests(POSITIONS)) == 3, "the probe failed: open again"
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.DENIED

        desk.seconds += REST.breaker_seconds
        assert await desk.client.positions() == ()
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.CONFIRMED


async def test_a_cancel_goes_while_the_breaker_is_open_and_its_answer_closes_it() -> None:
    async with scripted_alpaca(breaker_failures=1) as desk:
        assert await outcome_of(desk, Answer(500, "")) is SendOutcome.UNRESOLVED
        desk.script.says(CANCEL, Answer(204))
        assert await desk.client.cancel(ORDER_ID)
        assert await outcome_of(desk, an_order()) is SendOutcome.CONFIRMED


async def test_a_used_up_minute_leaves_cancels_and_look_ups_their_share() -> None:
    async with scripted_alpaca(requests_per_minute=10, share=0.5, reserved_requests=2, read_attempts=1) as desk:
        desk.script.says(POSITIONS, [])
        desk.script.says(CANCEL, Answer(204))
        desk.script.says(LOOK_UP, an_order())
        await desk.client.positions()
        await desk.client.positions()  # with the account: three of five
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.DENIED
        assert await desk.client.cancel(ORDER_ID)
        assert (await desk.client.look_up("fa-1")).found is Found.YES
        assert not await desk.client.cancel(ORDER_ID)
        desk.seconds += 60
        await desk.client.positions()


async def test_a_429_stops_orders_until_the_brokers_window_ends() -> None:
    headers = {"X-RateLimit-Reset": "1794971230", "Date": "Wed, 18 Nov 2026 03:06:40 GMT"}
    async with scripted_alpaca() as desk:
        desk.script.says(POSITIONS, Answer(429, {"message": "too many requests."}, headers), Answer(body=[]))
        with pytest.raises(Transient):
            await desk.client.positions()
        assert len(desk.script.requests(POSITIONS)) == 1, "a limit is not met by asking again"
        desk.script.says(CANCEL, Answer(204))
        assert await desk.client.cancel(ORDER_ID), "cancels have their own share"
        desk.seconds += 29
        assert (await desk.client.submit(a_request())).outcome is SendOutcome.DENIED
        desk.seconds += 1
        assert await outcome_of(desk, an_order()) is SendOutcome.CONFIRMED


async def test_what_the_broker_says_is_left_counts_more_than_what_we_thought() -> None:
    """Somebody else trades under the same keys: 1200 of the 6000 are not ours, and 20 are for cancels and look-ups."""
    async with scripted_alpaca(read_attempts=1) as desk:
        desk.script.says(CANCEL, Answer(204))
        for left, outcome in (("1221", SendOutcome.CONFIRMED), ("1220", SendOutcome.DENIED)):
            desk.seconds += 60
            desk.script.says(POSITIONS, Answer(body=[], headers={"X-RateLimit-Remaining": left}))
            await desk.client.positions()
            assert await outcome_of(desk, an_order()) is outcome
            assert await desk.client.cancel(ORDER_ID)


async def test_a_request_says_what_we_mean_and_prices_are_on_their_tick() -> None:
    async with scripted_alpaca() as desk:
        await outcome_of(desk, an_order())
        await desk.client.submit(a_request(limit_price=Decimal("0.30000000000000004")))
        await desk.client.submit(a_request(limit_price=Decimal("290.1249")))
        bodies = [asked.body for asked in desk.script.requests(POST)]
    assert bodies[0] == {
        "symbol": "IBM",
        "qty": 10.0,
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "order_class": "simple",
        "extended_hours": False,
        "client_order_id": "fa-1",
        "limit_price": 100.25,
    }
    assert [body["limit_price"] for body in bodies[1:]] == [0.3, 290.12]


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("https://api.alpaca.markets", False),
        ("https://paper-api.alpaca.markets", True),
        ("http://127.0.0.1:80", True),
        ("http://paper-api.alpaca.markets", False),
        ("https://paper-api.alpaca.markets/", False),
        ("https://paper-api.alpaca.markets.example.com", False),
    ],
)
def test_money_and_paper_have_each_their_host(url: str, live: bool) -> None:
    with pytest.raises(BadInput, match=r"alpaca\.url"):
        replace(REST, url=url, live=live, official_url=LIVE_URL if live else PAPER_URL)
