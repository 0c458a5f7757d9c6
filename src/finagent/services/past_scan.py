"""The gap scan over past sessions: what the rules would have found at each open, and every row that was left out, by name."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import BarBlock, BarQuality, Floats, PriorFacts
from finagent.domain.errors import BadInput
from finagent.domain.gap import Direction
from finagent.domain.sessions import Session
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanReason, ScanResult, ScanRules, scan

MINUTE = 1  # the scan stands at the end of the first minute, with the day's opening price as the only bar


class VolumeBasis(Enum):
    """Which volume the relative-volume rule sees. FULL_DAY looks ahead: for checks against facts, never for trading."""

    NONE = "none"
    FULL_DAY = "full-day"


@dataclass(frozen=True, slots=True)
class PastScanPolicy:
    """`full_day_relative_volume_min` replaces the scan's rule under FULL_DAY: the ratio of whole days is another quantity."""

    top_gaps: int
    full_day_relative_volume_min: float

    def __post_init__(self) -> None:
        if self.top_gaps < 0 or not 0.0 <= self.full_day_relative_volume_min < np.inf:
            raise BadInput(f"past scan: top_gaps or full_day_relative_volume_min out of range: {self}")


@dataclass(frozen=True, slots=True)
class PastSession:
    """One past session, arrays over symbols. `prior` holds the facts before the open, its one row of volume means those of whole
    days; `open` and `volume` the day's (NaN: no bar), `split` new shares per old from that open on; `refused` the bad bars."""

    prior: PriorFacts
    open: Floats
    volume: Floats
    split: Floats
    refused: dict[str, str]

    @property
    def session(self) -> Session:
        return self.prior.session


@dataclass(frozen=True, slots=True)
class PastGap:
    """A gap in today's shares; `relative_volume` and `dollar_volume_mean` are None where unknown."""

    symbol: str
    date: date
    gap: float
    previous_close: float
    open: float
    relative_volume: float | None
    dollar_volume_mean: float | None


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that is not taken at face value: `gap_raw` from prices as they stand, `gap` what counts instead (None: nothing)."""

    symbol: str
    date: date
    reason: str
    gap_raw: float | None
    gap: float | None


@dataclass(frozen=True, slots=True)
class ScannedSession:
    """A session with at least one symbol past the gap threshold."""

    date: date
    candidates: tuple[PastGap, ...]
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class PastScanReport:
    """`gap_ups_per_symbol_year` counts gaps up past the threshold whether or not the other rules passed."""

    volume: VolumeBasis
    rules: ScanRules
    symbols: int
    sessions: int
    gap_ups: int
    gap_downs: int
    gap_ups_per_symbol_year: dict[tuple[str, int], int]
    scanned: tuple[ScannedSession, ...]
    top_up: tuple[PastGap, ...]
    top_down: tuple[PastGap, ...]
    dropped: tuple[DroppedRow, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, dates in ISO form."""

        def rows(gaps: tuple[Any, ...]) -> list[dict[str, Any]]:
            return [{**asdict(gap), "date": gap.date.isoformat()} for gap in gaps]

        def candidates(gaps: tuple[PastGap, ...]) -> list[dict[str, Any]]:
            return [{**row, "direction": (Direction.UP if row["gap"] > 0 else Direction.DOWN).value} for row in rows(gaps)]

        return {
            "volume": self.volume.value,
            "rules": asdict(self.rules),
            "symbols": self.symbols,
            "sessions": self.sessions,
            "gap_ups": self.gap_ups,
            "gap_downs": self.gap_downs,
            "gap_ups_per_symbol_year": [
                {"symbol": symbol, "year": year, "count": count}
                for (symbol, year), count in sorted(self.gap_ups_per_symbol_year.items())
            ],
            "sessions_with_gaps": [
                {"date": session.date.isoformat(), "candidates": candidates(session.candidates), "reasons": session.reasons}
                for session in self.scanned
            ],
            "top_gaps": {"up": rows(self.top_up), "down": rows(self.top_down)},
            "dropped": rows(self.dropped),
        }


def scan_past_sessions(
    sessions: Iterable[PastSession], rules: ScanRules, volume: VolumeBasis, policy: PastScanPolicy
) -> PastScanReport:
    """Scan each session at its open with the rules of trading; no session sees a later one (but see VolumeBasis).

    Without a volume basis the relative-volume rule is not applied: at the open nothing has traded yet.
    """
    report = _Report(policy)
    state: FeatureState | None = None
    for past in sessions:
        if state is None or state.symbols != past.prior.symbols:
            state = FeatureState(past.prior.symbols)
            rules = _rules_of_past(rules, volume, policy, len(state.symbols))
        state.reset(past.session)
        state.update(_opening_block(past, volume))
        prior = past.prior
        if volume is VolumeBasis.NONE:
            prior = replace(prior, cumulative_volume_mean=np.ones_like(prior.cumulative_volume_mean))
        report.add(past, scan(state, prior, MINUTE, rules), volume)
    if state is None:
        raise BadInput("no past session to scan: the window holds none")
    return report.finished(volume, rules, len(state.symbols))


def _rules_of_past(rules: ScanRules, volume: VolumeBasis, policy: PastScanPolicy, symbols: int) -> ScanRules:
    """No symbol is outranked: the past is counted, not traded."""
    least = policy.full_day_relative_volume_min if volume is VolumeBasis.FULL_DAY else 0.0
    return replace(rules, relative_volume_min=least, candidates_max=max(symbols, 1))


def _opening_block(past: PastSession, volume: VolumeBasis) -> BarBlock:
    """The open as the only price of the first minute; volume of one share where the basis knows none."""
    present = np.isfinite(past.open)
    shares = past.volume if volume is VolumeBasis.FULL_DAY else np.ones_like(past.open)
    quality = np.where(present, np.uint8(BarQuality.OK), np.uint8(BarQuality.MISSING))
    return BarBlock(past.session.instant_of(MINUTE), past.open, past.open, past.open, past.open, shares, quality)


class _Report:
    """Gathers the sessions one by one."""

    def __init__(self, policy: PastScanPolicy) -> None:
        self._policy = policy
        self._sessions = 0
        self._ups: Counter[tuple[str, int]] = Counter()
        self._downs = 0
        self._scanned: list[ScannedSession] = []
        self._up: list[PastGap] = []
        self._down: list[PastGap] = []
        self._dropped: list[DroppedRow] = []

    def add(self, past: PastSession, result: ScanResult, volume: VolumeBasis) -> None:
        self._sessions += 1
        up = result.gap[result.past.columns] > 0
        for column in result.past.columns[up].tolist():
            self._ups[result.symbols[column], past.session.date.year] += 1
        self._downs += int((~up).sum())
        if len(result.past.columns):
            ranked = tuple(_past_gap(past, result, column, volume) for column in result.ranked.columns.tolist())
            self._scanned.append(ScannedSession(past.session.date, ranked, result.counts()))
        self._keep_top(past, result, volume)
        self._dropped += _dropped_rows(past, result)

    def _keep_top(self, past: PastSession, result: ScanResult, volume: VolumeBasis) -> None:
        """The largest of the session join the largest so far; equal gaps keep the order date, symbol."""
        for kept, sign in ((self._up, 1.0), (self._down, -1.0)):
            signed = np.where(_believed(result), sign * result.gap, -np.inf)
            for column in np.argsort(-signed, kind="stable")[: self._policy.top_gaps].tolist():
                if signed[column] <= 0.0 or (len(kept) == self._policy.top_gaps and signed[column] <= sign * kept[-1].gap):
                    break
                kept.append(_past_gap(past, result, column, volume))
                kept.sort(key=lambda gap, sign=sign: -sign * gap.gap)  # type: ignore[misc]  # mypy cannot type a bound default
                del kept[self._policy.top_gaps :]

    def finished(self, volume: VolumeBasis, rules: ScanRules, symbols: int) -> PastScanReport:
        return PastScanReport(
            volume=volume,
            rules=rules,
            symbols=symbols,
            sessions=self._sessions,
            gap_ups=self._ups.total(),
            gap_downs=self._downs,
            gap_ups_per_symbol_year=dict(self._ups),
            scanned=tuple(self._scanned),
            top_up=tuple(self._up),
            top_down=tuple(self._down),
            dropped=tuple(self._dropped),
        )


def _believed(result: ScanResult) -> NDArray[np.bool_]:
    """Which gaps are known and not of a refused row."""
    known = np.isfinite(result.gap) & (result.gap > -1.0)
    return np.asarray(known & (result.reasons != np.uint8(ScanReason.EXCLUDED)))


def _past_gap(past: PastSession, result: ScanResult, column: int, volume: VolumeBasis) -> PastGap:
    mean, dollars = past.prior.cumulative_volume_mean[0, column], past.prior.dollar_volume_mean[column]
    known = volume is VolumeBasis.FULL_DAY and mean > 0
    return PastGap(
        symbol=result.symbols[column],
        date=past.session.date,
        gap=float(result.gap[column]),
        previous_close=float(past.prior.previous_close[column]),
        open=float(past.open[column]),
        relative_volume=float(past.volume[column] / mean) if known else None,
        dollar_volume_mean=float(dollars) if np.isfinite(dollars) else None,
    )


def _dropped_rows(past: PastSession, result: ScanResult) -> list[DroppedRow]:
    """Rows that the sanity filter keeps out, and split rows, whose raw gap is not a move."""
    day, index = past.session.date, {symbol: column for column, symbol in enumerate(result.symbols)}
    rows = [
        DroppedRow(symbol, day, reason, gap_raw=None, gap=None)
        for symbol, reason in (past.prior.excluded | past.refused).items()
        if symbol in past.refused or np.isfinite(past.open[index[symbol]])
    ]
    for column in np.flatnonzero(past.split != 1.0).tolist():
        value, gap = float(past.split[column]), float(result.gap[column])
        if np.isfinite(gap):
            raw = (1.0 + gap) / value - 1.0
            rows.append(DroppedRow(result.symbols[column], day, f"split, {value:g} new shares per old", raw, gap))
    return rows
