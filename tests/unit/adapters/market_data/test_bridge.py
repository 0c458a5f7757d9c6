"""The minute bridge: exact at the day's edges, its own stream for each symbol-day."""

import hashlib
from datetime import date

import numpy as np
import pytest

from finagent.adapters.market_data.bridge import BLOCK_SYMBOLS, DailyBars, MinuteBars, MinuteBridge

DAY = date(2008, 10, 13)


def daily(*rows: tuple[float, float, float, float, float]) -> DailyBars:
    """Rows of open, high, low, close, volume."""
    return DailyBars(*np.array(rows, dtype=np.float64).T)


def assert_meets(day: DailyBars, bars: MinuteBars) -> None:
    np.testing.assert_array_equal(bars.open[0], day.open)
    np.testing.assert_array_equal(bars.high.max(axis=0), day.high)
    np.testing.assert_array_equal(bars.low.min(axis=0), day.low)
    np.testing.assert_array_equal(bars.close[-1], day.close)
    np.testing.assert_array_equal(bars.volume.sum(axis=0), day.volume)
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.volume >= 0).all()
    np.testing.assert_array_equal(bars.volume, np.rint(bars.volume))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param((100.0, 103.0, 98.0, 101.0, 1e6), id="extremes inside"),
        pytest.param((103.0, 103.0, 98.0, 101.0, 1e6), id="opens at the high"),
        pytest.param((98.0, 103.0, 98.0, 101.0, 1e6), id="opens at the low"),
        pytest.param((100.0, 103.0, 98.0, 103.0, 1e6), id="closes at the high"),
        pytest.param((103.0, 103.0, 98.0, 98.0, 1e6), id="falls all day"),
        pytest.param((103.0, 103.0, 98.0, 103.0, 1e6), id="opens and closes at the high"),
        pytest.param((100.0, 100.0, 100.0, 100.0, 5e3), id="never moves"),
        pytest.param((100.0, 100.01, 100.0, 100.0, 5e3), id="one cent wide"),
        pytest.param((14.36, 14.69, 14.2675, 14.6, 3060200.0), id="low with sub-cents"),
        pytest.param((10.001, 10.004, 10.001, 10.003, 70.0), id="no cent inside"),
        pytest.param((20.0, 60.0, 0.4, 1.0, 7.0), id="crash with seven shares"),
        pytest.param((50.0, 51.0, 49.0, 50.0, 0.0), id="no volume"),
    ],
)
@pytest.mark.parametrize("minutes", [390, 210])
def test_minute_bars_meet_the_day_exactly(row: tuple[float, float, float, float, float], minutes: int) -> None:
    day = daily(row)

    bars = MinuteBridge(seed=3).bars(DAY, minutes, ("X",), day)

    assert bars.open.shape == (minutes, 1)
    assert_meets(day, bars)


def test_inner_prices_lie_on_the_cent_within_a_range_with_sub_cents() -> None:
    day = daily((14.361, 14.6949, 14.2675, 14.6, 3060200.0))

    bars = MinuteBridge(seed=3).bars(DAY, 390, ("X",), day)

    edges = {14.361, 14.6949, 14.2675}
    values = {float(value) for column in bars[:4] for value in column.ravel()} - edges
    assert values
    assert all(value == round(value, 2) for value in values)
    assert min(values) >= 14.27
    assert max(values) <= 14.69


def test_a_symbol_day_depends_on_neither_batch_nor_order() -> None:
    symbols = tuple(f"S{number:04d}" for number in range(BLOCK_SYMBOLS + 40))
    count = len(symbols)
    opens = [round(20.0 + 0.37 * number, 2) for number in range(count)]
    day = daily(
        *((at, round(at * 1.03, 2), round(at * 0.96, 2), round(at * 1.01, 2), 1e5 + place) for place, at in enumerate(opens))
    )
    bridge = MinuteBridge(seed=11)
    together = bridge.bars(DAY, 390, symbols, day)
    for place in (0, 7, BLOCK_SYMBOLS, count - 1):
        alone = bridge.bars(DAY, 390, symbols[place : place + 1], DailyBars(*(column[place : place + 1] for column in day)))
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[:, [place]], part)

    reverse = bridge.bars(DAY, 390, symbols[::-1], DailyBars(*(column[::-1] for column in day)))
    for forward, backward in zip(together, reverse, strict=True):
        np.testing.assert_array_equal(forward, backward[:, ::-1])


def test_volume_shares_are_those_of_the_bars() -> None:
    day = daily((100.0, 103.0, 98.0, 101.0, 1e6), (10.0, 10.5, 9.9, 10.1, 333.0))
    bridge = MinuteBridge(seed=5)

    shares = bridge.cumulative_volume_shares(DAY, 390, ("A", "B"))
    bars = bridge.bars(DAY, 390, ("A", "B"), day)

    np.testing.assert_array_equal(np.rint(shares * day.volume), np.cumsum(bars.volume, axis=0))
    np.testing.assert_array_equal(shares[-1], [1.0, 1.0])


def test_seed_symbol_and_date_each_make_another_path() -> None:
    day = daily((100.0, 103.0, 98.0, 101.0, 1e6))
    paths = [
        MinuteBridge(1).bars(DAY, 390, ("A",), day),
        MinuteBridge(2).bars(DAY, 390, ("A",), day),
        MinuteBridge(1).bars(DAY, 390, ("B",), day),
        MinuteBridge(1).bars(date(2008, 10, 14), 390, ("A",), day),
    ]

    assert len({path.close.tobytes() for path in paths}) == 4
    assert len({path.volume.tobytes() for path in paths}) == 4


def test_prices_and_volumes_are_pinned() -> None:
    """A change of the bridge changes every replay: it must be meant, and this digest changed with it."""
    bars = MinuteBridge(seed=1).bars(DAY, 390, ("AAPL",), daily((104.55, 110.53, 101.02, 110.26, 54967000.0)))

    cents = np.rint(np.stack(bars[:4]) * 100).astype(np.int64)
    digest = hashlib.sha256(cents.tobytes() + bars.volume.astype(np.int64).tobytes()).hexdigest()

    assert digest[:16] == "608b7e90065be963"
