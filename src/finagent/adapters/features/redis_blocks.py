"""FeatureStore in Redis, a key a block; what Redis evicts is computed again."""

from typing import Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from finagent.adapters.features.blocks import decoded, encoded
from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.feature_store import FeatureKey
from finagent.telemetry.redaction import without_password


class RedisFeatures:
    """Blocks leave Redis `keep_seconds` after they were written, if not before."""

    def __init__(self, url: str, call_seconds: float, keep_seconds: int) -> None:
        self._where, self._keep_seconds = without_password(url), keep_seconds
        try:
            self._redis = Redis.from_url(
                url,
                protocol=2,
                socket_timeout=call_seconds,
                socket_connect_timeout=call_seconds,
                retry=Retry(NoBackoff(), 1),
                retry_on_error=[ConnectionResetError],
            )
        except ValueError as error:
            raise BadInput(f"queue.redis.url {self._where} is refused: {error}") from error

    async def read(self, key: FeatureKey) -> Floats | None:
        try:
            block = await self._redis.get(_name(key))
        except (RedisError, OSError) as error:
            raise Transient(f"Redis at {self._where} does not answer: {error}") from error
        return decoded(key, block) if isinstance(block, bytes) else None

    async def write(self, key: FeatureKey, values: Floats) -> None:
        try:
            await self._redis.set(_name(key), encoded(key, values), ex=self._keep_seconds)
        except (RedisError, OSError) as error:
            raise Transient(f"Redis at {self._where} keeps nothing: {error}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._redis.aclose()


def _name(key: FeatureKey) -> str:
    return f"finagent:features:{key.timeframe}:{key.data_spec_hash}:{key.source}:{key.day.isoformat()}"
