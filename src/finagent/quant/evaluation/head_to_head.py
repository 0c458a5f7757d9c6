"""A champion and its challenger on the same decided rows: the figures that the gate judges."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.predictor import Forecasts
from finagent.quant.evaluation.calibration import reliability
from finagent.quant.evaluation.comparison import day_differences, evidence
from finagent.quant.evaluation.overfitting import deflated_sharpe
from finagent.quant.evaluation.promotion import Evidence, Health
from finagent.quant.evaluation.sharpe import annual_sharpe, compare_sharpe, session_returns
from finagent.quant.risk.drawdown import drawdowns

UNDECIDED = 0.5  # what no score is worth: a model does not look better for being silent
CALIBRATION_BINS = 10
SHARPE_CONFIDENCE = 0.8
SESSIONS_MIN = 2  # for a deviation


@dataclass(frozen=True, slots=True)
class DecidedRows:
    """What both models could know and what came of it. `features` [rows, features]; `won` [rows]: the price went the way of the
    gap by the target before it went the other way; `net_return` [rows] of a trade that way, as a fraction after costs; `days`
    [rows] ordinals of their sessions."""

    features: Floats
    won: NDArray[np.bool_]
    net_return: Floats
    days: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows = (len(self.features),)
        for name, array in (("won", self.won), ("net_return", self.net_return), ("days", self.days)):
            if array.shape != rows:
                raise BadInput(f"decided rows: {name} has shape {array.shape}, not {rows}")
        if not np.isfinite(self.net_return).all():
            raise BadInput("decided rows: a net return is not finite")


@dataclass(frozen=True, slots=True)
class Search:
    """How the challenger was found: trials in all, the deviation of their annual Sharpe ratios, and the probability that the
    choice among them is overfitted. NaN where its maker does not say: then the gate stays shut."""

    trials: float
    trial_deviation: float
    overfitting_probability: float


@dataclass(frozen=True, slots=True)
class Burden:
    """What the challenger costs to serve."""

    latency_p95_ms: float
    size_bytes: int


def weigh(
    rows: DecidedRows, champion: Forecasts, challenger: Forecasts, score_min: float, search: Search, burden: Burden
) -> Evidence:
    """The evidence for the challenger. Scores are probabilities of `won`; a model trades the rows that it scores `score_min` or
    more and does not abstain from, the benchmark trades all. Figures that so few rows cannot have are NaN. BadInput for scores
    outside [0, 1] and of another shape."""
    told, other = _probabilities(champion, rows), _probabilities(challenger, rows)
    old, new = (session_returns(rows.days, rows.net_return, each.traded(score_min)) for each in (champion, challenger))
    benchmark = session_returns(rows.days, rows.net_return, np.ones(len(rows.won), dtype=np.bool_))
    enough = len(new) >= SESSIONS_MIN
    return Evidence(
        predictions=len(rows.won),
        days=len(new),
        loss_evidence=_loss_evidence(told, other, rows),
        sharpe_difference_lower=compare_sharpe(new, old).lower(SHARPE_CONFIDENCE) if enough else math.nan,
        sharpe=annual_sharpe(new) if enough else math.nan,
        benchmark_sharpe=annual_sharpe(benchmark) if enough else math.nan,
        deflated_sharpe=_deflated(new, search) if enough else math.nan,
        overfitting_probability=search.overfitting_probability,
        calibration_error=_calibration(other, rows.won),
        champion_calibration_error=_calibration(told, rows.won),
        latency_p95_ms=burden.latency_p95_ms,
        size_bytes=burden.size_bytes,
        drawdown_fraction=_drawdown(new),
        champion_drawdown_fraction=_drawdown(old),
    )


def health(rows: DecidedRows, champion: Forecasts, previous: Forecasts | None, score_min: float) -> Health:
    """What came of what the champion said, beside the model before it where there is one, as for `weigh`. No figure where there
    are no rows; rows without a score say nothing of its calibration, they are the data's affair."""
    if not len(rows.won):
        return Health()
    told, said = _probabilities(champion, rows), np.isfinite(champion.scores)
    return Health(
        calibration_error=_calibration(told[said], rows.won[said]) if said.any() else None,
        drawdown_fraction=_drawdown(session_returns(rows.days, rows.net_return, champion.traded(score_min))),
        evidence_against=None if previous is None else _loss_evidence(told, _probabilities(previous, rows), rows),
    )


def _probabilities(forecasts: Forecasts, rows: DecidedRows) -> Floats:
    scores = forecasts.scores
    if scores.shape != rows.won.shape or ((scores < 0.0) | (scores > 1.0)).any():
        raise BadInput(f"scores of shape {scores.shape} for {len(rows.won)} rows: one in [0, 1] or NaN for each is needed")
    return np.where(np.isnan(scores), UNDECIDED, scores)


def _loss_evidence(champion: Floats, challenger: Floats, rows: DecidedRows) -> float:
    if not len(rows.won):
        return math.nan
    one, other = (np.stack((1.0 - forecasts, forecasts), axis=1) for forecasts in (champion, challenger))
    differences = day_differences(one, other, rows.won.astype(np.int64), rows.days)
    return float(evidence(differences.mean, differences.bound)[-1])


def _deflated(returns: Floats, search: Search) -> float:
    if not math.isfinite(search.trials) or not math.isfinite(search.trial_deviation):
        return math.nan
    return deflated_sharpe(returns, int(search.trials), search.trial_deviation)


def _calibration(forecasts: Floats, won: NDArray[np.bool_]) -> float:
    return reliability(forecasts, won, CALIBRATION_BINS).excess_error if len(won) else math.nan


def _drawdown(returns: Floats) -> float:
    """The largest loss from a peak, as a fraction of it; NaN without a session."""
    if not len(returns):
        return math.nan
    return float(drawdowns(np.concatenate(([1.0], np.cumprod(1.0 + returns)))).max())
