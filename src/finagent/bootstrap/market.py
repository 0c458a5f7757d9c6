"""The market data that the settings name."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.files import FilesHistory, files_history, files_source
from finagent.adapters.market_data.sample import sample_market
from finagent.adapters.market_data.simulated import simulated_market
from finagent.domain.errors import BadInput
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.news import NewsPort
from finagent.domain.ports.quotes import QuotePort
from finagent.policies import alpaca_market_policies, bridged_market_policy, files_policy, scan_rules, simulated_policy
from finagent.services.past_scan import PastScanPolicy, PastScanReport, VolumeBasis, scan_past_sessions
from finagent.settings import Settings, alpaca_keys
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.adapters.market_data.alpaca.market import AlpacaMarket
    from finagent.adapters.news.alpaca import AlpacaNews


@dataclass(frozen=True, slots=True)
class Sources:
    """Where bars, quotes and news come from (None: nowhere)."""

    market: MarketDataPort
    quotes: QuotePort | None = None
    news: NewsPort | None = None


def market_seconds(settings: Settings) -> Callable[[], float]:
    """Seconds of the market on wall time, for what counts them: as many as the simulated exchange has where there is one."""
    return lambda: time.monotonic() * settings.wall_time.pace


def build_live_market(settings: Settings, clock: Clock, metrics: Metrics) -> "AlpacaMarket":
    """Alpaca's market data on wall time."""
    from finagent.adapters.broker.alpaca.rest import AlpacaRest
    from finagent.adapters.market_data.alpaca.market import AlpacaMarket, data_client

    policy, rest_policy = alpaca_market_policies(settings)
    keys = Keys(*alpaca_keys(settings))
    rest = AlpacaRest(rest_policy, keys, market_seconds(settings), metrics.api_request, client=data_client, target="market_data")
    return AlpacaMarket(rest, keys, NewYorkCalendar(), clock, policy)


@asynccontextmanager
async def open_news(settings: Settings) -> AsyncIterator[NewsPort]:
    """The news of the source that the settings name. Raises BadInput for one that has none."""
    if settings.market_data.source == "alpaca":
        source = build_alpaca_news(settings)
        try:
            yield source
        finally:
            await source.close()
        return
    recorded = build_sources(settings).news
    if recorded is None:
        raise BadInput(f"market_data.source is {settings.market_data.source}: no news are there")
    yield recorded


def build_alpaca_news(settings: Settings) -> "AlpacaNews":
    """Alpaca's archive of articles; who asks for it closes it."""
    from finagent.adapters.broker.alpaca.rest import AlpacaRest
    from finagent.adapters.market_data.alpaca.market import data_client
    from finagent.adapters.news.alpaca import AlpacaNews

    keys, policy = Keys(*alpaca_keys(settings)), alpaca_market_policies(settings)[1]
    return AlpacaNews(AlpacaRest(policy, keys, market_seconds(settings), client=data_client, target="news"))


def build_market(settings: Settings) -> MarketDataPort:
    """The recorded or simulated bars that the settings name. Raises BadInput for a source that is only there on wall time."""
    return build_sources(settings).market


def build_sources(settings: Settings, market: MarketDataPort | None = None) -> Sources:
    """What the recorded or simulated source of the settings has; see `build_market`. `market` is one that was made before: what
    is known of it must not depend on who made it."""
    if market is not None:
        return Sources(market)
    data, seed = settings.market_data, settings.replay.seed
    policy = bridged_market_policy(settings)
    if data.source == "sample":
        first, last = data.first_session, data.last_session
        return Sources(sample_market(NewYorkCalendar(), seed=seed, first=first, last=last, policy=policy, symbols=data.symbols))
    if data.source == "simulated":
        if data.symbols:
            raise BadInput(
                "market_data.symbols: a simulated market names its own symbols; market_data.simulated.symbols counts them"
            )
        market = simulated_market(
            NewYorkCalendar(),
            symbols_count=data.simulated.symbols,
            seed=seed,
            first=data.first_session,
            last=data.last_session,
            policy=simulated_policy(settings),
        )
        return Sources(market)
    if data.source == "alpaca":
        raise BadInput("market_data.source is alpaca: only orchestrate.mode paper and live have it")
    files = files_source(
        Path(data.source.removeprefix("files:")),
        NewYorkCalendar(),
        seed=seed,
        first=data.first_session,
        last=data.last_session,
        policy=files_policy(settings),
        symbols=data.symbols,
    )
    return Sources(files.market, files.quotes, files.news)


def scan_past(
    settings: Settings, location: Path, first: date, last: date, volume: VolumeBasis
) -> tuple[PastScanReport, FilesHistory]:
    """Scan the past sessions of a folder of daily bars with the rules of trading."""
    history = files_history(location, NewYorkCalendar(), first=first, last=last, policy=files_policy(settings))
    past = settings.past_scan
    policy = PastScanPolicy(past.top_gaps, past.full_day_relative_volume_min)
    return scan_past_sessions(history.sessions, scan_rules(settings), volume, policy), history
