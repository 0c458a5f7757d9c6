"""The gap scan: one vectorised pass over the universe, a reason for every symbol."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats, PriorFacts
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.gap import Direction, GapFacts
from finagent.quant.features.feature_state import FeatureState

Columns = NDArray[np.intp]


class ScanReason(IntEnum):
    """Why a symbol is, or is not, a candidate: the largest code that applies; bad data comes first, then NO_GAP, then the rest.

    With a code below NO_GAP (or NO_HISTORY of volume) the symbol is past the gap threshold: a near miss, which carries the
    failed rule's value and limit.
    """

    CANDIDATE = 0
    OUTRANKED = 1  # passed every rule, but `candidates_max` others rank before it
    RELATIVE_VOLUME = 2
    DOLLAR_VOLUME = 3
    PRICE = 4
    STALE = 5  # the last tradable bar is too old
    NO_GAP = 6
    NO_HISTORY = 7  # no previous close; past the threshold also: no 20-session volume history
    NO_BAR = 8  # no tradable bar since the open
    BAD_DATA = 9  # a refused bar since the open, or a previous close or volume history that cannot be true
    EXCLUDED = 10  # out for the session before the open; PriorFacts.excluded says why


# numpy compares an array of bytes with an IntEnum five times slower than with a byte.
_CANDIDATE = np.uint8(ScanReason.CANDIDATE)
_OUTRANKED = np.uint8(ScanReason.OUTRANKED)
_RELATIVE_VOLUME = np.uint8(ScanReason.RELATIVE_VOLUME)
_DOLLAR_VOLUME = np.uint8(ScanReason.DOLLAR_VOLUME)
_PRICE = np.uint8(ScanReason.PRICE)
_STALE = np.uint8(ScanReason.STALE)
_NO_GAP = np.uint8(ScanReason.NO_GAP)
_NO_HISTORY = np.uint8(ScanReason.NO_HISTORY)
_BAD_DATA = np.uint8(ScanReason.BAD_DATA)


@dataclass(frozen=True, slots=True)
class ScanRules:
    """The thresholds of the scan; each is the smallest (or largest) value that still passes."""

    gap_fraction_min: float
    price_usd_min: float
    dollar_volume_usd_min: float
    relative_volume_min: float
    price_age_minutes_max: int
    bad_bars_max: int
    candidates_max: int

    def __post_init__(self) -> None:
        floats = (self.gap_fraction_min, self.price_usd_min, self.dollar_volume_usd_min, self.relative_volume_min)
        if not all(0.0 <= limit < np.inf for limit in floats) or min(self.price_age_minutes_max, self.bad_bars_max) < 0:
            raise BadInput(f"scan rules must be finite and not negative: {self}")
        if self.candidates_max < 1:
            raise BadInput(f"scan rules: candidates_max is {self.candidates_max}, at least 1 is needed")


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A symbol past the gap threshold that failed the rule `reason`; `value` is None where there is no history to compute it."""

    symbol: str
    gap: float
    reason: ScanReason
    value: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class PastThreshold:
    """What the rules looked at: arrays over the symbols past the gap threshold, in the order of the universe.

    `columns` in the universe, `price` the last one in USD, `age` in minutes, `score` = |gap| x relative volume.
    """

    columns: Columns
    price: Floats
    age: NDArray[np.int32]
    dollar_volume_mean: Floats
    relative_volume: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Ranked:
    """The candidates, best first: `columns` of the universe and their facts at the scan (arrays over the candidates)."""

    columns: Columns
    previous_close: Floats
    open: Floats
    high: Floats
    low: Floats
    last: Floats
    cumulative_volume: Floats
    cumulative_dollars: Floats
    age: NDArray[np.int32]
    relative_volume: Floats
    dollar_volume_mean: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class ScanResult:
    """`reasons` [symbols] holds ScanReason codes, `gap` [symbols] the signed gaps (NaN: unknown)."""

    symbols: tuple[str, ...]
    minute: int
    rules: ScanRules
    reasons: NDArray[np.uint8]
    gap: Floats
    past: PastThreshold
    ranked: Ranked

    def candidates(self) -> tuple[tuple[str, Direction, GapFacts], ...]:
        """Symbol, direction and facts of each candidate, best first."""
        ranked = self.ranked
        return tuple(
            (
                self.symbols[column],
                Direction.UP if self.gap[column] > 0 else Direction.DOWN,
                GapFacts(
                    gap=float(self.gap[column]),
                    previous_close=float(ranked.previous_close[i]),
                    open=float(ranked.open[i]),
                    high=float(ranked.high[i]),
                    low=float(ranked.low[i]),
                    last=float(ranked.last[i]),
                    cumulative_volume=float(ranked.cumulative_volume[i]),
                    relative_volume=float(ranked.relative_volume[i]),
                    dollar_volume_mean=float(ranked.dollar_volume_mean[i]),
                    minutes_since_open=self.minute,
                ),
            )
            for i, column in enumerate(ranked.columns.tolist())
        )

    def near_misses(self) -> tuple[NearMiss, ...]:
        """Symbols past the gap threshold that failed another rule, largest gap first, then by symbol."""
        rules, past = self.rules, self.past
        cutoff = float(self.ranked.score[-1]) if len(self.ranked.score) else 0.0
        failed: dict[ScanReason, tuple[NDArray[np.int32] | Floats | None, float]] = {
            ScanReason.NO_HISTORY: (None, rules.relative_volume_min),
            ScanReason.STALE: (past.age, rules.price_age_minutes_max),
            ScanReason.PRICE: (past.price, rules.price_usd_min),
            ScanReason.DOLLAR_VOLUME: (past.dollar_volume_mean, rules.dollar_volume_usd_min),
            ScanReason.RELATIVE_VOLUME: (past.relative_volume, rules.relative_volume_min),
            ScanReason.OUTRANKED: (past.score, cutoff),
        }
        missed = []
        for i, column in enumerate(past.columns.tolist()):
            reason = ScanReason(int(self.reasons[column]))
            if reason in failed:
                values, limit = failed[reason]
                value = None if values is None else float(values[i])
                missed.append(NearMiss(self.symbols[column], float(self.gap[column]), reason, value, limit))
        return tuple(sorted(missed, key=lambda miss: (-abs(miss.gap), miss.symbol)))

    def symbols_with(self, reason: ScanReason) -> tuple[str, ...]:
        """The symbols that carry the reason, in the order of the universe."""
        return tuple(self.symbols[column] for column in np.flatnonzero(self.reasons == reason).tolist())

    def counts(self) -> dict[str, int]:
        """How many symbols carry each reason; only those that occur."""
        found = np.bincount(self.reasons, minlength=len(ScanReason))
        return {reason.name: int(found[reason]) for reason in ScanReason if found[reason]}


def scan(state: FeatureState, prior: PriorFacts, minute: int, rules: ScanRules) -> ScanResult:
    """Scan as of `minute` after the open; `prior` holds the volume means of that minute and the same symbols as `state`.

    Candidates go both ways, up and down, ranked by |gap| x relative volume, then by symbol.
    """
    _require_point_in_time(state, prior, minute)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = state.open / prior.previous_close
        gap -= 1.0
        reasons, doubtful = _data_reasons(gap, state, prior, rules)
        columns = np.flatnonzero(np.abs(gap) >= rules.gap_fraction_min)
        if doubtful:
            columns = columns[reasons[columns] == _NO_GAP]
        volume_mean = prior.cumulative_volume_mean[prior.minutes.index(minute)].take(columns)
        relative_volume = state.cumulative_volume.take(columns) / volume_mean
        past = PastThreshold(
            columns=columns,
            price=state.last.take(columns),
            age=minute - state.last_minute.take(columns),
            dollar_volume_mean=prior.dollar_volume_mean.take(columns),
            relative_volume=relative_volume,
            score=np.abs(gap.take(columns)) * relative_volume,
        )
    codes = _rule_reasons(past, volume_mean, rules)
    best = _rank(codes, past, state.alphabetical, rules.candidates_max)
    reasons[columns] = codes
    return ScanResult(state.symbols, minute, rules, reasons, gap, past, _ranked(state, prior, past, best))


def _require_point_in_time(state: FeatureState, prior: PriorFacts, minute: int) -> None:
    if state.symbols is not prior.symbols and state.symbols != prior.symbols:
        raise InvariantViolated("the feature state and the prior facts are of different universes")
    if state.session != prior.session:
        raise InvariantViolated("the feature state and the prior facts are of different sessions")
    if state.minute > minute:
        raise InvariantViolated(f"a scan as of minute {minute} would see bars of minute {state.minute}")
    if minute not in prior.minutes:
        raise BadInput(f"no volume means by minute {minute}: the prior facts hold {prior.minutes}")


def _data_reasons(gap: Floats, state: FeatureState, prior: PriorFacts, rules: ScanRules) -> tuple[NDArray[np.uint8], bool]:
    """NO_GAP where the gap can be believed, else why it cannot (a later assignment takes precedence); is there any such?"""
    reasons = np.full(len(gap), _NO_GAP)
    doubtful = False
    # One NaN makes the extremes NaN and the comparison false: a clean universe costs two reductions.
    if not (gap.min(initial=0.0) > -1.0 and gap.max(initial=0.0) < np.inf):
        doubtful = True
        unknown = np.flatnonzero(~((gap > -1.0) & (gap < np.inf)))
        reasons[unknown] = ScanReason.BAD_DATA
        reasons[unknown[np.isnan(prior.previous_close[unknown])]] = ScanReason.NO_HISTORY
        reasons[unknown[np.isnan(state.open[unknown])]] = ScanReason.NO_BAR
    if state.bad_bars.max(initial=0) > rules.bad_bars_max:
        doubtful = True
        reasons[state.bad_bars > rules.bad_bars_max] = ScanReason.BAD_DATA
    if prior.excluded:
        doubtful = True
        reasons[[state.index[symbol] for symbol in prior.excluded]] = ScanReason.EXCLUDED
    return reasons, doubtful


def _rule_reasons(past: PastThreshold, volume_mean: Floats, rules: ScanRules) -> NDArray[np.uint8]:
    """The largest reason that applies to each symbol past the threshold, CANDIDATE where none does."""
    codes = (past.relative_volume < rules.relative_volume_min).view(np.uint8) * _RELATIVE_VOLUME
    for failed, code in (
        (past.dollar_volume_mean < rules.dollar_volume_usd_min, _DOLLAR_VOLUME),
        (past.price < rules.price_usd_min, _PRICE),
        (past.age > rules.price_age_minutes_max, _STALE),
    ):
        np.maximum(codes, failed.view(np.uint8) * code, out=codes)
    for mean in (past.dollar_volume_mean, volume_mean):
        if not (mean.min(initial=1.0) > 0.0 and mean.max(initial=1.0) < np.inf):
            # Zero is no history to compare with; negative or infinite cannot be true.
            absent = np.isnan(mean) | (mean == 0.0)
            reasons = np.where(absent, _NO_HISTORY, _BAD_DATA)
            np.maximum(codes, reasons, out=codes, where=~((mean > 0.0) & (mean < np.inf)))
    return codes


def _rank(codes: NDArray[np.uint8], past: PastThreshold, alphabetical: Columns, candidates_max: int) -> Columns:
    """Positions of the best candidates, best first; those beyond `candidates_max` are marked OUTRANKED in `codes`."""
    contenders = np.flatnonzero(codes == _CANDIDATE)
    last_place = len(contenders) - candidates_max
    if last_place > 0:
        codes[contenders] = _OUTRANKED
        score = past.score.take(contenders)
        contenders = contenders.take(np.flatnonzero(score >= np.partition(score, last_place)[last_place]))
    by_rank = np.lexsort((alphabetical.take(past.columns.take(contenders)), -past.score.take(contenders)))
    best = contenders.take(by_rank[:candidates_max])
    codes[best] = _CANDIDATE
    return best


def _ranked(state: FeatureState, prior: PriorFacts, past: PastThreshold, best: Columns) -> Ranked:
    columns = past.columns[best]
    return Ranked(
        columns=columns,
        previous_close=prior.previous_close[columns],
        open=state.open[columns],
        high=state.high[columns],
        low=state.low[columns],
        last=state.last[columns],
        cumulative_volume=state.cumulative_volume[columns],
        cumulative_dollars=state.cumulative_dollars[columns],
        age=past.age[best],
        relative_volume=past.relative_volume[best],
        dollar_volume_mean=past.dollar_volume_mean[best],
        score=past.score[best],
    )
