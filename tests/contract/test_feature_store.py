"""The contract of FeatureStore, for every adapter: a block comes back to the bit, or not at all."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from finagent.adapters.features.block_files import FeatureFiles
from finagent.adapters.features.redis_blocks import RedisFeatures
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.feature_store import FeatureKey, FeatureStore

BLOCK = np.asarray([[1.0, np.nan, -0.0], [np.pi, 1e-300, -5.0]])
Damage = Callable[[], None]


@pytest.fixture
def key() -> FeatureKey:
    return FeatureKey("0123456789abcdef", "1Day", uuid.uuid4().hex[:16], date(2008, 10, 9))


@pytest.fixture(params=["files", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[FeatureStore, Damage]]:
    """The store, and what cuts a byte off every block in it."""
    if request.param == "files":

        def shorten() -> None:
            for file in tmp_path.rglob("*.features"):
                file.write_bytes(file.read_bytes()[:-1])

        yield FeatureFiles(tmp_path, 100), shorten
        return
    url: str = request.getfixturevalue("redis_url")

    def cut() -> None:
        with Redis.from_url(url) as client:
            for name in client.scan_iter("finagent:features:*"):
                client.set(name, client.get(name)[:-1])

    async with RedisFeatures(url, 5.0, 60) as features:
        yield features, cut


async def test_a_block_comes_back_to_the_bit(store: tuple[FeatureStore, Damage], key: FeatureKey) -> None:
    features, _ = store
    assert await features.read(key) is None
    await features.write(key, BLOCK)
    found = await features.read(key)
    assert found is not None
    assert found.tobytes() == BLOCK.tobytes()
    await features.write(key, BLOCK * 2)
    np.testing.assert_array_equal(await features.read(key), BLOCK * 2)


async def test_each_part_of_the_key_counts(store: tuple[FeatureStore, Damage], key: FeatureKey) -> None:
    features, _ = store
    await features.write(key, BLOCK)
    changes = {"data_spec_hash": "f" * 16, "timeframe": "1Min", "source": "other", "day": date(2008, 10, 10)}
    for name, value in changes.items():
        assert await features.read(replace(key, **{name: value})) is None  # type: ignore[arg-type] # a name at a time


async def test_a_damaged_block_is_none(store: tuple[FeatureStore, Damage], key: FeatureKey) -> None:
    features, damage = store
    await features.write(key, BLOCK)
    damage()
    assert await features.read(key) is None


async def test_a_block_of_another_day_is_none_whatever_it_is_called(tmp_path: Path, key: FeatureKey) -> None:
    features = FeatureFiles(tmp_path, 3)
    await features.write(key, BLOCK)
    (file,) = await asyncio.to_thread(lambda: list(tmp_path.rglob("*.features")))
    await asyncio.to_thread(file.rename, file.with_name("2008-10-10.features"))
    assert await features.read(replace(key, day=date(2008, 10, 10))) is None


async def test_the_folder_keeps_the_last_blocks(tmp_path: Path, key: FeatureKey) -> None:
    features = FeatureFiles(tmp_path, 3)
    for day in range(1, 6):
        await features.write(replace(key, day=date(2008, 10, day)), BLOCK)
    kept = [await features.read(replace(key, day=date(2008, 10, day))) is not None for day in range(1, 6)]
    assert kept == [False, False, True, True, True]


async def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, key: FeatureKey) -> None:
    (tmp_path / "1Day").write_text("a file where a folder should be")
    features = FeatureFiles(tmp_path, 3)
    with pytest.raises(Transient, match="cannot be written"):
        await features.write(key, BLOCK)
    with pytest.raises(Transient, match="cannot be read"):
        await features.read(key)


async def test_a_redis_that_is_not_there_says_so(tmp_path: Path, key: FeatureKey) -> None:
    async with RedisFeatures(f"unix://:secret@{tmp_path}/none.sock", 0.5, 60) as features:
        for ask in (features.read(key), features.write(key, BLOCK)):
            with pytest.raises(Transient, match="Redis at unix://") as told:
                await ask
            assert "secret" not in str(told.value)


def test_a_redis_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"queue\.redis\.url"):
        RedisFeatures("http://nowhere", 0.5, 60)
