"""The market data that the settings name."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.files import FilesHistory, files_history, files_market
from finagent.adapters.market_data.sample import sample_market
from finagent.adapters.market_data.simulated import simulated_market
from finagent.domain.errors import BadInput
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.news import NewsPort
from finagent.policies import alpaca_market_policies, bridged_market_policy, files_policy, scan_rules, simulated_policy
from finagent.services.past_scan import PastScanPolicy, PastScanReport, VolumeBasis, scan_past_sessions
from finagent.settings import Settings, alpaca_keys
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.adapters.market_data.alpaca.market import AlpacaMarket


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
    if settings.market_data.source != "alpaca":
        raise BadInput(f"market_data.source is {settings.market_data.source}: only alpaca has news")
    from finagent.adapters.broker.alpaca.rest import AlpacaRest
    from finagent.adapters.market_data.alpaca.market import data_client
    from finagent.adapters.news.alpaca import AlpacaNews

    keys, policy = Keys(*alpaca_keys(settings)), alpaca_market_policies(settings)[1]
    rest = AlpacaRest(policy, keys, market_seconds(settings), client=data_client, target="news")
    try:
        yield AlpacaNews(rest)
    finally:
        await rest.close()


def build_market(settings: Settings) -> MarketDataPort:
    """The recorded or simulated source that the settings name. Raises BadInput for one that is only there on wall time."""
    data, seed = settings.market_data, settings.replay.seed
    policy = bridged_market_policy(settings)
    if data.source == "sample":
        return sample_market(
            NewYorkCalendar(), seed=seed, first=data.first_session, last=data.last_session, policy=policy, symbols=data.symbols
        )
    if data.source == "simulated":
        if data.symbols:
            raise BadInput(
                "market_data.symbols: a simulated market names its own symbols; market_data.simulated.symbols counts them"
            )
        return simulated_market(
            NewYorkCalendar(),
            symbols_count=data.simulated.symbols,
            seed=seed,
            first=data.first_session,
            last=data.last_session,
            policy=simulated_policy(settings),
        )
    if data.source == "alpaca":
        raise BadInput("market_data.source is alpaca: only orchestrate.mode paper and live have it")
    return files_market(
        Path(data.source.removeprefix("files:")),
        NewYorkCalendar(),
        seed=seed,
        first=data.first_session,
        last=data.last_session,
        policy=files_policy(settings),
        symbols=data.symbols,
    )


def scan_past(
    settings: Settings, location: Path, first: date, last: date, volume: VolumeBasis
) -> tuple[PastScanReport, FilesHistory]:
    """Scan the past sessions of a folder of daily bars with the rules of trading."""
    history = files_history(location, NewYorkCalendar(), first=first, last=last, policy=files_policy(settings))
    past = settings.past_scan
    policy = PastScanPolicy(past.top_gaps, past.full_day_relative_volume_min)
    return scan_past_sessions(history.sessions, scan_rules(settings), volume, policy), history
