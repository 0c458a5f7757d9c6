"""The vectorised scan says of each symbol what a plain rule, symbol by symbol, says."""

from datetime import UTC, datetime, timedelta
from math import inf, isnan, nan

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.domain.bars import BarBlock, PriorFacts
from finagent.domain.sessions import Session
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanReason, ScanRules, scan

OPENS = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
SESSION = Session(OPENS.date(), OPENS, OPENS + timedelta(minutes=390))
MINUTE = 3

prices = st.sampled_from([4.0, 5.0, 9.5, 9.6, 10.0, 10.4, 10.5, 12.5, nan, inf, -inf, 0.0, -10.0])
volumes = st.sampled_from([0.0, 100.0, 150.0, 200.0, 1000.0, nan, inf, -1.0])
bars = st.tuples(prices, prices, prices, prices, volumes, st.sampled_from([0, 0, 0, 1, 2, 3, 4]))
flat_bars = st.builds(
    lambda price, volume, quality: (price,) * 4 + (volume, quality), prices, volumes, st.sampled_from([0, 0, 1, 2])
)
symbol_facts = st.tuples(
    st.lists(bars | flat_bars, min_size=2, max_size=2),
    prices,
    st.sampled_from([1e5, 1e6, 2e6, 0.0, nan, inf, -5.0]),
    st.sampled_from([100.0, 0.0, nan, inf, -5.0]),
    st.booleans(),
)
rules_strategy = st.builds(
    ScanRules,
    gap_fraction_min=st.sampled_from([0.0, 0.04, 0.25]),
    price_usd_min=st.sampled_from([0.0, 5.0]),
    dollar_volume_usd_min=st.sampled_from([0.0, 1e6]),
    relative_volume_min=st.sampled_from([0.0, 1.5]),
    price_age_minutes_max=st.integers(0, 2),
    bad_bars_max=st.integers(0, 1),
    candidates_max=st.integers(1, 4),
)
Bar = tuple[float, float, float, float, float, int]
Facts = tuple[list[Bar], float, float, float, bool]


def plain_rule(facts: Facts, rules: ScanRules) -> tuple[str, float]:
    """The reason of one symbol, before ranking, and its score."""
    history, previous_close, dollar_volume, volume_mean, excluded = facts
    first = last = None
    age, bad, volume = MINUTE + 1, 0, 0.0
    for minute, (open_, high, low, close, shares, quality) in enumerate(history, start=1):
        sound = 0 < low <= min(open_, close) and max(open_, close) <= high < inf and 0 <= shares < inf
        sound = sound and not (isnan(open_) or isnan(close))
        if quality == 3 or (quality <= 1 and not sound):
            bad += 1
        elif quality <= 1:
            first = open_ if first is None else first
            last, age, volume = close, MINUTE - minute, volume + shares
    if excluded:
        return "EXCLUDED", 0.0
    if bad > rules.bad_bars_max:
        return "BAD_DATA", 0.0
    if first is None or last is None:
        return "NO_BAR", 0.0
    if isnan(previous_close):
        return "NO_HISTORY", 0.0
    if not 0 < previous_close < inf:
        return "BAD_DATA", 0.0
    gap = first / previous_close - 1
    if abs(gap) < rules.gap_fraction_min:
        return "NO_GAP", 0.0
    means = (dollar_volume, volume_mean)
    if any(mean < 0 or mean == inf for mean in means):
        return "BAD_DATA", 0.0
    if any(isnan(mean) or mean == 0 for mean in means):
        return "NO_HISTORY", 0.0
    if age > rules.price_age_minutes_max:
        return "STALE", 0.0
    if last < rules.price_usd_min:
        return "PRICE", 0.0
    if dollar_volume < rules.dollar_volume_usd_min:
        return "DOLLAR_VOLUME", 0.0
    if volume / volume_mean < rules.relative_volume_min:
        return "RELATIVE_VOLUME", 0.0
    return "CANDIDATE", abs(gap) * (volume / volume_mean)


@settings(max_examples=400, deadline=None)
@given(st.lists(symbol_facts, min_size=1, max_size=12), rules_strategy)
def test_vectorised_scan_equals_the_plain_rule(universe: list[Facts], rules: ScanRules) -> None:
    symbols = tuple(f"S{(7 * i) % 13:02d}" for i in range(len(universe)))
    state = FeatureState(symbols)
    state.reset(SESSION)
    for minute in (1, 2):
        columns = np.array([facts[0][minute - 1] for facts in universe], dtype=np.float64).T
        open_, high, low, close, volume, quality = columns
        state.update(BarBlock(SESSION.instant_of(minute), open_, high, low, close, volume, quality.astype(np.uint8)))
    prior = PriorFacts(
        session=SESSION,
        symbols=symbols,
        previous_close=np.array([facts[1] for facts in universe]),
        dollar_volume_mean=np.array([facts[2] for facts in universe]),
        minutes=(MINUTE,),
        cumulative_volume_mean=np.array([[facts[3] for facts in universe]]),
        excluded={symbol: "test" for symbol, facts in zip(symbols, universe, strict=True) if facts[4]},
    )

    result = scan(state, prior, MINUTE, rules)

    expected = {symbol: plain_rule(facts, rules) for symbol, facts in zip(symbols, universe, strict=True)}
    passed = sorted((-score, symbol) for symbol, (reason, score) in expected.items() if reason == "CANDIDATE")
    ranked = [symbol for _, symbol in passed]
    found = {symbol: ScanReason(int(code)).name for symbol, code in zip(symbols, result.reasons, strict=True)}
    assert [symbol for symbol, _, _ in result.candidates()] == ranked[: rules.candidates_max]
    outranked = dict.fromkeys(ranked[rules.candidates_max :], "OUTRANKED")
    assert found == {symbol: outranked.get(symbol, reason) for symbol, (reason, _) in expected.items()}
    assert sum(result.counts().values()) == len(universe)
