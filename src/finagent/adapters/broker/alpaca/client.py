"""OrderExecutionPort at Alpaca, paper or live; and the same over the Alpaca simulator, whose market moves when told to."""

from collections import Counter
from datetime import datetime, timedelta
from urllib.parse import quote

import httpx
import structlog
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import OrderRequest as AlpacaOrder

from finagent.adapters.broker.alpaca import wire
from finagent.adapters.broker.alpaca.errors import NotSent, Refused, Unanswered, Unreadable
from finagent.adapters.broker.alpaca.orders import order_data
from finagent.adapters.broker.alpaca.policy import AlpacaPolicy
from finagent.adapters.broker.alpaca.rest import AlpacaRest, Purpose
from finagent.adapters.broker.alpaca.threads import Request
from finagent.adapters.broker.alpaca.wire import Json
from finagent.domain.errors import BadInput, InvariantViolated, Transient
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import (
    Activity,
    BrokerAccount,
    BrokerPosition,
    ExecutionReport,
    Found,
    LookUp,
    Objection,
    OrderReport,
    OrderRequest,
    SendResult,
    no_objection,
)
from finagent.domain.time import to_text

ORDERS_PER_PAGE, ACTIVITIES_PER_PAGE = 500, 100  # the most that Alpaca gives
PAGES_MAX = 100
ORDERS_PER_GROUP_MAX = 3  # an entry, its target and its stop
UNKNOWN, ENDED = 404, 422
TICK = timedelta(microseconds=1)
AHEAD_MAX = timedelta(days=4)  # from one bar to the next: a long weekend
log = structlog.get_logger(__name__)


class AlpacaClient:
    """Nothing is sent before the broker has named the account that the settings name."""

    def __init__(self, rest: AlpacaRest, clock: Clock, policy: AlpacaPolicy) -> None:
        self._rest, self._clock, self._policy = rest, clock, policy
        self._unsettled_since = clock.now()  # an earlier process may have sent until now
        self._in_flight = 0
        self._pinned = False

    @property
    def deduplicates_forever(self) -> bool:
        return self._policy.deduplicates_forever

    @property
    def stop_entry_brackets(self) -> bool:
        return False  # a bracket's entry is a market or a limit order there

    async def close(self) -> None:
        """Give the connections back."""
        await self._rest.close()

    async def barrier(self) -> None:
        """Raises Transient until every request that got no answer, of this process or of the one before, is too old to arrive."""
        settled_at = self._unsettled_since + timedelta(seconds=self._policy.settle_seconds)
        if self._in_flight or self._clock.now() < settled_at:
            raise Transient(f"broker: a request without an answer may arrive until {to_text(settled_at)}")

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        if not self._pinned:
            return SendResult(SendOutcome.DENIED, message="the broker has not named its account yet")
        try:
            data = order_data(request)
        except BadInput as error:
            return SendResult(SendOutcome.DENIED, message=str(error))
        self._in_flight += 1
        result = None
        try:
            result = await self._send(request.client_order_id, data, objection)
            return result
        finally:  # also when nobody waits any more
            self._in_flight -= 1
            if result is None or result.outcome is SendOutcome.UNRESOLVED:
                self._unsettled_since = self._clock.now()

    async def _send(self, client_order_id: str, data: AlpacaOrder, objection: Objection) -> SendResult:
        try:
            report = wire.order_report(await self._rest.call(Purpose.SUBMIT, lambda sdk: sdk.submit_order(data), objection))
        except NotSent as error:
            return SendResult(SendOutcome.DENIED, message=str(error))
        except Refused as error:
            return SendResult(SendOutcome.REFUSED, None, error.code, error.message)
        except Unanswered as error:
            return SendResult(SendOutcome.UNRESOLVED, None, error.code, error.message)
        except Unreadable as error:
            log.warning("answer_unreadable", client_order_id=client_order_id, error=str(error))
            return SendResult(SendOutcome.UNRESOLVED, message=str(error))
        if report.client_order_id != client_order_id:
            return SendResult(SendOutcome.UNRESOLVED, message=f"the answer names {report.client_order_id}")
        return SendResult(SendOutcome.CONFIRMED, report)

    async def look_up(self, client_order_id: str) -> LookUp:
        query = {"client_order_id": client_order_id, "nested": "true"}
        try:
            body = await self._rest.call(Purpose.LOOK_UP, lambda sdk: sdk.get("/orders:by_client_order_id", query))
            report = wire.order_report(body)
        except Refused as error:
            return LookUp(Found.NO if error.status == UNKNOWN else Found.UNKNOWN)
        except Transient:
            return LookUp(Found.UNKNOWN)
        except Unreadable as error:
            log.warning("answer_unreadable", client_order_id=client_order_id, error=str(error))
            return LookUp(Found.UNKNOWN)
        return LookUp(Found.YES, report) if report.client_order_id == client_order_id else LookUp(Found.UNKNOWN)

    async def cancel(self, broker_order_id: str) -> bool:
        try:
            await self._rest.call(Purpose.CANCEL, lambda sdk: sdk.delete(_order_path(broker_order_id)))
        except Refused as error:
            return error.status == ENDED and await self._cancel_legs(broker_order_id)
        except Transient:
            return False
        return True

    async def _cancel_legs(self, broker_order_id: str) -> bool:
        """An order that ended takes no cancel, though its legs may live: any of them takes the others along."""
        try:
            body = await self._rest.call(Purpose.LOOK_UP, lambda sdk: sdk.get(_order_path(broker_order_id), {"nested": "true"}))
            legs = [leg.broker_order_id for leg in wire.order_report(body).legs if leg.state.live]
            if legs:
                await self._rest.call(Purpose.CANCEL, lambda sdk: sdk.delete(_order_path(legs[0])))
        except (Transient, Refused, Unreadable):
            return False
        return bool(legs)

    async def activity(self, since: datetime, until: datetime) -> Activity:
        executions = await self._executions(since, until)
        orders = []
        for body in await self._orders("all", self._earliest(since)):
            try:
                group = list(wire.flat([wire.order_report(body)]))
                new = [report for report in group if since <= report.updated_at <= until]
                orders += [group[0], *(report for report in new if report is not group[0])] if new else []  # a leg by its parent
            except Unreadable as error:  # its executions are told all the same, and reconciliation will miss it
                log.warning("order_unreadable", broker_order_id=str(body.get("id")), error=str(error))
        return Activity(executions, tuple(orders))

    async def open_orders(self) -> tuple[OrderReport, ...]:
        """Recent orders of any state tell which legs belong to which parent; open ones may be older than that."""
        recent = await self._orders("all", self._earliest(self._clock.now()))
        bodies = [*recent, *await self._orders("open", None)]
        try:
            reports = list(wire.flat(wire.order_report(body) for body in bodies))
        except Unreadable as error:
            raise Unanswered(f"broker: {error}") from error
        known: dict[str, OrderReport] = {}
        for report in reports:
            if report.broker_order_id not in known or report.parent_broker_order_id is not None:
                known[report.broker_order_id] = wire.without_legs(report)
        return tuple(report for report in known.values() if report.state.live)

    async def positions(self) -> tuple[BrokerPosition, ...]:
        return await self._rest.read(TradingClient.get_all_positions, wire.positions)

    async def account(self) -> BrokerAccount:
        """The account. Raises BadInput when the first answer is of another than the settings name, InvariantViolated when a later
        one is."""
        told = await self._rest.read(TradingClient.get_account, wire.account)
        named, ours = told.account.account_id, self._policy.account_id
        if named != ours and self._pinned:
            raise InvariantViolated(f"the broker's account is {named} now; it was {ours}")
        if named != ours:
            raise BadInput(
                f"the keys are of account {named}, broker.account_id is {ours}: set it, or use the keys of that account"
            )
        self._pinned = True
        if told.blocks:
            log.error("account_blocked", account_id=named, blocks=told.blocks)
        return told.account

    async def _executions(self, since: datetime, until: datetime) -> tuple[ExecutionReport, ...]:
        """Asked for a little more than the span, since who includes its ends is not documented."""
        span: Json = {
            "after": to_text(since - timedelta(seconds=1)),
            "until": to_text(until + timedelta(seconds=1)),
            "direction": "asc",
            "page_size": ACTIVITIES_PER_PAGE,
        }
        found: dict[str, ExecutionReport] = {}
        token: str | None = None
        for _ in range(PAGES_MAX):
            query = span | ({"page_token": token} if token else {})
            page = await self._rest.read(_get("/account/activities/FILL", query), wire.executions)
            new = {report.execution_id: report for report in page if report.execution_id not in found}
            found |= new
            if not new or len(page) < ACTIVITIES_PER_PAGE:
                return tuple(report for report in found.values() if since <= report.at <= until)
            token = page[-1].execution_id
        raise Transient(f"broker: more than {PAGES_MAX} pages of executions")

    async def _orders(self, status: str, after: datetime | None) -> list[Json]:
        """Orders submitted after an instant, oldest first, with their legs: every page, or no answer at all."""
        found: dict[str, Json] = {}
        for _ in range(PAGES_MAX):
            query: Json = {"status": status, "limit": ORDERS_PER_PAGE, "direction": "asc", "nested": "true"}
            if after is not None:
                query["after"] = to_text(after)
            page, last_submitted = await self._rest.read(_get("/orders", query), wire.page_of_orders)
            new = page.keys() - found.keys()
            found |= page
            if not new or len(page) * ORDERS_PER_GROUP_MAX < ORDERS_PER_PAGE:  # legs may count too
                return list(found.values())
            after = last_submitted - TICK
        raise Transient(f"broker: more than {PAGES_MAX} pages of orders")

    def _earliest(self, at: datetime) -> datetime:
        return at - timedelta(hours=self._policy.lookback_hours)


class AlpacaVenue(AlpacaClient):
    """AlpacaClient and SimulatedVenue over the Alpaca simulator; `advance_seconds` bounds a step of its market."""

    def __init__(self, rest: AlpacaRest, clock: Clock, policy: AlpacaPolicy, advance_seconds: float) -> None:
        super().__init__(rest, clock, policy)
        self._control = httpx.AsyncClient(base_url=rest.url, timeout=advance_seconds, trust_env=False)

    async def positions(self) -> tuple[BrokerPosition, ...]:
        """As of our instant: after a crash the market may be a minute ahead of a process that starts again."""
        now = self._clock.now()
        held = Counter({position.symbol: position.quantity for position in await super().positions()})
        for execution in await self._executions(now + TICK, now + AHEAD_MAX):
            held[execution.symbol] -= execution.side.sign * execution.quantity
        return tuple(BrokerPosition(symbol, quantity) for symbol, quantity in held.items() if quantity)

    async def advance(self, at: datetime) -> None:
        try:
            answer = await self._control.post("/control/advance", json={"at": to_text(at)})
        except httpx.HTTPError as error:
            raise Transient(f"broker: no answer to advance ({type(error).__name__})") from error
        if answer.status_code >= 500:
            raise Transient(f"broker: {answer.status_code} to advance")
        if answer.is_error:
            raise InvariantViolated(f"broker: {answer.status_code} {answer.text[:200]}")

    async def close(self) -> None:
        await super().close()
        await self._control.aclose()


def _get(path: str, query: Json) -> Request:
    return lambda sdk: sdk.get(path, query)


def _order_path(broker_order_id: str) -> str:
    return f"/orders/{quote(broker_order_id, safe='')}"
