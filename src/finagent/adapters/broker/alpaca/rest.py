"""One call of Alpaca's REST interface: within its deadline, its budget and what the broker can bear, judged when it ends."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from alpaca.common.rest import RESTClient
from alpaca.trading.client import TradingClient
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from finagent.adapters.broker.alpaca.breaker import CircuitBreaker
from finagent.adapters.broker.alpaca.budget import RateBudget
from finagent.adapters.broker.alpaca.errors import BreakerOpen, NotSent, Throttled, Unanswered, Unreadable, judge
from finagent.adapters.broker.alpaca.policy import Keys, RestPolicy
from finagent.adapters.broker.alpaca.threads import ClientThread, Reply, Request, ThreadPool
from finagent.domain.errors import FinagentError, Transient
from finagent.domain.ports.order_execution import Objection, no_objection
from finagent.telemetry.redaction import Redactor

OnRequest = Callable[[str, str], None]  # the target and the outcome of a request that ended
Parsed = TypeVar("Parsed")
Failure = (NotSent, Unanswered)


class Purpose(Enum):
    """What a request is for decides which threads and which part of the budget it may use, and what a failure means."""

    READ = "READ"
    LOOK_UP = "LOOK_UP"
    SUBMIT = "SUBMIT"
    CANCEL = "CANCEL"

    @property
    def urgent(self) -> bool:
        """Cancels and look-ups have threads and requests of their own."""
        return self in (Purpose.LOOK_UP, Purpose.CANCEL)

    @property
    def repeatable(self) -> bool:
        """A safe read may be made again within its deadline; a POST never."""
        return self in (Purpose.READ, Purpose.LOOK_UP)


class AlpacaRest:
    """Runs requests on threads of its own, each with a `client` of the SDK, at the broker or another `target`; never blocks the
    loop."""

    def __init__(
        self,
        policy: RestPolicy,
        keys: Keys,
        monotonic: Callable[[], float],
        on_request: OnRequest = lambda _target, _outcome: None,
        *,
        client: Callable[[RestPolicy, Keys], RESTClient] | None = None,
        target: str = "broker",
    ) -> None:
        self._policy, self._keys, self._on_request, self._target = policy, keys, on_request, target
        self._make_client = client or _trading_client
        self._clean = Redactor((keys.key_id, keys.secret_key)).text
        self._breaker = CircuitBreaker(policy.breaker_failures, policy.breaker_seconds, monotonic)
        self._budget = RateBudget(policy.requests_per_minute, policy.share, policy.reserved_requests, monotonic)
        self._ordinary = ThreadPool(policy.threads, "alpaca", self._client, policy.http)
        self._reserved = ThreadPool(policy.reserved_threads, "alpaca-urgent", self._client, policy.http)

    @property
    def url(self) -> str:
        return self._policy.url

    async def call(self, purpose: Purpose, request: Request, objection: Objection = no_objection) -> Any:
        """The result of the request. Raises NotSent, Unanswered or Refused; a safe read is tried again before that. `objection`
        is asked when a thread is there: what waited for one may not be wanted any more."""
        seconds = self._policy.http.deadline_seconds
        flight = _Flight()
        try:
            async with asyncio.timeout(seconds):
                result = await self._calls(purpose, request, objection, flight)
        except TimeoutError as error:
            self._on_request(self._target, "timeout")
            if flight.sent:
                raise Unanswered(f"{self._target}: no answer within {seconds:g} s") from error
            raise NotSent(f"{self._target}: every thread waited for it for {seconds:g} s") from error
        except FinagentError as error:
            self._on_request(self._target, "unknown" if isinstance(error, Transient) else "REFUSED")
            raise
        self._on_request(self._target, "ok")
        return result

    async def read(self, request: Request, parse: Callable[[Any], Parsed]) -> Parsed:
        """What a read's answer says; one that cannot be understood failed, which is not the same as empty."""
        body = await self.call(Purpose.READ, request)
        try:
            return parse(body)
        except Unreadable as error:
            raise Unanswered(f"{self._target}: an answer that cannot be read: {error}") from error

    async def close(self) -> None:
        """End the threads that do not wait for the broker."""
        for pool in (self._ordinary, self._reserved):
            await pool.close(self._policy.http.read_seconds)

    async def _calls(self, purpose: Purpose, request: Request, objection: Objection, flight: "_Flight") -> Any:
        if not purpose.repeatable:
            return await self._once(purpose, request, objection, flight)
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._worth_repeating),
            stop=stop_after_attempt(self._policy.read_attempts),
            wait=wait_random_exponential(self._policy.retry_wait_seconds, self._policy.http.deadline_seconds),
            reraise=True,
        )
        return await retrying(self._once, purpose, request, objection, flight)

    def _worth_repeating(self, error: BaseException) -> bool:
        return isinstance(error, Failure) and not isinstance(error, BreakerOpen | Throttled) and self._budget.take_retry()

    async def _once(self, purpose: Purpose, request: Request, objection: Objection, flight: "_Flight") -> Any:
        pool = self._reserved if purpose.urgent else self._ordinary
        thread = await pool.take()
        if said := objection():
            pool.give(thread)
            raise NotSent(said)
        self._admit(purpose, pool, thread)
        flight.sent, answered = True, False
        try:
            reply = await pool.run(thread, request, self._heard)
            error = judge(reply.error, self._clean) if reply.error is not None else None
            answered = error is None or not isinstance(error, Failure) or 0 < getattr(error, "status", 0) < 500
        finally:  # also when the deadline passed and nobody waits any more
            if answered:
                self._breaker.answered()
            else:
                self._breaker.failed()
        if isinstance(error, NotSent):
            flight.sent = False
        if error is not None:
            raise error from reply.error
        return reply.result

    def _admit(self, purpose: Purpose, pool: ThreadPool, thread: ClientThread) -> None:
        """Nothing but a cancel goes while the breaker is open; an order is never what finds out whether it can close."""
        if not self._budget.take(urgent=purpose.urgent):
            pool.give(thread)
            raise NotSent(f"{self._target}: the requests of this minute are used up")
        if purpose is not Purpose.CANCEL and not self._breaker.admits(probe=purpose is not Purpose.SUBMIT):
            pool.give(thread)
            raise BreakerOpen(f"{self._target}: it has not answered for a while")

    def _heard(self, reply: Reply) -> None:
        self._budget.correct(reply.headers)
        if reply.error is not None and isinstance(judge(reply.error, self._clean), Throttled):
            self._budget.throttled(reply.headers)

    def _client(self) -> RESTClient:
        return self._make_client(self._policy, self._keys)


def _trading_client(policy: RestPolicy, keys: Keys) -> RESTClient:
    return TradingClient(keys.key_id, keys.secret_key, paper=not policy.live, raw_data=True, url_override=policy.url)


@dataclass(slots=True)
class _Flight:
    """Whether any try of a call may have reached the broker."""

    sent: bool = False
