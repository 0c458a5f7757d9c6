"""The HTTP server: routes, keys, and how a question becomes an answer."""

import asyncio
import contextlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.server import ServerState

from finagent.adapters.broker.alpaca_simulator.account import AccountDesk
from finagent.adapters.broker.alpaca_simulator.desk import Desk, Refused, Withheld
from finagent.adapters.broker.alpaca_simulator.faults import (
    FaultSource,
    FaultyConnection,
    ReachableTransport,
    faults_from_json,
    reset,
)
from finagent.adapters.broker.alpaca_simulator.halts import HaltingMarket, halts_from_json
from finagent.adapters.broker.alpaca_simulator.market_data import MarketData, MarketDataPolicy
from finagent.adapters.broker.alpaca_simulator.orders import BAD_REQUEST, OrderDesk, instant_of
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.adapters.broker.alpaca_simulator.rate_limit import RateLimit
from finagent.adapters.broker.alpaca_simulator.streams import MarketStreams, TradeUpdates
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.policy import BrokerPolicy
from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.clock import AFTER_CLOSE_MINUTES, PacedTime, wall_now
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import MINUTE, Session
from finagent.domain.time import to_text

log = structlog.get_logger(__name__)
SHUTDOWN_SECONDS, RETRY_SECONDS = 1, 1
Answer = Callable[[Request], Awaitable[Response]]


class AlpacaSimulator:
    """Alpaca's REST in front of one simulated broker. Owns the broker."""

    def __init__(
        self,
        broker: SimulatedBroker,
        terms: BrokerPolicy,
        market: MarketDataPort,
        policy: AlpacaSimulatorPolicy,
        calendar: ExchangeCalendar,
    ) -> None:
        self.policy, self._market = policy, market
        self.desk = Desk(broker, market.sessions()[0].opens_at)
        self.faults = FaultSource(policy.seed, policy.fault_rates, reads=policy.faulty_reads)
        keys = (policy.key_id, policy.secret)
        self._updates = TradeUpdates(self.desk, self.faults, keys)
        self._streams = MarketStreams(self.faults, keys)
        market_policy = MarketDataPolicy(float(terms.spread_bps), policy.corrected_bars, policy.seed)
        self._data = MarketData(self.desk, market, calendar, market_policy)
        self.desk.clocks.append(self._stream)
        self._orders = OrderDesk(self.desk, terms.start_cash_usd, calendar)
        self._account = AccountDesk(self.desk, terms, calendar, market.symbols)

    async def close(self) -> None:
        """End the broker's thread, then the broker."""
        await self.desk.close()

    def app(self) -> ASGIApp:
        """The ASGI application."""
        trading = (
            ("/v2/orders", {"POST": self._place, "GET": self._list, "DELETE": self._cancel_all}),
            ("/v2/orders:by_client_order_id", {"GET": self._get_named}),
            ("/v2/orders/{order_id}", {"GET": self._get, "PATCH": self._replace, "DELETE": self._cancel}),
            ("/v2/positions", {"GET": self._positions, "DELETE": self._close_all}),
            ("/v2/positions/{symbol}", {"GET": self._position, "DELETE": self._close}),
            ("/v2/account", {"GET": self._told_account}),
            ("/v2/account/configurations", {"GET": self._configurations, "PATCH": self._configure}),
            ("/v2/account/activities/FILL", {"GET": self._fills}),
            ("/v2/account/activities", {"GET": self._fills}),
            ("/v2/clock", {"GET": self._clock}),
            ("/v2/calendar", {"GET": self._calendar}),
            ("/v2/assets", {"GET": self._assets}),
            ("/v2/assets/{symbol}", {"GET": self._asset}),
        )
        data = (
            ("/v2/stocks/bars", {"GET": _query(self._data.bars)}),
            ("/v2/stocks/quotes", {"GET": _query(self._data.quotes)}),
            ("/v2/stocks/trades", {"GET": _query(self._data.trades)}),
            ("/v2/stocks/{kind:str}/latest", {"GET": self._latest}),
            ("/v2/stocks/snapshots", {"GET": _query(self._data.snapshots)}),
            ("/v1beta1/screener/stocks/movers", {"GET": _query(self._data.movers)}),
            ("/v1beta1/screener/stocks/most-actives", {"GET": _query(self._data.most_actives)}),
            ("/v1beta1/news", {"GET": _query(self._data.news)}),
            ("/v1/corporate-actions", {"GET": self._corporate_actions}),
            ("/v2/corporate_actions/announcements", {"GET": self._announcements}),
        )
        routes: list[BaseRoute] = [
            Route(path, self._answered(answer), methods=[method])
            for path, answers in trading + data
            for method, answer in answers.items()
        ]
        routes.append(Route("/control/advance", self._answered(self._advance, keys=False), methods=["POST"]))
        routes.append(Route("/control/clock", self._answered(self._control_clock, keys=False), methods=["GET"]))
        routes.append(Route("/control/halts", self._answered(self._halt, keys=False), methods=["POST"]))
        routes.append(Route("/control/faults", self._answered(self._script, keys=False), methods=["POST"]))
        routes.append(WebSocketRoute("/stream", self._updates.serve))
        routes.append(WebSocketRoute("/v2/{feed}", self._market_stream))
        routes.append(WebSocketRoute("/v1beta1/news", self._news_stream))
        app: ASGIApp = FaultyConnection(Starlette(routes=routes), self.faults, self.desk)
        if self.policy.requests_per_minute:
            seconds = self._market_seconds if self.policy.requests_by == "market" else time.time
            app = RateLimit(app, self.policy.requests_per_minute, seconds)
        return app

    def _market_seconds(self) -> float:
        return self.desk.now.timestamp()

    def _answered(self, answer: Answer, *, keys: bool = True) -> Answer:
        """The route with keys checked and refusals told."""

        async def route(request: Request) -> Response:
            try:
                if keys:
                    self._require_keys(request)
                return await answer(request)
            except BadInput as error:
                return JSONResponse({"code": BAD_REQUEST, "message": str(error)}, 422)
            except Refused as refused:
                return JSONResponse(refused.body, refused.status)
            except Withheld:
                await reset(request.scope, request.receive)
                return Silence()

        return route

    def _require_keys(self, request: Request) -> None:
        key, secret = request.headers.get("apca-api-key-id"), request.headers.get("apca-api-secret-key")
        if key is None or secret is None:
            raise Refused(401, None, "unauthorized.")
        same = hmac.compare_digest(f"{key}:{secret}".encode(), f"{self.policy.key_id}:{self.policy.secret}".encode())
        if not same:
            raise Refused(403, None, "forbidden.")

    # -- orders --------------------------------------------------------------------------------------------------------------

    async def _place(self, request: Request) -> Response:
        return JSONResponse(await self._orders.place(await _body(request), request.state.fault))

    async def _list(self, request: Request) -> Response:
        return JSONResponse(await self._orders.page(request.query_params))

    async def _get(self, request: Request) -> Response:
        return JSONResponse(await self._orders.get(request.path_params["order_id"], _true(request, "nested")))

    async def _get_named(self, request: Request) -> Response:
        name = request.query_params.get("client_order_id", "")
        return JSONResponse(await self._orders.get_named(name, _true(request, "nested")))

    async def _replace(self, request: Request) -> Response:
        return JSONResponse(await self._orders.replace(request.path_params["order_id"], await _body(request)))

    async def _cancel(self, request: Request) -> Response:
        await self._orders.cancel(request.path_params["order_id"], request.state.fault)
        return Response(status_code=204)

    async def _cancel_all(self, request: Request) -> Response:
        return JSONResponse(await self._orders.cancel_all(), 207)

    async def _close(self, request: Request) -> Response:
        symbol = self._account.symbol(request.path_params["symbol"])
        return JSONResponse(await self._orders.close(symbol, request.query_params))

    async def _close_all(self, request: Request) -> Response:
        return JSONResponse(await self._orders.close_all(_true(request, "cancel_orders")), 207)

    # -- account -------------------------------------------------------------------------------------------------------------

    async def _positions(self, request: Request) -> Response:
        return JSONResponse(await self._account.positions())

    async def _position(self, request: Request) -> Response:
        return JSONResponse(await self._account.position(request.path_params["symbol"]))

    async def _told_account(self, request: Request) -> Response:
        return JSONResponse(await self._account.account())

    async def _configurations(self, request: Request) -> Response:
        return JSONResponse(self._account.configurations)

    async def _configure(self, request: Request) -> Response:
        configurations = self._account.configure(await _body(request))
        self._orders.suspended = bool(configurations["suspend_trade"])
        return JSONResponse(configurations)

    async def _fills(self, request: Request) -> Response:
        return JSONResponse(await self._account.fills(request.query_params))

    async def _clock(self, request: Request) -> Response:
        return JSONResponse(self._account.clock())

    async def _calendar(self, request: Request) -> Response:
        return JSONResponse(self._account.calendar(request.query_params))

    async def _assets(self, request: Request) -> Response:
        return JSONResponse(self._account.assets())

    async def _asset(self, request: Request) -> Response:
        return JSONResponse(self._account.asset(request.path_params["symbol"]))

    # -- market data ---------------------------------------------------------------------------------------------------------

    async def _latest(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in ("bars", "quotes", "trades"):
            raise Refused(404, None, "not found")
        return JSONResponse(await self._data.latest(kind, request.query_params))

    async def _corporate_actions(self, request: Request) -> Response:
        """The market source tells of none: its prices come as they were traded."""
        return JSONResponse({"corporate_actions": {}, "next_page_token": None})

    async def _announcements(self, request: Request) -> Response:
        return JSONResponse([])

    # -- streams -------------------------------------------------------------------------------------------------------------

    async def _market_stream(self, websocket: WebSocket) -> None:
        await self._streams.serve(websocket, websocket.path_params["feed"])

    async def _stream(self, before: datetime, now: datetime) -> None:
        """Market time moved: tell the listeners of the minutes that it passed."""
        for batch in await self._data.messages(self._streams.wanted(), before, now):
            self._streams.tell(batch)

    async def _news_stream(self, websocket: WebSocket) -> None:
        await self._streams.serve(websocket, "news")

    # -- control -------------------------------------------------------------------------------------------------------------

    async def _advance(self, request: Request) -> Response:
        """Market time moves to `at`; answers when everything due by then has happened."""
        at = instant_of((await _body(request)).get("at"), "at")
        if at is None:
            raise Refused(422, BAD_REQUEST, "at: an instant with its zone is required")
        await self.desk.advance(at)
        return await self._control_clock(request)

    async def _script(self, request: Request) -> Response:
        """`{"script": [...]}` takes the place of the script before."""
        self.faults.script[:] = faults_from_json((await _body(request)).get("script") or [])
        return JSONResponse({"entries": len(self.faults.script)})

    async def _halt(self, request: Request) -> Response:
        """`{"halts": [{"symbol", "at", "minutes"}]}` takes the place of the halts before."""
        if not isinstance(self._market, HaltingMarket):
            raise Refused(404, None, "this market cannot be halted")
        halts = halts_from_json((await _body(request)).get("halts") or [], self._market.symbols, self.desk.now)
        begun = [halt for halt in self._market.script if halt.at < self.desk.now]
        self._market.script[:] = [*begun, *halts]
        await self.desk.ask(lambda broker: broker.forget_bars())
        return JSONResponse({"entries": len(halts)})

    async def _control_clock(self, request: Request) -> Response:
        """Market time, and how many connections listen to something."""
        return JSONResponse({"at": to_text(self.desk.now), "listeners": self._updates.listeners + self._streams.listeners})


class Silence(Response):
    """No answer: the connection is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


def _query(read: Callable[[Mapping[str, str]], Awaitable[Any]]) -> Answer:
    """A route that hands the query on."""

    async def answer(request: Request) -> Response:
        return JSONResponse(await read(request.query_params))

    return answer


async def _body(request: Request) -> Any:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, 40010000, "request body format is invalid")
    return body


def _true(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() == "true"


@asynccontextmanager
async def alpaca_simulator(
    broker: SimulatedBroker,
    terms: BrokerPolicy,
    market: MarketDataPort,
    policy: AlpacaSimulatorPolicy | None = None,
    calendar: ExchangeCalendar | None = None,
) -> AsyncIterator[str]:
    """Serve while the block runs; gives the base URL, without a slash at its end. The broker ends with it."""
    policy = policy or AlpacaSimulatorPolicy()
    simulator = AlpacaSimulator(broker, terms, market, policy, calendar or NewYorkCalendar())
    listening = _bound(policy)
    host, port = listening.getsockname()[:2]
    moving = asyncio.create_task(_keep_pace(simulator.desk, market.sessions(), policy.pace), name="alpaca-simulator-time")
    try:
        async with _serving(simulator.app(), listening):
            yield f"http://{host}:{port}"
    finally:
        moving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await moving
        await simulator.close()


@asynccontextmanager
async def _serving(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """uvicorn's protocols on this loop. Its own server would look at the clock ten times a second and take the signals."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="websockets-sansio")
    config.load()
    state = ServerState()

    def protocol() -> ReachableTransport:
        return ReachableTransport(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(protocol, sock=listening)
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=SHUTDOWN_SECONDS)
        for task in list(state.tasks):
            task.cancel()  # it waits for a client that waits for it
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def _keep_pace(desk: Desk, sessions: Sequence[Session], pace: float) -> None:
    """Move market time with wall time, from where the ledger stands. A step that the broker cannot take is tried again."""
    if not pace:
        return
    passed = sum(
        session.opens_at + minute * MINUTE <= desk.now
        for session in sessions
        for minute in range(session.minutes + AFTER_CLOSE_MINUTES + 1)
    )
    began = wall_now() - (passed - 1) * MINUTE / pace
    paced = PacedTime(tuple(sessions), began, pace)
    while (at := await paced.next_instant(desk.now)) is not None:
        try:
            await desk.advance(at)
        except Refused as refused:
            log.warning("market_time_stands", at=to_text(desk.now), reason=str(refused))
            await paced.pause(RETRY_SECONDS)


def _bound(policy: AlpacaSimulatorPolicy) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, else asyncio leaves Nagle on
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((policy.host, policy.port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise Unavailable(
            f"alpaca_simulator.port {policy.port} on {policy.host} cannot be used: {error.strerror}; 0 takes any free one"
        ) from error
    return listening
