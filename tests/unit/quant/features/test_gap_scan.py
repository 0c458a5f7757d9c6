"""The gap scan and the feature state, one fact a test."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from finagent.domain.bars import BarBlock, BarQuality, PriorFacts
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.gap import Direction
from finagent.domain.sessions import Session
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanReason, ScanResult, ScanRules, scan

OPENS = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
SESSION = Session(OPENS.date(), OPENS, OPENS + timedelta(minutes=390))
RULES = ScanRules(
    gap_fraction_min=0.04,
    price_usd_min=5.0,
    dollar_volume_usd_min=5e6,
    relative_volume_min=1.5,
    price_age_minutes_max=2,
    bad_bars_max=0,
    candidates_max=50,
)
SYMBOLS = ("AAA", "BBB", "CCC")


def block(minute: int, **columns: Sequence[float]) -> BarBlock:
    count = len(next(iter(columns.values())))
    close = np.array(columns.get("close", [10.5] * count), dtype=np.float64)
    return BarBlock(
        at=SESSION.instant_of(minute),
        open=np.array(columns.get("open", close), dtype=np.float64),
        high=np.array(columns.get("high", close), dtype=np.float64),
        low=np.array(columns.get("low", close), dtype=np.float64),
        close=close,
        volume=np.array(columns.get("volume", [2000.0] * count), dtype=np.float64),
        quality=np.array(columns.get("quality", [0] * count), dtype=np.uint8),
    )


def prior(
    previous_close: list[float],
    dollar_volume: list[float] | None = None,
    volume_mean: list[float] | None = None,
    excluded: dict[str, str] | None = None,
    symbols: tuple[str, ...] = SYMBOLS,
) -> PriorFacts:
    count = len(previous_close)
    return PriorFacts(
        session=SESSION,
        symbols=symbols,
        previous_close=np.array(previous_close, dtype=np.float64),
        dollar_volume_mean=np.array(dollar_volume or [1e7] * count, dtype=np.float64),
        minutes=(5,),
        cumulative_volume_mean=np.array([volume_mean or [1000.0] * count], dtype=np.float64),
        excluded=excluded or {},
    )


def state_of(*blocks: BarBlock, symbols: tuple[str, ...] = SYMBOLS) -> FeatureState:
    state = FeatureState(symbols)
    state.reset(SESSION)
    for each in blocks:
        state.update(each)
    return state


def reasons(result: ScanResult) -> list[str]:
    return [ScanReason(int(code)).name for code in result.reasons]


def scanned(facts: PriorFacts, *blocks: BarBlock, rules: ScanRules = RULES) -> ScanResult:
    return scan(state_of(*blocks, symbols=facts.symbols), facts, 5, rules)


def test_state_keeps_first_open_extremes_last_close_and_volume_since_the_open() -> None:
    state = state_of(
        block(1, open=[10, 20, 30], high=[11, 21, 31], low=[9, 19, 29], close=[10.5, 20.5, 30.5], volume=[1, 2, 3]),
        block(2, open=[10.5, 20.5, 30.5], high=[12, 21, 31], low=[10, 18, 30], close=[11, 19, 31], volume=[10, 20, 30]),
    )

    assert state.open.tolist() == [10, 20, 30]
    assert state.high.tolist() == [12, 21, 31]
    assert state.low.tolist() == [9, 18, 29]
    assert state.last.tolist() == [11, 19, 31]
    assert state.cumulative_volume.tolist() == [11, 22, 33]
    assert state.minute == 2


def test_state_takes_the_open_from_the_first_tradable_bar() -> None:
    nan = float("nan")
    state = state_of(
        block(1, close=[nan, 20, 30], volume=[nan, 1, 1], quality=[BarQuality.MISSING, 0, 0]),
        block(2, close=[11, 21, 31]),
    )

    assert state.open.tolist() == [11, 20, 30]
    assert state.bad_bars.tolist() == [0, 0, 0]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0])
def test_no_unsound_number_enters_the_state_whatever_quality_says(column: str, value: float) -> None:
    columns: dict[str, list[float]] = {name: [10.0, 10.0] for name in ("open", "high", "low", "close", "volume")}
    columns[column][1] = value

    state = state_of(block(1, **columns), symbols=("AAA", "BBB"))

    assert state.bad_bars.tolist() == [0, 1]
    assert np.isnan([state.open[1], state.high[1], state.low[1], state.last[1]]).all()
    assert state.cumulative_volume.tolist() == [10.0, 0.0]


def test_a_bar_refused_at_the_edge_counts_once_and_a_halt_is_not_bad() -> None:
    state = state_of(block(1, close=[10, 10, 10], quality=[BarQuality.BAD, BarQuality.HALTED, BarQuality.FILLED]))

    assert state.bad_bars.tolist() == [1, 0, 0]
    assert np.isnan(state.last).tolist() == [True, True, False]


def test_state_only_goes_forward_inside_its_session() -> None:
    state = state_of(block(2, close=[1, 1, 1]))

    with pytest.raises(InvariantViolated, match="only goes forward"):
        state.update(block(2, close=[1, 1, 1]))
    with pytest.raises(InvariantViolated, match="do not belong"):
        state.update(replace(block(3, close=[1, 1, 1]), at=OPENS - timedelta(minutes=1)))


def test_reset_forgets_the_session() -> None:
    state = state_of(block(1, close=[1, 1, 1]))
    state.reset(SESSION)

    assert scan(state, prior([1, 1, 1]), 5, RULES).counts() == {"NO_BAR": 3}


def test_gaps_up_and_down_are_candidates_with_their_sign_and_facts() -> None:
    result = scanned(
        prior([10, 10, 10]), block(5, open=[10.5, 9.5, 10.1], high=[11, 10, 11], low=[10, 9, 10], close=[10.6, 9.4, 10.2])
    )

    assert reasons(result) == ["CANDIDATE", "CANDIDATE", "NO_GAP"]
    (first, up, facts), (second, down, _) = result.candidates()
    assert (first, up, second, down) == ("AAA", Direction.UP, "BBB", Direction.DOWN)
    assert facts.gap == 10.5 / 10 - 1
    assert (facts.previous_close, facts.open, facts.high, facts.low, facts.last) == (10, 10.5, 11, 10, 10.6)
    assert (facts.cumulative_volume, facts.relative_volume, facts.dollar_volume_mean, facts.minutes_since_open) == (
        2000,
        2,
        1e7,
        5,
    )


def test_a_gap_exactly_at_the_threshold_passes_and_so_does_each_other_limit() -> None:
    rules = replace(RULES, gap_fraction_min=0.25, price_usd_min=12.5, dollar_volume_usd_min=1e7, relative_volume_min=2.0)

    assert reasons(scanned(prior([10.0] * 3), block(3, close=[12.5] * 3), rules=rules)) == ["CANDIDATE"] * 3


@pytest.mark.parametrize(
    ("rules", "reason", "value", "limit"),
    [
        (replace(RULES, price_usd_min=10.6), "PRICE", 10.5, 10.6),
        (replace(RULES, dollar_volume_usd_min=2e7), "DOLLAR_VOLUME", 1e7, 2e7),
        (replace(RULES, relative_volume_min=2.5), "RELATIVE_VOLUME", 2.0, 2.5),
        (replace(RULES, price_age_minutes_max=0), "STALE", 1.0, 0.0),
    ],
)
def test_a_near_miss_carries_the_value_and_limit_of_the_failed_rule(
    rules: ScanRules, reason: str, value: float, limit: float
) -> None:
    result = scanned(prior([10, 10.5, 10.5]), block(4, close=[10.5, 10.5, 10.5]), rules=rules)

    (miss,) = result.near_misses()
    assert (miss.symbol, miss.reason.name, miss.value, miss.limit) == ("AAA", reason, value, limit)
    assert miss.gap == pytest.approx(0.05)
    assert reasons(result)[1:] == ["NO_GAP", "NO_GAP"]


def test_the_first_failed_rule_is_named() -> None:
    rules = replace(RULES, price_usd_min=11, dollar_volume_usd_min=2e7, relative_volume_min=2.5)

    assert reasons(scanned(prior([10, 10, 10]), block(5, close=[10.5, 10.5, 10.5]), rules=rules)) == ["PRICE"] * 3


def test_bad_data_comes_before_no_gap_and_exclusion_before_all() -> None:
    quiet = block(4, close=[10, 10, 10])
    refused = block(5, close=[10, 10, 10], quality=[BarQuality.BAD, BarQuality.BAD, 0])

    result = scanned(prior([10, 10, 10], excluded={"BBB": "bad tick"}), quiet, refused)

    assert reasons(result) == ["BAD_DATA", "EXCLUDED", "NO_GAP"]
    assert result.symbols_with(ScanReason.BAD_DATA) == ("AAA",)
    assert result.near_misses() == ()


@pytest.mark.parametrize(
    ("previous_close", "reason"),
    [(float("nan"), "NO_HISTORY"), (float("inf"), "BAD_DATA"), (0.0, "BAD_DATA"), (-10.0, "BAD_DATA")],
)
def test_a_previous_close_that_cannot_be_true_marks_that_symbol_only(previous_close: float, reason: str) -> None:
    result = scanned(prior([10, previous_close, 10]), block(5, close=[10.5, 10.5, 10.5]))

    assert reasons(result) == ["CANDIDATE", reason, "CANDIDATE"]


@pytest.mark.parametrize(
    ("mean", "reason"),
    [(float("nan"), "NO_HISTORY"), (0.0, "NO_HISTORY"), (float("inf"), "BAD_DATA"), (-1.0, "BAD_DATA")],
)
@pytest.mark.parametrize("field", ["dollar_volume", "volume_mean"])
def test_without_a_volume_history_there_is_no_candidate(field: str, mean: float, reason: str) -> None:
    facts = prior([10, 10, 10], **{field: [1e7, mean, 1e7]})  # type: ignore[arg-type]  # one of two list parameters

    result = scanned(facts, block(5, close=[10.5, 10.5, 10.1], volume=[2e8, 2e8, 2e8]))

    assert reasons(result) == ["CANDIDATE", reason, "NO_GAP"]


def test_ranked_by_gap_times_relative_volume_then_by_symbol() -> None:
    symbols = ("ZZZ", "BBB", "AAA", "CCC")
    facts = prior([10] * 4, symbols=symbols)

    result = scanned(facts, block(5, close=[11, 11, 11, 12], volume=[2000, 2000, 2000, 2000]))

    assert [symbol for symbol, _, _ in result.candidates()] == ["CCC", "AAA", "BBB", "ZZZ"]


def test_beyond_the_largest_number_of_candidates_the_rest_are_outranked() -> None:
    symbols = ("DDD", "BBB", "AAA", "CCC")
    facts = prior([10] * 4, symbols=symbols)

    result = scanned(facts, block(5, close=[11, 11, 11, 12]), rules=replace(RULES, candidates_max=2))

    assert [symbol for symbol, _, _ in result.candidates()] == ["CCC", "AAA"]
    assert [(miss.symbol, miss.reason.name) for miss in result.near_misses()] == [("BBB", "OUTRANKED"), ("DDD", "OUTRANKED")]
    assert result.counts() == {"CANDIDATE": 2, "OUTRANKED": 2}


def test_a_scan_never_sees_bars_later_than_its_minute() -> None:
    with pytest.raises(InvariantViolated, match="would see bars of minute 6"):
        scanned(prior([10, 10, 10]), block(6, close=[10, 10, 10]))


def test_a_scan_needs_the_volume_means_of_its_minute() -> None:
    with pytest.raises(BadInput, match="no volume means by minute 7"):
        scan(state_of(), prior([10, 10, 10]), 7, RULES)


def test_another_universe_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="universes"):
        scan(state_of(), prior([10, 10, 10], symbols=("AAA", "BBB", "DDD")), 5, RULES)


@pytest.mark.parametrize("change", [{"gap_fraction_min": float("nan")}, {"price_usd_min": -1.0}, {"candidates_max": 0}])
def test_rules_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        replace(RULES, **change)  # type: ignore[arg-type]  # the point: wrong values
