"""Every line of the gate can refuse alone, by name; a champion goes by one breached guard."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.promotion import Evidence, Gate, Guards, Health, Line, judge_demotion, judge_promotion

GOOD = Evidence(
    predictions=250,
    days=20,
    loss_evidence=20.5,
    sharpe_difference_lower=-0.4,
    sharpe=1.2,
    benchmark_sharpe=1.0,
    deflated_sharpe=0.95,
    overfitting_probability=0.2,
    calibration_error=0.05,
    champion_calibration_error=0.04,
    latency_p95_ms=50.0,
    size_bytes=250_000,
    drawdown_fraction=0.125,
    champion_drawdown_fraction=0.1,
)
GATE = Gate()


def test_who_passes_every_line_is_promoted() -> None:
    verdict = judge_promotion(GOOD, GATE)
    assert verdict.positive
    assert verdict.failed == ()
    assert {finding.line for finding in verdict.findings} == set(Line) - {Line.FAILURES}
    assert str(verdict.findings[2]) == "LOSS_EVIDENCE: 20.5, as above 20"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"predictions": 249}, Line.PREDICTIONS),
        ({"days": 19}, Line.DAYS),
        ({"loss_evidence": 20.0}, Line.LOSS_EVIDENCE),
        ({"sharpe_difference_lower": -0.5}, Line.SHARPE_DIFFERENCE),
        ({"sharpe": 1.1}, Line.BENCHMARK_SHARPE),
        ({"deflated_sharpe": 0.90}, Line.DEFLATED_SHARPE),
        ({"deflated_sharpe": 1.01}, Line.DEFLATED_SHARPE),
        ({"overfitting_probability": 0.3}, Line.OVERFITTING),
        ({"overfitting_probability": -0.1}, Line.OVERFITTING),
        ({"calibration_error": 0.051}, Line.CALIBRATION),
        ({"latency_p95_ms": 50.1}, Line.LATENCY),
        ({"latency_p95_ms": -1.0}, Line.LATENCY),
        ({"size_bytes": 64 * 2**20 + 1}, Line.SIZE),
        ({"drawdown_fraction": 0.126}, Line.DRAWDOWN),
    ],
)
def test_each_line_refuses_alone_and_by_name(change: dict[str, Any], line: Line) -> None:
    verdict = judge_promotion(replace(GOOD, **change), GATE)
    assert not verdict.positive
    assert verdict.failed == (line,)
    failed = next(finding for finding in verdict.findings if not finding.passed)
    assert ", not " in str(failed)
    assert math.isfinite(failed.limit)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [field.name for field in fields(Evidence)])
def test_a_figure_that_is_not_finite_refuses_by_name(name: str, value: float) -> None:
    change: dict[str, Any] = {name: value}
    verdict = judge_promotion(replace(GOOD, **change), GATE)
    assert len(verdict.failed) == 1
    assert not verdict.positive
    assert "not finite" in " ".join(str(finding) for finding in verdict.findings)


def test_more_sharpe_alone_promotes_nobody() -> None:
    verdict = judge_promotion(replace(GOOD, sharpe=9.0, loss_evidence=1.0), GATE)
    assert verdict.failed == (Line.LOSS_EVIDENCE,)


@pytest.mark.parametrize(("sharpe", "passes"), [(-1.05, False), (-1.0, False), (-0.95, False), (-0.89, True)])
def test_a_benchmark_below_zero_is_not_easier_to_beat_than_itself(sharpe: float, passes: bool) -> None:
    verdict = judge_promotion(replace(GOOD, sharpe=sharpe, benchmark_sharpe=-1.0), GATE)
    assert verdict.positive is passes


def test_a_champion_that_hardly_traded_bars_nobody() -> None:
    idle = replace(GOOD, champion_drawdown_fraction=0.0, drawdown_fraction=0.025)
    assert judge_promotion(idle, GATE).positive
    assert judge_promotion(replace(idle, drawdown_fraction=0.026), GATE).failed == (Line.DRAWDOWN,)


HEALTHY = Health(calibration_error=0.1, latency_p95_ms=50.0, drawdown_fraction=0.1, failed_fraction=0.01, evidence_against=20.0)
BREACHES: dict[str, tuple[float, Line]] = {
    "calibration_error": (0.11, Line.CALIBRATION),
    "latency_p95_ms": (51.0, Line.LATENCY),
    "drawdown_fraction": (0.11, Line.DRAWDOWN),
    "failed_fraction": (0.02, Line.FAILURES),
    "evidence_against": (20.1, Line.LOSS_EVIDENCE),
}


@pytest.mark.parametrize("name", BREACHES)
def test_one_breached_guard_demotes_by_name(name: str) -> None:
    value, line = BREACHES[name]
    assert not judge_demotion(HEALTHY, Guards()).positive
    for worse in (value, math.nan, math.inf):
        verdict = judge_demotion(replace(HEALTHY, **{name: worse}), Guards())
        assert verdict.positive
        assert verdict.failed == (line,)


def test_what_is_not_measured_yet_demotes_nobody() -> None:
    verdict = judge_demotion(Health(), Guards())
    assert not verdict.positive
    assert verdict.findings == ()
    assert judge_demotion(Health(failed_fraction=1.0), Guards()).failed == (Line.FAILURES,)


def test_limits_must_be_finite() -> None:
    with pytest.raises(BadInput, match="loss_evidence_above is inf"):
        Gate(loss_evidence_above=math.inf)
    with pytest.raises(BadInput, match="drawdown_fraction_max is nan"):
        Guards(drawdown_fraction_max=math.nan)
