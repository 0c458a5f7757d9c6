"""The evidence on a challenger: both models on what was decided since either of them was trained, and what came of it."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np

from finagent.domain.bars import BarQuality, Floats, SessionBars
from finagent.domain.gap import Direction, FeatureVector, GapCandidate
from finagent.domain.ports.predictor import Forecasts, Predictor
from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.quant.evaluation.head_to_head import Burden, DecidedRows, Search, weigh
from finagent.quant.evaluation.labels import Barriers, Outcome, Path, label_minutes
from finagent.quant.evaluation.promotion import Evidence, Gate, Verdict, judge_promotion
from finagent.quant.features.catalogue import CANDIDATE

PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class ReviewPolicy:
    """`score_min` as the scoring service has it; positions are out `flat_minutes` before the close."""

    gate: Gate
    barriers: Barriers
    score_min: float
    flat_minutes: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A model with the last day that it was trained on (None: it is a formula)."""

    predictor: Predictor
    trained_until: date | None


@dataclass(frozen=True, slots=True)
class Review:
    """What the gate says; `left_out` counts candidates that are no evidence, by the reason."""

    champion: str
    challenger: str
    evidence: Evidence
    verdict: Verdict
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class Decided:
    """Rows of candidates whose session is over, by candidate, and how many were left out, by the reason."""

    rows: DecidedRows
    left_out: dict[str, int]


async def decided_since(
    reads: Reads,
    sessions: Iterable[Session],
    session_bars: Callable[[Session], Awaitable[SessionBars]],
    after: date | None,
    policy: ReviewPolicy,
) -> Decided:
    """Every candidate of those sessions after `after` that the store has, labelled with the minutes that followed."""
    left_out: dict[str, int] = defaultdict(int)
    features: list[tuple[float, ...]] = []
    won: list[bool] = []
    returns: list[float] = []
    days: list[int] = []
    for session in sessions:
        candidates = reads.find(GapCandidate, session_date=session.date)
        if not candidates:
            continue
        if after is not None and session.date <= after:
            left_out["the session was there when one of the models was trained"] += len(candidates)
            continue
        bars = await session_bars(session)
        for candidate in candidates:
            vector = reads.get(FeatureVector, candidate.decision_id)
            reason = _no_evidence(vector, bars)
            if vector is not None and not reason:
                outcome, net_return = _label(candidate, vector, bars, policy)
                reason = "" if outcome is not Outcome.UNKNOWN else "no sound price or range to label it with"
            if vector is None or reason:
                left_out[reason] += 1
                continue
            features.append(vector.values)
            won.append(outcome is (Outcome.UP if candidate.direction is Direction.UP else Outcome.DOWN))
            returns.append(net_return)
            days.append(session.date.toordinal())
    matrix = np.asarray(features, dtype=np.float64).reshape(len(features), len(CANDIDATE.names))
    rows = DecidedRows(matrix, np.asarray(won, dtype=np.bool_), np.asarray(returns, dtype=np.float64), np.asarray(days, np.int64))
    return Decided(rows, dict(left_out))


def review(
    champion: Contender, challenger: Contender, decided: Decided, search: Search, burden: Burden, policy: ReviewPolicy
) -> Review:
    """Both on the same rows, and the gate's verdict."""
    old, new = (forecasts_of(each.predictor, decided.rows.features) for each in (champion, challenger))
    evidence = weigh(decided.rows, old, new, policy.score_min, search, burden)
    return Review(
        champion.predictor.model_version,
        challenger.predictor.model_version,
        evidence,
        judge_promotion(evidence, policy.gate),
        decided.left_out,
    )


def _no_evidence(vector: FeatureVector | None, bars: SessionBars) -> str:
    if vector is None:
        return "its features are not stored"
    if vector.data_spec_hash != CANDIDATE.hash:
        return f"its features are of data spec {vector.data_spec_hash}, not {CANDIDATE.hash}"
    if vector.simulated or bars.simulated:
        return "its minutes are simulated: nobody traded so"
    return ""


def _label(candidate: GapCandidate, vector: FeatureVector, bars: SessionBars, policy: ReviewPolicy) -> tuple[Outcome, float]:
    """Outcome and net return as a fraction of an entry at the scan's last price."""
    if candidate.symbol not in bars.symbols:
        return Outcome.UNKNOWN, 0.0
    column = bars.symbols.index(candidate.symbol)
    minutes = slice(candidate.facts.minutes_since_open, bars.session.minutes - policy.flat_minutes)
    sound = bars.quality[minutes, column] == BarQuality.OK
    if not sound.any():
        return Outcome.UNKNOWN, 0.0
    high, low, close = (np.where(sound, each[minutes, column], np.nan)[np.newaxis] for each in (bars.high, bars.low, bars.close))
    range_fraction = vector.values[CANDIDATE.columns["natr_14"]] / PERCENT
    labels = label_minutes(
        np.asarray([candidate.facts.last]),
        Path(high, low, close),
        np.asarray([range_fraction]),
        np.asarray([minutes.start]),
        policy.barriers,
        1.0 if candidate.direction is Direction.UP else -1.0,
    )
    return Outcome(int(labels.outcome[0])), float(labels.target_atr[0]) * range_fraction


def forecasts_of(predictor: Predictor, rows: Floats) -> Forecasts:
    """Of whole rows of the catalogue."""
    columns = [CANDIDATE.columns[name] for name in predictor.spec.names]
    return predictor.predict(rows[:, columns]) if len(rows) else Forecasts.sure(np.empty(0))
