"""Past gaps as rows to learn from: what was known at the open, and which barrier the day met first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.regime import Regime, RegimeProbabilities
from finagent.domain.sessions import Session
from finagent.quant.evaluation.labels import Barriers, Labels, Path, label_days
from finagent.quant.learning.learning_rows import LearningRows
from finagent.services.market_data.daily_features import DailyFeatures
from finagent.services.market_data.past_opens import AT_THE_OPEN, PastOpen, past_open

_GAP, _NATR = AT_THE_OPEN.columns["gap"], AT_THE_OPEN.columns["natr_14"]


@dataclass(frozen=True, slots=True)
class PastCandidatePolicy:
    """A gap counts from `gap_fraction_min` and from `gap_atr_min` times the ATR on, whichever is more."""

    gap_fraction_min: float = 0.005
    gap_atr_min: float = 0.3
    barriers: Barriers = field(default_factory=Barriers)

    def __post_init__(self) -> None:
        if not 0.0 <= self.gap_fraction_min < np.inf or not 0.0 <= self.gap_atr_min < np.inf:
            raise BadInput(f"past candidates: {self}: limits from 0 are needed")


@dataclass(frozen=True, slots=True)
class PastCandidates:
    """`rows` of features AT_THE_OPEN, whose sessions are places in `sessions`."""

    sessions: tuple[date, ...]
    symbols: tuple[str, ...]
    rows: LearningRows


async def past_candidates(
    market: MarketDataPort,
    sessions: Sequence[Session],
    days: DailyFeatures,
    regimes: RegimeProbabilities,
    policy: PastCandidatePolicy,
    done: Callable[[], None] = lambda: None,
) -> PastCandidates:
    """Of all but the last of the sessions; `done` is called after each. The regime is that of the mean of all symbols as known at
    the close before. BadInput for fewer than two sessions and where no gap has a label."""
    if len(sessions) < 2:
        raise BadInput(f"past candidates: {len(sessions)} sessions, two are needed: what a day brought is known after it")
    parts: list[tuple[Floats, Labels, NDArray[np.bool_]]] = []
    index = [100.0]
    for place, (session, following) in enumerate(pairwise(sessions)):
        past = await past_open(market, session, following, days)
        parts.append((past.features, *_labelled(past, place, policy)))
        moved = past.change[np.isfinite(past.change)]
        index.append(index[-1] * (1.0 + float(moved.mean())) if len(moved) else index[-1])
        done()
    kept = np.concatenate([keep for _, _, keep in parts])
    if not kept.any():
        raise BadInput(f"past candidates: no gap with a label from {sessions[0].date} to {sessions[-2].date}")
    starts = np.concatenate([labels.label_start for _, labels, _ in parts])[kept]
    told = regimes.probabilities(np.asarray(index[:-1]))  # row t is after the close before session t
    features = np.concatenate([each for each, _, _ in parts])[kept].astype(np.float32)
    rows = LearningRows(
        inputs=np.where(np.isfinite(features), features, np.float32(np.nan))[:, np.newaxis],
        outcomes=np.concatenate([labels.outcome for _, labels, _ in parts])[kept],
        targets_atr=np.concatenate([labels.target_atr for _, labels, _ in parts])[kept],
        starts=starts,
        ends=np.concatenate([labels.label_end for _, labels, _ in parts])[kept],
        regimes=told[starts][:, list(Regime)],
    )
    return PastCandidates(tuple(session.date for session in sessions[:-1]), market.symbols, rows)


def _labelled(past: PastOpen, place: int, policy: PastCandidatePolicy) -> tuple[Labels, NDArray[np.bool_]]:
    """Labels [symbols], and which of them are of gaps that count."""
    gap, atr_fraction = past.features[:, _GAP], past.features[:, _NATR] / 100.0
    path = Path(past.high, past.low, past.close)
    labels = label_days(past.open, path, atr_fraction, np.full(len(gap), place, dtype=np.int64), policy.barriers)
    with np.errstate(invalid="ignore"):
        counts = np.abs(gap) >= np.maximum(policy.gap_fraction_min, policy.gap_atr_min * atr_fraction)
    return labels, np.asarray(counts & labels.known)
