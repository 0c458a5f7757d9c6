"""Features of days with the store that the settings name, and the returns that books are measured on."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from finagent.adapters.clock import wall_now
from finagent.adapters.features.block_files import FeatureFiles
from finagent.bootstrap.store import build_hash
from finagent.domain.identity import digest
from finagent.domain.ports.feature_store import FeatureStore
from finagent.domain.ports.market_data import MarketDataPort
from finagent.policies import return_history_policy
from finagent.services.market_data.daily_features import DailyFeatures
from finagent.services.market_data.feature_cache import FeatureCache, FeatureCachePolicy, Found
from finagent.services.market_data.return_history import ReturnHistory
from finagent.settings import Settings

DAY_SECONDS = 86_400


@asynccontextmanager
async def open_feature_store(settings: Settings) -> AsyncIterator[FeatureStore | None]:
    """None where nothing is to be kept."""
    chosen = settings.features
    if chosen.store == "none":
        yield None
    elif chosen.store == "files":
        yield FeatureFiles(settings.storage.directory / "features", chosen.stored_sessions_max)
    else:
        from finagent.adapters.features.redis_blocks import RedisFeatures

        url, call_seconds = settings.queue.redis.url, settings.queue.redis.call_seconds
        async with RedisFeatures(url, call_seconds, chosen.stored_sessions_max * DAY_SECONDS) as redis:
            yield redis


def build_daily_features(settings: Settings, market: MarketDataPort) -> DailyFeatures:
    """Computed anew by whoever asks. BadInput for an index that the market does not have."""
    return DailyFeatures(market, settings.market_data.hole_sessions_max, asyncio.to_thread, settings.features.index_symbol)


def build_feature_cache(
    settings: Settings,
    market: MarketDataPort,
    store: FeatureStore | None,
    now: Callable[[], datetime] = wall_now,
    heard: Callable[[Found], None] = lambda _: None,
) -> FeatureCache:
    """What another build has computed is not found: its formulas may be others."""
    chosen = settings.features
    rules = (settings.market_data.model_dump_json(), str(settings.alpaca.url), str(chosen.index_symbol))
    depends = (market.source_id, *market.symbols, *rules, build_hash())
    policy = FeatureCachePolicy(digest(*depends, length=16), chosen.cache_seconds, chosen.cached_sessions_max)
    return FeatureCache(market, build_daily_features(settings, market), store, policy, now, time.monotonic, heard)


def build_return_history(settings: Settings, market: MarketDataPort, sessions: int = 0) -> ReturnHistory:
    """What books are measured on: of the year before and this one, or of so many sessions at least. BadInput for an index that
    the market does not have."""
    index = build_daily_features(settings, market).index
    return ReturnHistory(market, return_history_policy(settings, index, sessions), asyncio.to_thread)
