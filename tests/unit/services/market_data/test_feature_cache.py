"""Features are computed once; whatever forgets them costs time and nothing else."""

import asyncio
from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest
from tests.unit.services.market_data.test_daily_features import OCTOBER, PANEL, Days

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.feature_store import FeatureKey
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import BARS
from finagent.services.market_data.daily_features import DailyFeatures
from finagent.services.market_data.feature_cache import FeatureCache, FeatureCachePolicy, Found


class Market(Days):
    def sessions(self) -> tuple[Session, ...]:
        return tuple(OCTOBER)


class Store:
    """In memory; `away` for as many questions as it says, `evicting` everything at once."""

    def __init__(self) -> None:
        self.blocks: dict[FeatureKey, Floats] = {}
        self.away, self.evicting, self.reads = 0, False, 0

    async def read(self, key: FeatureKey) -> Floats | None:
        self.reads += 1
        self._answer()
        return self.blocks.get(key)

    async def write(self, key: FeatureKey, values: Floats) -> None:
        self._answer()
        if not self.evicting:
            self.blocks[key] = values.copy()

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise Transient("nobody answers")


class Desk:
    """A cache, and what it was seen to do."""

    def __init__(self, store: Store | None = None, spec: DataSpec = BARS, sessions_max: int = 4) -> None:
        self.market, self.now, self.found = Market(), 0.0, Counter[Found]()
        days = DailyFeatures(self.market, 5, asyncio.to_thread)  # type: ignore[arg-type] # the part of the port that is asked
        policy = FeatureCachePolicy("source", 100.0, sessions_max)
        self.at = OCTOBER[-1].closes_at
        clocks = (lambda: self.at), (lambda: self.now)
        self.cache = FeatureCache(self.market, days, store, policy, *clocks, self._heard, spec)  # type: ignore[arg-type] # the same

    def _heard(self, found: Found) -> None:
        self.found[found] += 1


async def computed(session: Session) -> Floats:
    return await Desk().cache.before(session)


async def test_whoever_asks_together_waits_for_one_answer() -> None:
    desk = Desk(Store())
    told = await asyncio.gather(*(desk.cache.before(OCTOBER[0]) for _ in range(50)))
    assert (desk.market.asked, dict(desk.found)) == (1, {Found.COMPUTED: 1, Found.MEMORY: 49})
    for each in told:
        np.testing.assert_array_equal(each, await computed(OCTOBER[0]))


async def test_one_that_gives_up_waiting_leaves_the_answer_to_the_others() -> None:
    desk = Desk(Store())
    first, second = [asyncio.ensure_future(desk.cache.before(OCTOBER[0])) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    np.testing.assert_array_equal(await second, await computed(OCTOBER[0]))
    assert first.cancelled()


async def test_what_is_known_is_in_memory_until_it_is_old() -> None:
    desk = Desk()
    await desk.cache.before(OCTOBER[0])
    for _ in range(20):
        await desk.cache.before(OCTOBER[0])
    assert dict(desk.found) == {Found.COMPUTED: 1, Found.MEMORY: 20}
    desk.now = 101.0
    await desk.cache.before(OCTOBER[0])
    assert (desk.found[Found.COMPUTED], desk.market.asked) == (2, 2)


async def test_what_is_asked_for_long_before_its_open_is_not_kept() -> None:
    """The day before may not be over: a row that was made of half of it must not be taken for the whole."""
    store = Store()
    early = Desk(store)
    early.at = OCTOBER[4].opens_at - timedelta(hours=20)
    early.market.corrections[OCTOBER[3].date] = 1.0
    await early.cache.before(OCTOBER[4])
    assert store.blocks == {}
    early.at, early.market.corrections = OCTOBER[4].opens_at - timedelta(minutes=10), {}
    np.testing.assert_array_equal(await early.cache.before(OCTOBER[4]), await computed(OCTOBER[4]))
    assert len(store.blocks) == 1


async def test_memory_has_a_bound() -> None:
    desk = Desk(sessions_max=2)
    for session in (*OCTOBER[:3], OCTOBER[0]):
        await desk.cache.before(session)
    assert desk.found[Found.COMPUTED] == 4


async def test_after_a_restart_the_store_knows_and_a_correction_changes_no_earlier_answer() -> None:
    store = Store()
    before = await Desk(store).cache.before(OCTOBER[4])
    again = Desk(store)
    again.market.corrections[date(2008, 10, 2)] = 1.0
    np.testing.assert_array_equal(await again.cache.before(OCTOBER[4]), before)
    assert (dict(again.found), again.market.asked) == ({Found.STORE: 1}, 0)
    assert not np.array_equal(await again.cache.before(OCTOBER[5]), await computed(OCTOBER[5])), "the next one knows of it"


async def test_another_data_spec_finds_nothing_of_it() -> None:
    store = Store()
    await Desk(store).cache.before(OCTOBER[0])
    other = Desk(store, DataSpec("bars", (*BARS.features[1:], BARS.features[0])))
    await other.cache.before(OCTOBER[0])
    assert dict(other.found) == {Found.COMPUTED: 1}


async def test_a_store_that_forgets_everything_or_is_away_changes_no_number() -> None:
    evicting, away = Store(), Store()
    evicting.evicting, away.away = True, 1000
    for store in (evicting, away):
        desk = Desk(store, sessions_max=1)
        for session in (*OCTOBER[:3], *OCTOBER[:3]):
            np.testing.assert_array_equal(await desk.cache.before(session), await computed(session))
        assert desk.found == {Found.COMPUTED: 6}


async def test_a_block_of_another_shape_is_computed_anew() -> None:
    store = Store()
    await Desk(store).cache.before(OCTOBER[0])
    (key,) = store.blocks
    store.blocks[key] = np.zeros((1, 1))
    np.testing.assert_array_equal(await Desk(store).cache.before(OCTOBER[0]), await computed(OCTOBER[0]))


async def test_a_source_without_an_answer_is_asked_again() -> None:
    desk = Desk(Store())
    desk.market.failures.append(Transient("no answer"))
    with pytest.raises(Transient):
        await desk.cache.before(OCTOBER[0])
    np.testing.assert_array_equal(await desk.cache.before(OCTOBER[0]), await computed(OCTOBER[0]))


async def test_nobody_changes_what_others_read() -> None:
    values = await Desk().cache.before(OCTOBER[0])
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1.0


async def test_as_of_an_instant_is_what_was_known_at_the_last_open() -> None:
    desk = Desk()
    session, values = await desk.cache.as_of(OCTOBER[2].opens_at - timedelta(seconds=1))
    assert session == OCTOBER[1]
    np.testing.assert_array_equal(values, await computed(OCTOBER[1]))
    assert (await desk.cache.as_of(OCTOBER[2].opens_at))[0] == OCTOBER[2]
    with pytest.raises(BadInput, match="no session had opened by"):
        await desk.cache.as_of(OCTOBER[0].opens_at - timedelta(seconds=1))


def test_an_index_that_is_no_symbol_is_refused() -> None:
    with pytest.raises(BadInput, match=r"features\.index_symbol: SPY is not among the 4 symbols"):
        DailyFeatures(Days(), 5, asyncio.to_thread, "SPY")  # type: ignore[arg-type] # the part of the port that is asked


async def test_the_index_stands_for_the_market() -> None:
    days = DailyFeatures(Days(), 5, asyncio.to_thread, "IBM")  # type: ignore[arg-type] # the part of the port that is asked
    values = await days.before(OCTOBER[0])
    ibm = PANEL.symbols.index("IBM")
    np.testing.assert_allclose(values[ibm, BARS.columns["beta_60"]], 1.0)
    np.testing.assert_array_equal(values[:, BARS.columns["market_return_1"]], values[ibm, BARS.columns["return_1"]])
