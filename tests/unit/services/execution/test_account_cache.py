"""What the broker holds is read again when it is old and after a fill, and one question serves all who ask."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.unit.services.execution.conftest import ScriptedBroker

from finagent.adapters.clock import VirtualClock
from finagent.domain.effect import Effect
from finagent.domain.errors import Transient
from finagent.domain.orders import Fill, Side
from finagent.domain.ports.order_execution import BrokerAccount
from finagent.services.execution.account_cache import AccountCache

NOW = datetime(2024, 3, 4, 15, tzinfo=UTC)
FILLED = Effect((Fill("x-1", "fa-1", "dec-1", "IBM", Side.BUY, 1, Decimal(10), Decimal(0), NOW),))


class SlowBroker(ScriptedBroker):
    """Counts the questions for its account, and answers while `ready` is set."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.asked = 0
        self.begun, self.ready = asyncio.Event(), asyncio.Event()
        self.ready.set()

    async def account(self) -> BrokerAccount:
        self.asked += 1
        self.begun.set()
        await self.ready.wait()
        return await super().account()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOW)


@pytest.fixture
def broker(clock: VirtualClock) -> SlowBroker:
    return SlowBroker(clock)


@pytest.fixture
def cache(broker: SlowBroker, clock: VirtualClock) -> AccountCache:
    return AccountCache(broker, clock, 10.0)


async def test_an_answer_serves_until_it_is_old(cache: AccountCache, broker: SlowBroker, clock: VirtualClock) -> None:
    first = await cache.read()
    clock.set(NOW + timedelta(seconds=10))
    assert await cache.read() is first
    clock.set(NOW + timedelta(seconds=10.001))
    assert (await cache.read()).read_at == clock.now()
    assert broker.asked == 2


async def test_a_fill_ends_it(cache: AccountCache, broker: SlowBroker) -> None:
    await cache.read()
    cache.committed([Effect()])
    await cache.read()
    assert broker.asked == 1
    cache.committed([Effect(), FILLED])
    await cache.read()
    assert broker.asked == 2


async def test_an_answer_begun_before_a_fill_is_not_kept(cache: AccountCache, broker: SlowBroker) -> None:
    broker.ready.clear()
    reading = asyncio.create_task(cache.read())
    await broker.begun.wait()
    cache.committed([FILLED])
    broker.ready.set()
    await reading
    await cache.read()
    assert broker.asked == 2


async def test_who_asks_together_asks_the_broker_once(cache: AccountCache, broker: SlowBroker) -> None:
    answers = await asyncio.gather(*(cache.read() for _ in range(5)))
    assert broker.asked == 1
    assert len({id(answer) for answer in answers}) == 1


async def test_what_was_known_is_no_answer(cache: AccountCache, broker: SlowBroker, clock: VirtualClock) -> None:
    await cache.read()
    clock.set(NOW + timedelta(minutes=1))
    broker.readable = False
    with pytest.raises(Transient):
        await cache.read()
    broker.readable = True
    assert (await cache.read()).read_at == clock.now()
