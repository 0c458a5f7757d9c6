"""Whatever the daily bar, its minutes meet it exactly."""

from datetime import date

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.adapters.market_data.bridge import DailyBars, MinuteBridge

# Units of a hundredth of a cent, so that edges between two cents come up often.
prices = st.lists(st.integers(min_value=100, max_value=3_000_000), min_size=4, max_size=4).map(
    lambda grains: sorted(grain / 10_000 for grain in grains)
)


@settings(max_examples=150, deadline=None)
@given(
    ladder=prices,
    falls=st.booleans(),
    opens_at_edge=st.booleans(),
    closes_at_edge=st.booleans(),
    volume=st.integers(min_value=0, max_value=3_000_000_000),
    seed=st.integers(min_value=0, max_value=2**63),
    minutes=st.sampled_from([210, 390]),
)
def test_minutes_meet_any_daily_bar(
    ladder: list[float], falls: bool, opens_at_edge: bool, closes_at_edge: bool, volume: int, seed: int, minutes: int
) -> None:
    low, start, end, high = ladder
    opened = low if opens_at_edge else start
    closed = high if closes_at_edge else end
    if falls:
        opened, closed = closed, opened
    row = np.array([[opened], [high], [low], [closed], [float(volume)]])

    bars = MinuteBridge(seed).bars(date(2010, 5, 6), minutes, ("X",), DailyBars(*row))

    assert bars.open[0, 0] == opened
    assert bars.high.max() == high
    assert bars.low.min() == low
    assert bars.close[-1, 0] == closed
    assert bars.volume.sum() == volume
    assert (bars.volume >= 0).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    cents = np.rint(bars.close * 100) / 100
    on_cent_or_edge = (bars.close == cents) | np.isin(bars.close, row[:4, 0])
    assert on_cent_or_edge.all()
