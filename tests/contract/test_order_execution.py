"""OrderExecutionPort and SimulatedVenue, over every way to reach a broker."""

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.broker.alpaca.scripted_alpaca import HTTP, POLICY, REST
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket, broker_policy, fault_rates, make_broker

from finagent.adapters.broker.alpaca.client import AlpacaVenue
from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.adapters.broker.alpaca_simulator.server import alpaca_simulator
from finagent.adapters.broker.simulated.client import BrokerClientPolicy, SimulatedBrokerClient
from finagent.adapters.broker.simulated.server import BrokerServer
from finagent.adapters.broker.simulated.transport import BrokerSocket, InProcessBroker, Transport
from finagent.domain.errors import InvariantViolated, Transient
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, SendOutcome, Side, TimeInForce
from finagent.domain.ports.order_execution import Found, OrderRequest
from finagent.domain.sessions import Session

TRANSPORTS = ("in-process", "unix", "tcp")
ALPACA = "alpaca"  # the real SDK, over HTTP to the Alpaca simulator
# Alpaca answers as of now, never as of an instant, and knows nothing of ours.
WITH_MARKET_TIME = pytest.mark.parametrize("opened", TRANSPORTS, indirect=True)


class SettableClock:
    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


@dataclass
class Venue:
    """A client with its broker, at a minute of the first session."""

    client: Any
    transport: Transport | None
    clock: SettableClock
    market: ScriptedMarket
    folder: Path
    commits: list[str]
    end_broker: Callable[[], None]
    session: Session = SESSIONS[0]
    started: datetime = field(default=SESSIONS[0].opens_at)

    @property
    def at_alpaca(self) -> bool:
        return isinstance(self.client, AlpacaVenue)

    async def to(self, minute: int) -> None:
        self.clock.time = self.session.instant_of(minute)
        await self.client.advance(self.clock.time)

    async def told(self, since_minute: int = 0) -> Any:
        return await self.client.activity(self.session.instant_of(since_minute), self.clock.time)

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.folder / 'broker-simulator.db'}?mode=ro", uri=True)) as connection, connection:
            found = connection.execute(query).fetchall()
        connection.close()
        return found


Opened = Callable[..., Any]


@asynccontextmanager
async def alpaca_venue(folder: Path, clock: SettableClock, market: ScriptedMarket, **terms: Any) -> AsyncIterator[AlpacaVenue]:
    """The client of a simulated Alpaca, its account already named."""
    terms["account_id"] = POLICY.account_id
    commits = terms.pop("failpoints")
    async with AsyncExitStack() as stack:
        broker, keys = make_broker(folder, market, failpoints=commits, **terms), AlpacaSimulatorPolicy()
        url = await stack.enter_async_context(alpaca_simulator(broker, broker_policy(**terms), market, keys))
        policy = replace(POLICY, settle_seconds=0, deduplicates_forever=terms.get("deduplicates_forever", True))
        rest = AlpacaRest(replace(REST, url=url, http=HTTP), Keys(keys.key_id, keys.secret), time.monotonic)
        client = AlpacaVenue(rest, clock, policy, 20.0)
        stack.push_async_callback(client.close)
        await client.account()
        yield client


@pytest.fixture(params=(*TRANSPORTS, ALPACA))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens a venue: `async with opened(**terms) as venue`."""

    @asynccontextmanager
    async def open_venue(call_seconds: float = 20.0, **terms: Any) -> AsyncIterator[Venue]:
        folder = tmp_path_factory.mktemp("b")
        market, commits = terms.pop("market", None) or ScriptedMarket(), list[str]()
        if request.param == ALPACA:
            time_there = SettableClock(SESSIONS[0].opens_at)
            async with alpaca_venue(folder, time_there, market, failpoints=commits.append, **terms) as alpaca:
                yield Venue(alpaca, None, time_there, market, folder, commits, lambda: None)
            return
        broker = make_broker(folder, market, failpoints=commits.append, **terms)
        server, thread = None, None
        transport: Transport
        if request.param == "in-process":
            transport = InProcessBroker(broker)
        else:
            server = BrokerServer(broker, f"unix:{folder}/b.sock" if request.param == "unix" else "tcp:127.0.0.1:0")
            thread = threading.Thread(target=server.serve)
            thread.start()
            transport = BrokerSocket(server.address)
        clock = SettableClock(SESSIONS[0].opens_at)
        policy = BrokerClientPolicy(call_seconds, 20.0, terms.get("deduplicates_forever", True))
        client = SimulatedBrokerClient(clock, transport, policy)

        def end_broker() -> None:
            assert server is not None
            assert thread is not None
            server.stop()
            thread.join()

        try:
            yield Venue(client, transport, clock, market, folder, commits, end_broker)
        finally:
            await client.close()
            if server is not None:
                end_broker()

    return open_venue


def order(name: str, quantity: int = 10, side: Side = Side.BUY, **prices: str | OrderType | OrderClass) -> OrderRequest:
    """A market order, or what the prices make of it."""
    texts = {key: Decimal(value) for key, value in prices.items() if isinstance(value, str)}
    limit, stop = texts.get("limit_price"), texts.get("stop_price")
    kinds = {
        (False, False): OrderType.MARKET,
        (True, False): OrderType.LIMIT,
        (False, True): OrderType.STOP,
        (True, True): OrderType.STOP_LIMIT,
    }
    classes = {(False, False): OrderClass.SIMPLE, (True, True): OrderClass.BRACKET, (False, True): OrderClass.OCO}
    return OrderRequest(
        client_order_id=name,
        symbol="IBM",
        side=side,
        quantity=quantity,
        type=kinds[limit is not None, stop is not None],
        limit_price=limit,
        stop_price=stop,
        order_class=classes["take_profit_price" in texts, "stop_loss_price" in texts],
        time_in_force=TimeInForce.DAY,
        take_profit_price=texts.get("take_profit_price"),
        stop_loss_price=texts.get("stop_loss_price"),
    )


async def test_an_order_lives_from_its_submit_to_its_fill(opened: Opened) -> None:
    async with opened(commission_usd_per_share=Decimal("0.005")) as venue:
        venue.market.script["IBM"] = {6: (101.0, 101.5, 100.5, 101.2, 5000.0)}
        await venue.to(5)
        sent = await venue.client.submit(order("a"))
        assert sent.outcome is SendOutcome.CONFIRMED
        assert sent.report.state is OrderState.ACCEPTED
        assert (await venue.client.look_up("a")).report == sent.report
        assert (await venue.told()).executions == ()
        assert [report.client_order_id for report in await venue.client.open_orders()] == ["a"]

        await venue.to(6)
        told = await venue.told(5)
        assert [(e.quantity, e.price, e.fee, e.at) for e in told.executions] == [
            (10, Decimal("101.0"), Decimal(0) if venue.at_alpaca else Decimal("0.05"), venue.clock.time)
        ]
        assert [(r.state, r.filled_quantity, r.average_price) for r in told.orders] == [(OrderState.FILLED, 10, Decimal(101))]
        assert [(p.symbol, p.quantity) for p in await venue.client.positions()] == [("IBM", 10)]
        account = await venue.client.account()
        assert (account.account_id, account.cash) == (
            POLICY.account_id if venue.at_alpaca else "simulated",
            100_000 - 10 * Decimal(101) - Decimal("0.05"),
        )
        assert await venue.client.open_orders() == ()


async def test_nothing_fills_in_the_instant_in_which_it_is_sent(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(5)
        await venue.client.submit(order("a"))
        venue.clock.time = venue.session.instant_of(5) + timedelta(seconds=59)
        await venue.client.advance(venue.clock.time)
        assert (await venue.told()).executions == ()
        await venue.client.submit(order("b"))
        await venue.to(6)
        told = await venue.told()
        assert {e.broker_order_id for e in told.executions} == {(await venue.client.look_up("a")).report.broker_order_id}


async def test_an_id_never_submitted_is_an_explicit_no(opened: Opened) -> None:
    async with opened(faults=fault_rates(look_up_withheld=1.0)) as venue:
        await venue.to(1)
        assert (await venue.client.look_up("nobody")).found is Found.NO


async def test_a_used_id_is_never_a_second_order_and_never_a_refusal(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(1)
        assert (await venue.client.submit(order("a"))).outcome is SendOutcome.CONFIRMED
        await venue.to(2)
        again = await venue.client.submit(order("a"))
        assert (again.outcome, again.code) == (SendOutcome.UNRESOLVED, "40010001")
        assert venue.client.deduplicates_forever
        assert venue.rows("SELECT count(*) FROM ledger_order") == [(1,)]


async def test_a_broker_that_forgets_ended_ids_takes_them_again(opened: Opened) -> None:
    async with opened(deduplicates_forever=False) as venue:
        await venue.to(1)
        first = await venue.client.submit(order("a", limit_price="90"))
        assert (await venue.client.submit(order("a"))).outcome is SendOutcome.UNRESOLVED
        await venue.client.cancel(first.report.broker_order_id)
        await venue.to(2)
        second = await venue.client.submit(order("a"))
        assert second.outcome is SendOutcome.CONFIRMED
        assert second.report.broker_order_id != first.report.broker_order_id
        assert not venue.client.deduplicates_forever
        assert (await venue.client.look_up("a")).report.broker_order_id == second.report.broker_order_id


async def test_only_the_brokers_no_is_a_refusal(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(1)
        refused = await venue.client.submit(order("a", quantity=10**6, limit_price="100.12"))
        assert (refused.outcome, refused.code) == (SendOutcome.REFUSED, "40310000")
        assert "buying power" in refused.message
        assert (await venue.client.look_up("a")).found is Found.NO
        assert (await venue.client.submit(order("a", limit_price="99.12"))).outcome is SendOutcome.CONFIRMED


async def test_a_cancel_is_a_request_whose_end_is_seen_later(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(1)
        sent = await venue.client.submit(order("a", limit_price="101", take_profit_price="105", stop_loss_price="95"))
        await venue.to(2)
        other = await venue.client.submit(order("b", limit_price="90", take_profit_price="105", stop_loss_price="85"))
        assert await venue.client.cancel(other.report.broker_order_id)
        assert await venue.client.cancel(other.report.broker_order_id)
        assert (await venue.client.look_up("b")).report.state is OrderState.ACCEPTED
        await venue.to(3)
        found = (await venue.client.look_up("b")).report
        assert {found.state, *(leg.state for leg in found.legs)} == {OrderState.CANCELLED}
        assert not await venue.client.cancel(other.report.broker_order_id)
        assert not await venue.client.cancel("sb-unknown")
        ended = {report.broker_order_id for report in (await venue.told(3)).orders if report.state is OrderState.CANCELLED}
        assert ended == {found.broker_order_id, *(leg.broker_order_id for leg in found.legs)}
        assert (await venue.client.look_up("a")).report.state is OrderState.FILLED
        assert await venue.client.cancel(sent.report.broker_order_id), "the parent's id reaches the legs that still live"
        await venue.to(4)
        assert await venue.client.open_orders() == ()


async def test_legs_wait_for_the_whole_entry_and_the_first_to_fill_ends_the_other(opened: Opened) -> None:
    async with opened() as venue:
        venue.market.script["IBM"] = {3: (100.0, 106.0, 94.0, 100.0, 6.0), 6: (100.0, 106.0, 99.0, 105.0, 9e3)}
        await venue.to(2)
        sent = await venue.client.submit(order("a", limit_price="100", take_profit_price="105", stop_loss_price="95"))
        legs = {leg.leg: leg for leg in sent.report.legs}
        assert set(legs) == {Leg.TARGET, Leg.STOP}
        assert {leg.parent_broker_order_id for leg in legs.values()} == {sent.report.broker_order_id}
        await venue.to(3)
        found = (await venue.client.look_up("a")).report
        assert (found.state, found.filled_quantity) == (OrderState.PARTIALLY_FILLED, 6)
        assert {leg.state for leg in found.legs} == {OrderState.HELD}
        await venue.to(4)
        found = (await venue.client.look_up("a")).report
        assert [found.state, *(leg.state for leg in found.legs)] == [
            OrderState.FILLED,
            OrderState.ACCEPTED,
            OrderState.HELD if venue.at_alpaca else OrderState.ACCEPTED,  # there it stands behind the target
        ]
        await venue.to(6)
        states = {leg.leg: leg.state for leg in (await venue.client.look_up("a")).report.legs}
        assert states == {Leg.TARGET: OrderState.FILLED, Leg.STOP: OrderState.CANCELLED}


@WITH_MARKET_TIME
async def test_the_past_is_told_as_it_was(opened: Opened) -> None:
    """The ledger may be ahead of a client that was killed: what it heard at an instant it hears again."""
    async with opened() as venue:
        venue.market.script["IBM"] = {5: (100.0, 106.0, 99.0, 105.0, 9e3)}
        await venue.to(2)
        await venue.client.submit(order("a", limit_price="100", take_profit_price="105", stop_loss_price="95"))

        async def heard() -> list[Any]:
            client = venue.client
            found = await client.look_up("a")
            return [await venue.told(), await client.open_orders(), await client.positions(), await client.account(), found]

        seen = {}
        for minute in (2, 3, 4, 5, 6):
            await venue.to(minute)
            seen[minute] = await heard()
        assert len({str(answers) for answers in seen.values()}) == 3
        for minute, answers in seen.items():
            venue.clock.time = venue.session.instant_of(minute)
            assert await heard() == answers, minute


@WITH_MARKET_TIME
async def test_what_a_request_did_is_activity_of_a_later_instant(opened: Opened) -> None:
    """Else an instant that is repeated after a kill would hear of its own requests before it makes them."""
    async with opened() as venue:
        await venue.to(2)
        before = await venue.told(2)
        await venue.client.submit(order("a", limit_price="90"))
        assert await venue.told(2) == before
        await venue.to(3)
        assert [report.state for report in (await venue.told(3)).orders] == [OrderState.ACCEPTED]


async def test_an_instant_without_effects_costs_no_commit(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(2)
        await venue.client.submit(order("a", limit_price="90"))
        venue.commits.clear()
        for minute in (3, 3, 4, 2):
            await venue.client.advance(venue.session.instant_of(minute))
        await venue.told()
        await venue.client.barrier()
        assert venue.commits == []
        assert venue.rows("SELECT at FROM ledger_clock") == [("2008-10-01T13:32:00.000000Z",)]


@WITH_MARKET_TIME
async def test_a_request_of_another_time_is_a_violation(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(5)
        sent = await venue.client.submit(order("a", limit_price="90"))
        venue.clock.time = venue.session.instant_of(4)
        with pytest.raises(InvariantViolated, match="market time"):
            await venue.client.submit(order("b"))
        with pytest.raises(InvariantViolated, match="market time"):
            await venue.client.cancel(sent.report.broker_order_id)
        venue.clock.time = venue.session.instant_of(6)
        with pytest.raises(InvariantViolated, match="market time"):
            await venue.client.look_up("a")
        assert venue.rows("SELECT client_order_id FROM ledger_request WHERE fault = 'VIOLATION'") == [("b",), ("a",), ("a",)]


@pytest.mark.parametrize("opened", ["unix", "tcp"], indirect=True)
async def test_without_a_broker_reads_fail_and_requests_are_unresolved(opened: Opened) -> None:
    async with opened() as venue:
        await venue.to(5)
        sent = await venue.client.submit(order("a", limit_price="90"))
        venue.end_broker()
        assert (await venue.client.submit(order("b"))).outcome is SendOutcome.UNRESOLVED
        assert (await venue.client.look_up("a")).found is Found.UNKNOWN
        assert not await venue.client.cancel(sent.report.broker_order_id)
        for read in (venue.client.open_orders, venue.client.positions, venue.client.account, venue.client.barrier):
            with pytest.raises(Transient):
                await read()
        with pytest.raises(Transient):
            await venue.told()


@WITH_MARKET_TIME
async def test_a_call_ends_at_its_deadline_and_the_broker_still_decides(opened: Opened) -> None:
    release = threading.Event()

    class SlowMarket(ScriptedMarket):
        async def session_bars(self, session: Session) -> Any:
            release.wait(20)
            return await super().session_bars(session)

    async with opened(call_seconds=0.1, market=SlowMarket()) as venue:
        await venue.to(5)
        late = await venue.client.submit(order("a"))
        assert (late.outcome, late.report) == (SendOutcome.UNRESOLVED, None)
        release.set()
        patient = SimulatedBrokerClient(venue.clock, venue.transport, BrokerClientPolicy(20.0, 20.0, deduplicates_forever=True))
        await patient.barrier()
        assert (await patient.look_up("a")).found is Found.YES


async def test_positions_are_as_of_our_instant_also_where_the_market_is_ahead(opened: Opened) -> None:
    """A process that died after it had moved the market starts again at the instant before."""
    async with opened() as venue:
        await venue.to(2)
        await venue.client.submit(order("early"))
        await venue.to(4)
        await venue.client.submit(order("late", 7))
        before = await venue.client.positions()
        await venue.client.advance(venue.session.instant_of(6))
        assert await venue.client.positions() == before
        await venue.to(6)
        assert [(held.symbol, held.quantity) for held in await venue.client.positions()] == [("IBM", 17)]
