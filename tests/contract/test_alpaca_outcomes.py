"""Every fate of an order between the real SDK and the simulated Alpaca: what is not known is never called a no, what is looked up
is true, and the same intent under the same id is one order."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.alpaca_api import KEYS, Alpaca, alpaca
from tests.contract.test_order_execution import SettableClock, order
from tests.unit.adapters.broker.alpaca.scripted_alpaca import HTTP, POLICY, REST

from finagent.adapters.broker.alpaca.client import AlpacaClient
from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.broker.alpaca_simulator.faults import FaultKind
from finagent.domain.errors import Transient
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.order_execution import Found

K, S = FaultKind, SendOutcome
LOST = {K.RESET_BEFORE, K.HTML_BEFORE, K.HANG_BEFORE, K.RATE_LIMITED}  # the order is not at the broker
ANSWERED = {K.DELAY, K.HIDDEN, K.REJECTED}
FATES = sorted(
    {K.RESET_AFTER, K.RESET_AT_BYTE, K.TRUNCATED, K.HTML_AFTER, K.HANG_AFTER, K.UNKNOWN_STATUS, K.LATE, *LOST, *ANSWERED},
    key=lambda kind: kind.value,
)


@asynccontextmanager
async def at_alpaca(folder: Path, kind: FaultKind, **terms: Any) -> AsyncIterator[tuple[Alpaca, AlpacaClient]]:
    async with alpaca(folder, account_id=POLICY.account_id, **terms) as there:
        hangs = kind in (K.HANG_BEFORE, K.HANG_AFTER)  # nothing else may run into a deadline, however slow the machine
        http = (
            replace(HTTP, deadline_seconds=1.5, read_seconds=1.0)
            if hangs
            else replace(HTTP, deadline_seconds=30, read_seconds=20)
        )
        seconds = (lambda: 0.0) if kind is K.RATE_LIMITED else time.monotonic  # a budget that fills would let the next one go
        rest = AlpacaRest(replace(REST, url=there.url, http=http, breaker_failures=100), Keys(*KEYS.values()), seconds)
        client = AlpacaClient(rest, SettableClock(there.session.opens_at), replace(POLICY, settle_seconds=0))
        try:
            await client.account()
            await there.to(1)
            yield there, client
        finally:
            await client.close()


async def befalls(there: Alpaca, method: str, path: str, kind: FaultKind, **more: Any) -> None:
    entry = {"method": method, "path": path, "kind": kind.value, **more}
    (await there.http.post("/control/faults", json={"script": [entry]})).raise_for_status()


@pytest.mark.parametrize("deduplicates_forever", [True, False], ids=["used once", "used while open"])
@pytest.mark.parametrize("kind", FATES, ids=lambda kind: kind.value)
async def test_what_befalls_an_order_is_found_out_and_leaves_one(
    tmp_path: Path, kind: FaultKind, deduplicates_forever: bool
) -> None:
    async with at_alpaca(tmp_path, kind, deduplicates_forever=deduplicates_forever) as (there, client):
        await befalls(there, "POST", "/v2/orders", kind)
        sent = await client.submit(order("a", limit_price="90"))
        assert sent.outcome is (S.CONFIRMED if kind in ANSWERED else S.UNRESOLVED)
        await there.to(4)  # what comes late has come
        found = [(await client.look_up("a")).found for _ in range(3)][-1]  # what is hidden shows at the third look
        assert found is (Found.NO if kind in LOST else Found.YES)
        if kind is K.RATE_LIMITED:
            assert (await client.submit(order("b", limit_price="90"))).outcome is S.DENIED, "only look-ups and cancels go on"
            return
        again = await client.submit(order("a", limit_price="90"))
        if kind is not K.REJECTED or deduplicates_forever:  # an id that ended may be used again
            assert again.outcome is (S.CONFIRMED if kind in LOST else S.UNRESOLVED)
            named = [each["id"] for each in await there.get("/v2/orders", status="all") if each["client_order_id"] == "a"]
            assert len(named) == 1


@pytest.mark.parametrize("kind", [K.RESET_AFTER, K.HTML_BEFORE, K.TRUNCATED], ids=lambda kind: kind.value)
async def test_a_read_that_fails_is_no_empty_account(tmp_path: Path, kind: FaultKind) -> None:
    async with at_alpaca(tmp_path, kind) as (there, client):
        await client.submit(order("a"))
        await there.to(2)
        for path, read in (("/v2/positions", client.positions), ("/v2/orders", client.open_orders)):
            await befalls(there, "GET", path, kind, times=REST.read_attempts)
            with pytest.raises(Transient):
                await read()
        assert [(position.symbol, position.quantity) for position in await client.positions()] == [("IBM", 10)]


@pytest.mark.parametrize("kind", [K.RESET_AFTER, K.HTML_AFTER, K.CANCEL_LOST, K.HANG_AFTER], ids=lambda kind: kind.value)
async def test_a_cancel_without_an_answer_may_be_asked_again(tmp_path: Path, kind: FaultKind) -> None:
    async with at_alpaca(tmp_path, kind) as (there, client):
        sent = await client.submit(order("a", limit_price="90"))
        assert sent.report is not None
        await befalls(there, "DELETE", "/v2/orders/*", kind)
        assert await client.cancel(sent.report.broker_order_id) is (kind is K.CANCEL_LOST)
        assert await client.cancel(sent.report.broker_order_id)
        await there.to(2)
        assert await client.open_orders() == ()
