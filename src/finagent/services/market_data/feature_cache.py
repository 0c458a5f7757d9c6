"""Features of days, computed once: kept in this process, and in a store that outlives it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import structlog
from cachetools import TTLCache

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.feature_store import FeatureKey, FeatureStore
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import BARS
from finagent.services.market_data.daily_features import DailyFeatures

log = structlog.get_logger(__name__)
DAYS = "1Day"
EARLIEST = timedelta(hours=12)  # before an open: the bars of the day before are final by then, and what is kept stays as it is


class Found(Enum):
    """Where an answer came from."""

    MEMORY = "MEMORY"
    STORE = "STORE"
    COMPUTED = "COMPUTED"


@dataclass(frozen=True, slots=True)
class FeatureCachePolicy:
    """`source` names the data and everything else that the numbers depend on; what is kept in memory is at most `seconds` old,
    of at most `sessions_max` sessions."""

    source: str
    seconds: float
    sessions_max: int


class FeatureCache:
    """Of one data spec: what was kept under another hash is never found. What is computed long before its open is not kept.
    Whoever asks while an answer is being made waits for it. A store that does not answer, or has forgotten, costs the time to
    compute and nothing else."""

    def __init__(
        self,
        market: MarketDataPort,
        days: DailyFeatures,
        store: FeatureStore | None,
        policy: FeatureCachePolicy,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        heard: Callable[[Found], None] = lambda _: None,
        spec: DataSpec = BARS,
    ) -> None:
        """`heard` is told where the answer to each question came from."""
        self._market, self._days, self._store, self._policy, self._spec = market, days, store, policy, spec
        self._now, self._heard = now, heard
        self._kept: TTLCache[FeatureKey, Floats] = TTLCache(policy.sessions_max, policy.seconds, monotonic)
        self._finding = asyncio.Lock()

    async def before(self, session: Session) -> Floats:
        """Values [symbols, features] as of the close before the session, not to be written to. Transient where the source has no
        history now."""
        values, found = await self._looked_up(session)
        self._heard(found)
        return values

    async def as_of(self, at: datetime) -> tuple[Session, Floats]:
        """The latest that were known at an instant, and the session at whose open they were. BadInput before the first one."""
        opened = [session for session in self._market.sessions() if session.opens_at <= at]
        if not opened:
            raise BadInput(f"no session had opened by {at.isoformat()}: the first opens {self._market.sessions()[0].opens_at}")
        return opened[-1], await self.before(opened[-1])

    async def _looked_up(self, session: Session) -> tuple[Floats, Found]:
        key = FeatureKey(self._spec.hash, DAYS, self._policy.source, session.date)
        values = self._kept.get(key)
        if values is not None:
            return values, Found.MEMORY
        async with self._finding:
            values = self._kept.get(key)
            if values is not None:
                return values, Found.MEMORY
            values, found = await self._stored(key), Found.STORE
            if values is None:
                values, found = await self._days.before(session), Found.COMPUTED
                if self._now() < session.opens_at - EARLIEST:
                    return values, found
                await self._keep(key, values)
            values.setflags(write=False)
            self._kept[key] = values
            return values, found

    async def _stored(self, key: FeatureKey) -> Floats | None:
        if self._store is None:
            return None
        try:
            values = await self._store.read(key)
        except Transient as error:
            log.warning("feature_store_away", error=str(error))
            return None
        return values if values is not None and values.shape == self._spec.shape(len(self._market.symbols)) else None

    async def _keep(self, key: FeatureKey, values: Floats) -> None:
        if self._store is None:
            return
        try:
            await self._store.write(key, values)
        except Transient as error:
            log.warning("feature_store_away", error=str(error))
