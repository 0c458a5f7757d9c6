"""Who trades: a challenger takes over when every line of the gate says so, a champion goes when one guard is breached."""

import math
from dataclasses import dataclass, fields
from enum import StrEnum

from finagent.domain.errors import BadInput


class Line(StrEnum):
    """What was asked of a model."""

    PREDICTIONS = "PREDICTIONS"
    DAYS = "DAYS"
    LOSS_EVIDENCE = "LOSS_EVIDENCE"
    SHARPE_DIFFERENCE = "SHARPE_DIFFERENCE"
    BENCHMARK_SHARPE = "BENCHMARK_SHARPE"  # necessary, and never sufficient: of two equal models it prefers one half the time
    DEFLATED_SHARPE = "DEFLATED_SHARPE"
    OVERFITTING = "OVERFITTING"
    CALIBRATION = "CALIBRATION"
    LATENCY = "LATENCY"
    SIZE = "SIZE"
    DRAWDOWN = "DRAWDOWN"
    FAILURES = "FAILURES"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Figures of a challenger over the rows that the champion forecast too.

    `loss_evidence` see comparison.evidence, on the day of the decision; `sharpe_difference_lower` the annual difference to the
    champion that is exceeded with 80 % confidence (SharpeDifference.lower); Sharpe ratios annual and after costs; errors of
    calibration from 0 to 1; drawdowns as fractions of the peak, 0 and above.
    """

    predictions: int
    days: int
    loss_evidence: float
    sharpe_difference_lower: float
    sharpe: float
    benchmark_sharpe: float
    deflated_sharpe: float
    overfitting_probability: float
    calibration_error: float
    champion_calibration_error: float
    latency_p95_ms: float
    size_bytes: int
    drawdown_fraction: float
    champion_drawdown_fraction: float


@dataclass(frozen=True, slots=True)
class Gate:
    """Limits of a promotion. `drawdown_ratio_max` is of the champion's drawdown, which counts as `drawdown_fraction_free` at
    least: a champion that hardly traded must not bar everybody else."""

    predictions_min: int = 250
    days_min: int = 20
    loss_evidence_above: float = 20.0
    sharpe_difference_lower_above: float = -0.5
    benchmark_ratio_above: float = 1.1
    deflated_sharpe_above: float = 0.90
    overfitting_probability_below: float = 0.3
    calibration_error_worse_max: float = 0.01
    latency_p95_ms_max: float = 50.0
    size_bytes_max: int = 64 * 2**20
    drawdown_ratio_max: float = 1.25
    drawdown_fraction_free: float = 0.02

    def __post_init__(self) -> None:
        _require_finite(self)


@dataclass(frozen=True, slots=True)
class Health:
    """Figures of the champion while it trades, None: not measured yet. `evidence_against` as comparison.evidence, with the model
    before it as the challenger; `failed_fraction` of the rows that it failed at."""

    calibration_error: float | None = None
    latency_p95_ms: float | None = None
    drawdown_fraction: float | None = None
    failed_fraction: float | None = None
    evidence_against: float | None = None


@dataclass(frozen=True, slots=True)
class Guards:
    """What a champion may not exceed, whatever it earned so far."""

    calibration_error_max: float = 0.10
    latency_p95_ms_max: float = 50.0
    drawdown_fraction_max: float = 0.10
    failed_fraction_max: float = 0.01
    evidence_against_max: float = 20.0

    def __post_init__(self) -> None:
        _require_finite(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `value` against `limit`, and in which relation the one must stand to the other."""

    line: Line
    value: float
    relation: str
    limit: float
    passed: bool

    def __str__(self) -> str:
        if not math.isfinite(self.value) or not math.isfinite(self.limit):
            return f"{self.line}: not finite ({self.value:g} {self.relation} {self.limit:g})"
        return f"{self.line}: {self.value:g}, {'as' if self.passed else 'not'} {self.relation} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`positive`: promote, or demote; `findings` are all lines in their order."""

    positive: bool
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Line, ...]:
        """The lines that speak against the model."""
        return tuple(finding.line for finding in self.findings if not finding.passed)


def judge_promotion(evidence: Evidence, gate: Gate) -> Verdict:
    """Promote only if all lines pass; a figure that is not finite, or cannot be, never does."""
    benchmark = evidence.benchmark_sharpe
    drawdown_limit = gate.drawdown_ratio_max * max(evidence.champion_drawdown_fraction, gate.drawdown_fraction_free)
    if not math.isfinite(evidence.champion_drawdown_fraction):
        drawdown_limit = math.nan
    findings = (
        _at_least(Line.PREDICTIONS, evidence.predictions, gate.predictions_min),
        _at_least(Line.DAYS, evidence.days, gate.days_min),
        _above(Line.LOSS_EVIDENCE, evidence.loss_evidence, gate.loss_evidence_above),
        _above(Line.SHARPE_DIFFERENCE, evidence.sharpe_difference_lower, gate.sharpe_difference_lower_above),
        # Of a benchmark below zero a multiple would be easier to beat than the benchmark itself.
        _above(Line.BENCHMARK_SHARPE, evidence.sharpe, benchmark + (gate.benchmark_ratio_above - 1.0) * abs(benchmark)),
        _above(Line.DEFLATED_SHARPE, evidence.deflated_sharpe, gate.deflated_sharpe_above, most=1.0),
        _below(Line.OVERFITTING, evidence.overfitting_probability, gate.overfitting_probability_below),
        _at_most(
            Line.CALIBRATION,
            evidence.calibration_error,
            evidence.champion_calibration_error + gate.calibration_error_worse_max,
        ),
        _at_most(Line.LATENCY, evidence.latency_p95_ms, gate.latency_p95_ms_max),
        _at_most(Line.SIZE, evidence.size_bytes, gate.size_bytes_max),
        _at_most(Line.DRAWDOWN, evidence.drawdown_fraction, drawdown_limit),
    )
    return Verdict(all(finding.passed for finding in findings), findings)


def judge_demotion(health: Health, guards: Guards) -> Verdict:
    """Demote as soon as one guard is breached, or a measured figure is not finite; what is not measured yet is no line."""
    asked = (
        (Line.CALIBRATION, health.calibration_error, guards.calibration_error_max),
        (Line.LATENCY, health.latency_p95_ms, guards.latency_p95_ms_max),
        (Line.DRAWDOWN, health.drawdown_fraction, guards.drawdown_fraction_max),
        (Line.FAILURES, health.failed_fraction, guards.failed_fraction_max),
        (Line.LOSS_EVIDENCE, health.evidence_against, guards.evidence_against_max),
    )
    findings = tuple(_at_most(line, value, limit) for line, value, limit in asked if value is not None)
    return Verdict(not all(finding.passed for finding in findings), findings)


def _finding(line: Line, value: float, relation: str, limit: float, holds: bool) -> Finding:
    return Finding(line, float(value), relation, float(limit), holds and math.isfinite(value) and math.isfinite(limit))


def _above(line: Line, value: float, limit: float, most: float = math.inf) -> Finding:
    return _finding(line, value, "above", limit, limit < value <= most)


def _at_least(line: Line, value: float, limit: float) -> Finding:
    return _finding(line, value, "at least", limit, value >= limit)


def _below(line: Line, value: float, limit: float) -> Finding:
    """Of figures that cannot be below zero."""
    return _finding(line, value, "from 0 to below", limit, 0.0 <= value < limit)


def _at_most(line: Line, value: float, limit: float) -> Finding:
    """Of figures that cannot be below zero."""
    return _finding(line, value, "from 0 to", limit, 0.0 <= value <= limit)


def _require_finite(limits: Gate | Guards) -> None:
    for field in fields(limits):
        if not math.isfinite(getattr(limits, field.name)):
            raise BadInput(f"promotion limits: {field.name} is {getattr(limits, field.name)}, must be finite")
