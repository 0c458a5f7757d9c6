"""Market data of the simulated Alpaca: the official OpenAPI, the official SDK, and nothing from the future."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from alpaca.data.enums import Adjustment
from alpaca.data.historical.news import NewsClient
from alpaca.data.historical.stock import StockHistoricalDataClient
from alpaca.data.live.stock import StockDataStream
from alpaca.data.requests import NewsRequest, StockBarsRequest, StockSnapshotRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from tests.contract.alpaca_api import KEYS, Alpaca, OpenApi, alpaca
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket
from websockets.asyncio.client import ClientConnection, connect

from finagent.adapters.broker.alpaca_simulator.halts import HaltingMarket
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.domain.bars import BarQuality

KEY, SECRET = KEYS.values()


@pytest.fixture(scope="session")
def market_data_api(market_data_folder: Path) -> OpenApi:
    file = market_data_folder / "alpaca-openapi" / "market-data-api.json"
    if not file.is_file():
        pytest.skip(f"Alpaca's official OpenAPI is not there: {file}")
    return OpenApi(file)


def gapping() -> ScriptedMarket:
    """AAPL opens at 105 and climbs a dollar a minute for three minutes; 100 otherwise."""
    market = ScriptedMarket()
    market.script["AAPL"] = {minute: (104 + minute, 106 + minute, 103 + minute, 105 + minute, 1e4) for minute in (1, 2, 3)}
    return market


async def test_every_market_data_answer_is_what_the_official_openapi_says(tmp_path: Path, market_data_api: OpenApi) -> None:
    async with alpaca(tmp_path, gapping()) as venue:
        await venue.to(30)
        query = {"symbols": "AAPL,IBM", "timeframe": "5Min", "limit": 3}
        for path, template in (
            ("/v2/stocks/bars", None),
            ("/v2/stocks/quotes", None),
            ("/v2/stocks/trades", None),
            ("/v2/stocks/bars/latest", None),
            ("/v2/stocks/quotes/latest", None),
            ("/v2/stocks/trades/latest", None),
            ("/v2/stocks/snapshots", None),
            ("/v1beta1/news", None),
            ("/v1beta1/screener/stocks/movers", "/v1beta1/screener/{market_type}/movers"),
            ("/v1beta1/screener/stocks/most-actives", None),
            ("/v1/corporate-actions", None),
        ):
            answer = await venue.get(path, **query)
            assert answer
            market_data_api.judge("GET", template or path, 200, answer)


async def test_the_official_sdk_reads_bars_to_the_last_page_and_none_from_the_future(tmp_path: Path) -> None:
    async with alpaca(tmp_path, gapping()) as venue:
        await venue.to(5)
        client = StockHistoricalDataClient(KEY, SECRET, url_override=venue.url)
        window = {"symbol_or_symbols": ["AAPL", "IBM"], "start": SESSIONS[0].opens_at, "end": SESSIONS[2].closes_at}
        asked = StockBarsRequest(timeframe=TimeFrame(1, TimeFrameUnit.Minute), adjustment=Adjustment.RAW, limit=7, **window)
        bars: Any = await asyncio.to_thread(client.get_stock_bars, asked)
        assert [bar.timestamp for bar in bars["AAPL"]] == [SESSIONS[0].instant_of(minute) for minute in range(5)]
        assert [bar.close for bar in bars["AAPL"]] == [106, 107, 108, 100, 100]
        assert len(bars["IBM"]) == 2  # the SDK's own limit
        pages, token = [], None
        while True:
            page = await venue.get(
                "/v2/stocks/bars",
                symbols="AAPL,IBM",
                timeframe="1Min",
                limit=4,
                start="2008-10-01",
                **({"page_token": token} if token else {}),
            )
            pages.append(sum(len(rows) for rows in page["bars"].values()))
            token = page["next_page_token"]
            if token is None:
                break
        assert pages == [4, 4, 2]


async def test_bars_are_grouped_by_the_clock_and_by_the_day(tmp_path: Path) -> None:
    async with alpaca(tmp_path, gapping()) as venue:
        await venue.to(40)
        hours = (await venue.get("/v2/stocks/bars", symbols="AAPL", timeframe="1Hour"))["bars"]["AAPL"]
        (day,) = (await venue.get("/v2/stocks/bars", symbols="AAPL", timeframe="1Day", start="2008-10-01"))["bars"]["AAPL"]
        thin = (await venue.get("/v2/stocks/bars", symbols="AAPL", timeframe="1Day", start="2008-10-01", feed="iex"))["bars"]
    assert [(bar["t"], bar["v"]) for bar in hours] == [
        ("2008-10-01T13:00:00.000000000Z", 300_000),
        ("2008-10-01T14:00:00.000000000Z", 100_000),
    ]
    assert (day["t"], day["o"], day["h"], day["l"], day["c"], day["v"]) == (
        "2008-10-01T04:00:00.000000000Z",
        105,
        109,
        100,
        100,
        400_000,
    )
    assert thin["AAPL"][0]["v"] == 10_000


async def test_snapshots_know_the_day_before_and_news_tells_of_gaps(tmp_path: Path) -> None:
    async with alpaca(tmp_path, gapping()) as venue:
        client = StockHistoricalDataClient(KEY, SECRET, url_override=venue.url)
        await venue.to(2)
        asked = StockSnapshotRequest(symbol_or_symbols=["AAPL"])
        snapshot: Any = (await asyncio.to_thread(client.get_stock_snapshot, asked))["AAPL"]
        assert (snapshot.previous_daily_bar.close, snapshot.daily_bar.open, snapshot.latest_trade.price) == (100, 105, 107)
        assert snapshot.latest_quote.bid_price <= 107 <= snapshot.latest_quote.ask_price
        news: Any = await asyncio.to_thread(NewsClient(KEY, SECRET, url_override=venue.url).get_news, NewsRequest(symbols="AAPL"))
        assert [item.headline for item in news["news"]] == ["AAPL opens 5.0% above the previous close"]
        movers = await venue.get("/v1beta1/screener/stocks/movers")
        assert [(mover["symbol"], mover["percent_change"]) for mover in movers["gainers"]] == [("AAPL", 7.0)]
        assert movers["losers"] == []


async def test_point_11_minutes_that_were_not_traded_have_no_bar(tmp_path: Path) -> None:
    market = gapping()
    market.broken = {("AAPL", 2): BarQuality.MISSING, ("AAPL", 3): BarQuality.BAD}
    async with alpaca(tmp_path, market) as venue:
        await venue.to(4)
        bars = (await venue.get("/v2/stocks/bars", symbols="AAPL", timeframe="1Min"))["bars"]["AAPL"]
    assert [bar["t"][14:16] for bar in bars] == ["30", "33"]


# -- streams -----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def subscribed(venue: Alpaca, **channels: list[str]) -> AsyncIterator[ClientConnection]:
    """A connection to the market data stream in msgpack."""
    headers = {"Content-Type": "application/msgpack"}
    async with connect(venue.url.replace("http", "ws") + "/v2/iex", additional_headers=headers) as socket:
        assert await told(socket) == [{"T": "success", "msg": "connected"}]
        await socket.send(msgpack.packb({"action": "auth", "key": KEY, "secret": SECRET}))
        assert await told(socket) == [{"T": "success", "msg": "authenticated"}]
        await socket.send(msgpack.packb({"action": "subscribe", **channels}))
        assert (await told(socket))[0]["T"] == "subscription"
        yield socket


async def told(socket: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        message = await socket.recv()
    assert isinstance(message, bytes)
    return msgpack.unpackb(message)


async def test_the_official_sdk_hears_bars_with_their_times(tmp_path: Path) -> None:
    async with alpaca(tmp_path, gapping()) as venue:
        heard: asyncio.Queue[Any] = asyncio.Queue(maxsize=100)

        async def hear(bar: Any) -> None:
            heard.put_nowait(bar)

        stream: Any = StockDataStream(KEY, SECRET, url_override=venue.url.replace("http", "ws") + "/v2/iex")
        stream.subscribe_bars(hear, "AAPL")
        await stream._start_ws()
        await stream._send_subscribe_msg()
        consuming = asyncio.ensure_future(stream._consume())
        async with asyncio.timeout(10):
            minute = 0
            while heard.empty():  # until the subscription is heard of
                minute += 1
                await venue.to(minute)
            bar = await heard.get()
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        await stream.close()
        assert (bar.symbol, bar.volume) == ("AAPL", 10_000)
        assert bar.timestamp.tzinfo is not None


async def test_point_13_times_are_msgpack_timestamps_and_a_second_connection_is_refused(tmp_path: Path) -> None:
    async with alpaca(tmp_path, gapping()) as venue, subscribed(venue, bars=["AAPL"], quotes=["AAPL"]) as socket:
        await venue.to(1)
        (bar,), (quote,) = await told(socket), await told(socket)
        assert (bar["T"], bar["c"], bar["t"].to_datetime()) == ("b", 106, SESSIONS[0].opens_at)
        assert (quote["T"], quote["t"].to_datetime()) == ("q", SESSIONS[0].instant_of(1))
        async with connect(venue.url.replace("http", "ws") + "/v2/iex") as second:
            await second.recv()
            await second.send('{"action": "auth", "key": "PKSIMULATOR", "secret": "simulator"}')
            assert await second.recv() == '[{"T": "error", "code": 406, "msg": "connection limit exceeded"}]'


async def test_point_10_halts_are_told_and_orders_wait_for_the_reopening(tmp_path: Path) -> None:
    market = gapping()
    market.broken = {("AAPL", minute): BarQuality.HALTED for minute in (2, 3)}
    async with alpaca(tmp_path, market) as venue, subscribed(venue, statuses=["AAPL"]) as socket:
        await venue.to(1)
        order = (await venue.post()).json()
        await venue.to(3)
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "new"
        await venue.to(4)
        filled = await venue.get(f"/v2/orders/{order['id']}")
        assert (filled["status"], filled["filled_avg_price"]) == ("filled", "100")
        statuses = [(await told(socket))[0] for _ in range(2)]
    assert [(status["sc"], status["t"].to_datetime()) for status in statuses] == [
        ("H", SESSIONS[0].instant_of(2)),
        ("T", SESSIONS[0].instant_of(4)),
    ]


async def test_a_halt_may_be_scripted_from_now_on_and_resting_orders_wait_for_its_end(tmp_path: Path) -> None:
    async with alpaca(tmp_path, gapping()) as venue, subscribed(venue, statuses=["AAPL"]) as socket:
        await venue.to(2)
        order = (await venue.post()).json()
        halt = {"symbol": "AAPL", "at": SESSIONS[0].instant_of(2).isoformat(), "minutes": 3}
        assert (await venue.http.post("/control/halts", json={"halts": [halt]})).status_code == 200
        await venue.to(5)
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "new"
        bars = await venue.get("/v2/stocks/bars", symbols="AAPL,IBM", timeframe="1Min", start=SESSIONS[0].opens_at.isoformat())
        assert {symbol: len(rows) for symbol, rows in bars["bars"].items()} == {"AAPL": 2, "IBM": 5}
        await venue.to(6)
        assert (await venue.get(f"/v2/orders/{order['id']}"))["status"] == "filled"
        statuses = [(await told(socket))[0] for _ in range(2)]
        assert [(status["sc"], status["t"].to_datetime()) for status in statuses] == [
            ("H", SESSIONS[0].instant_of(3)),
            ("T", SESSIONS[0].instant_of(6)),
        ]
        for wrong in ({**halt, "symbol": "NOSUCH"}, halt, {"symbol": "IBM"}, {**halt, "at": "now"}):
            assert (await venue.http.post("/control/halts", json={"halts": [wrong]})).status_code == 422


async def test_halts_are_drawn_by_seed(tmp_path: Path) -> None:
    halted = []
    for number, rate in enumerate((1.0, 1.0, 0.0)):
        market = HaltingMarket(ScriptedMarket(), 5, rate)
        bars = [await market.session_bars(session) for session in market.sessions()]
        halted.append([int((each.quality == BarQuality.HALTED).sum()) for each in bars])
        assert all(15 <= count <= 90 for count in halted[number]) or rate == 0
    assert halted[0] == halted[1]
    assert halted[2] == [0, 0, 0]


async def test_point_11_a_corrected_bar_comes_a_minute_later(tmp_path: Path) -> None:
    policy = AlpacaSimulatorPolicy(corrected_bars=1.0)
    async with alpaca(tmp_path, gapping(), policy) as venue, subscribed(venue, bars=["IBM"], updatedBars=["IBM"]) as socket:
        await venue.to(2)
        messages = [(await told(socket))[0] for _ in range(3)]
    assert [(m["T"], m["v"], m["t"].to_datetime().minute) for m in messages] == [
        ("b", 9000, 30),
        ("u", 10_000, 30),
        ("b", 9000, 31),
    ]
