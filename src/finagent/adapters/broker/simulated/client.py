"""The agent's side: OrderExecutionPort over a transport, with the market time of each request."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from finagent.adapters.broker.simulated import wire
from finagent.adapters.broker.simulated.admission import DUPLICATE
from finagent.adapters.broker.simulated.transport import Transport
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.errors import InvariantViolated, Permanent, Transient
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import (
    Activity,
    BrokerAccount,
    BrokerPosition,
    Found,
    LookUp,
    Objection,
    OrderReport,
    OrderRequest,
    SendResult,
    no_objection,
)
from finagent.domain.time import to_text

VIOLATION, UNKNOWN = 409, 404
TARGET = "broker"
OnRequest = Callable[[str, str], None]  # the target and the outcome of a request that ended


@dataclass(frozen=True, slots=True)
class BrokerClientPolicy:
    """Deadlines of a call in seconds of wall time: `call_seconds` for requests, `advance_seconds` for a step of market time,
    in which the broker may have to load a session. `deduplicates_forever`: what this broker is known to do with used ids, and
    `stop_entry_brackets` whether it takes them."""

    call_seconds: float
    advance_seconds: float
    deduplicates_forever: bool
    stop_entry_brackets: bool = True


class SimulatedBrokerClient:
    """OrderExecutionPort and SimulatedVenue. Every request repeats the last instant that this client advanced to, so a broker
    that was started again catches up before it answers."""

    def __init__(
        self,
        clock: Clock,
        transport: Transport,
        policy: BrokerClientPolicy,
        on_request: OnRequest = lambda _target, _outcome: None,
    ) -> None:
        self._clock = clock
        self._on_request = on_request
        self._transport = transport
        self._policy = policy
        self._advanced: datetime | None = None

    @property
    def deduplicates_forever(self) -> bool:
        return self._policy.deduplicates_forever

    @property
    def stop_entry_brackets(self) -> bool:
        return self._policy.stop_entry_brackets

    async def close(self) -> None:
        """Give the connection back; an in-process broker ends with it."""
        await self._transport.close()

    async def advance(self, at: datetime) -> None:
        self._usable(await self._call("advance", {}, self._policy.advance_seconds, at))
        self._advanced = at

    async def barrier(self) -> None:
        """The broker ends one connection before it serves the next: any answer on ours will do."""
        self._usable(await self._call("barrier"))

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        if said := objection():
            return SendResult(SendOutcome.DENIED, message=said)
        try:
            answer = await self._call("submit", {"request": wire.request_to_json(request)})
        except Transient as error:
            return SendResult(SendOutcome.UNRESOLVED, message=str(error))
        status, body = answer.get("status", 0), answer.get("body") or {}
        if status == 200:
            return SendResult(SendOutcome.CONFIRMED, wire.report_from_json(body))
        code, message = str(body.get("code", "")), str(body.get("message", "no answer"))
        duplicate = (code, message) == (str(DUPLICATE.code), DUPLICATE.message)
        refused = 400 <= status < 500 and not duplicate
        return SendResult(SendOutcome.REFUSED if refused else SendOutcome.UNRESOLVED, None, code, message)

    async def look_up(self, client_order_id: str) -> LookUp:
        try:
            answer = await self._call("look_up", {"client_order_id": client_order_id})
        except Transient:
            return LookUp(Found.UNKNOWN)
        if answer.get("status") == 200:
            return LookUp(Found.YES, wire.report_from_json(answer["body"]))
        return LookUp(Found.NO if answer.get("status") == UNKNOWN else Found.UNKNOWN)

    async def cancel(self, broker_order_id: str) -> bool:
        try:
            answer = await self._call("cancel", {"broker_order_id": broker_order_id})
        except Transient:
            return False
        return answer.get("status") == 204

    async def activity(self, since: datetime, until: datetime) -> Activity:
        body = self._usable(await self._call("activity", {"since": to_text(since), "until": to_text(until)}))
        executions = tuple(wire.execution_from_json(execution) for execution in body["executions"])
        return Activity(executions, tuple(wire.report_from_json(order) for order in body["orders"]))

    async def open_orders(self) -> tuple[OrderReport, ...]:
        return tuple(wire.report_from_json(order) for order in self._usable(await self._call("open_orders")))

    async def positions(self) -> tuple[BrokerPosition, ...]:
        return tuple(BrokerPosition(symbol, held) for symbol, held in self._usable(await self._call("positions")))

    async def account(self) -> BrokerAccount:
        body = self._usable(await self._call("account"))
        return BrokerAccount(body["account_id"], Decimal(body["cash"]), Decimal(body["buying_power"]))

    async def _call(
        self, method: str, body: Json | None = None, deadline_seconds: float | None = None, at: datetime | None = None
    ) -> Json:
        """One frame and its answer. Raises InvariantViolated when the broker says that our time is not its own."""
        frame = {
            "method": method,
            "at": to_text(at or self._clock.now()),
            "advanced": to_text(self._advanced) if self._advanced else None,
            **(body or {}),
        }
        deadline_seconds = deadline_seconds or self._policy.call_seconds
        try:
            answer = await self._transport.call(frame, deadline_seconds, repeatable=method != "submit")
        except Transient:
            self._on_request(TARGET, "timeout")
            raise
        self._on_request(TARGET, _outcome(answer.get("status", 0)))
        if answer.get("status") == VIOLATION:
            raise InvariantViolated(f"broker: {answer['body']['message']}")
        return answer

    def _usable(self, answer: Json) -> Any:
        """The body of a read's answer; a read without one failed, which is not the same as empty."""
        status, body = answer.get("status", 0), answer.get("body")
        if status == 200:
            return body if body is not None else {}
        message = body.get("message", "") if isinstance(body, dict) else "no answer"
        if 400 <= status < 500:
            raise Permanent(f"broker: {status} {message}")
        raise Transient(f"broker: {status or 'withheld'} {message}")


def _outcome(status: int) -> str:
    if status in (200, 204):
        return "ok"
    return SendOutcome.REFUSED.value if 400 <= status < 500 else "unknown"
