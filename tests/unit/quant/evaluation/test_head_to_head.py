"""The figures of a pair of models: what the better one earns in evidence, and what silence costs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.predictor import Forecasts
from finagent.quant.evaluation.head_to_head import Burden, DecidedRows, Search, health, weigh
from finagent.quant.evaluation.promotion import Evidence, Gate, Guards, Health, Line, judge_demotion, judge_promotion

SEARCH, BURDEN = Search(10, 0.3, 0.1), Burden(2.0, 4096)
DAYS, A_DAY = 300, 4


def rows_of(seed: int, skill: float) -> tuple[DecidedRows, Floats]:
    """Rows whose true probability of a win is known, and that probability."""
    draw = np.random.default_rng(seed)
    signal = draw.normal(size=(DAYS * A_DAY, 1))
    chance = 1.0 / (1.0 + np.exp(-skill * signal[:, 0]))
    won = draw.random(len(chance)) < chance
    days = np.repeat(np.arange(DAYS), A_DAY)
    return DecidedRows(signal, won, np.where(won, 0.01, -0.01) - 0.001, days), chance


def weighed(rows: DecidedRows, champion: Floats, challenger: Floats, search: Search = SEARCH) -> Evidence:
    return weigh(rows, Forecasts.sure(champion), Forecasts.sure(challenger), 0.5, search, BURDEN)


def test_who_knows_the_truth_is_promoted_over_who_knows_nothing() -> None:
    rows, chance = rows_of(1, 2.0)
    guess = np.random.default_rng(9).permutation(chance)
    told = weighed(rows, guess, chance)
    verdict = judge_promotion(told, Gate())
    assert verdict.positive, [str(finding) for finding in verdict.findings]
    assert (told.predictions, told.days) == (DAYS * A_DAY, DAYS)
    assert told.calibration_error < 0.05

    back = judge_promotion(weighed(rows, chance, guess), Gate())
    assert {Line.LOSS_EVIDENCE, Line.SHARPE_DIFFERENCE, Line.BENCHMARK_SHARPE} <= set(back.failed)


def test_a_champion_that_guesses_falls_to_one_that_knows_and_not_the_other_way() -> None:
    rows, chance = rows_of(1, 2.0)
    guess = np.random.default_rng(9).permutation(chance)
    assert Line.LOSS_EVIDENCE in judge_demotion(health(rows, Forecasts.sure(guess), Forecasts.sure(chance), 0.5), Guards()).failed
    told = health(rows, Forecasts.sure(chance), Forecasts.sure(guess), 0.5)
    assert not judge_demotion(told, Guards()).positive
    assert told.calibration_error == weighed(rows, guess, chance).calibration_error
    assert told.drawdown_fraction == weighed(rows, guess, chance).drawdown_fraction


def test_without_rows_or_a_model_before_it_there_is_no_figure() -> None:
    rows, chance = rows_of(1, 2.0)
    assert health(rows, Forecasts.sure(chance), None, 0.5).evidence_against is None
    none = DecidedRows(rows.features[:0], rows.won[:0], rows.net_return[:0], rows.days[:0])
    assert health(none, Forecasts.sure(chance[:0]), Forecasts.sure(chance[:0]), 0.5) == Health()


def test_rows_without_a_score_say_nothing_of_the_calibration_of_a_champion() -> None:
    """Data that were away must not take an honest model away."""
    chance = np.random.default_rng(5)
    won = chance.random(DAYS * A_DAY) < 0.2
    rows = DecidedRows(np.zeros((len(won), 1)), won, np.zeros(len(won)), np.repeat(np.arange(DAYS), A_DAY))
    scores = np.where(np.arange(len(won)) % 2, 0.2, np.nan)
    told = health(rows, Forecasts.sure(scores), None, 0.5)
    assert told.calibration_error == pytest.approx(0.0, abs=0.02)
    assert not judge_demotion(told, Guards()).positive
    assert health(rows, Forecasts.sure(np.full(len(won), np.nan)), None, 0.5).calibration_error is None


def test_the_same_forecasts_are_no_evidence() -> None:
    rows, chance = rows_of(2, 1.0)
    told = weighed(rows, chance, chance)
    assert told.loss_evidence == 1.0
    assert math.isnan(told.sharpe_difference_lower)
    assert not judge_promotion(told, Gate()).positive


def test_silence_is_worth_a_coin() -> None:
    rows, chance = rows_of(3, 2.0)
    silent = np.where(chance > 0.5, chance, np.nan)
    assert weighed(rows, chance, silent).loss_evidence < 1.0
    coin = weighed(rows, chance, np.where(np.isnan(silent), 0.5, silent))
    assert weighed(rows, chance, silent).loss_evidence == coin.loss_evidence


def test_who_abstains_trades_less_and_is_judged_on_what_it_said_all_the_same() -> None:
    rows, chance = rows_of(3, 2.0)
    sure = weigh(rows, Forecasts.sure(chance), Forecasts.sure(chance), 0.5, SEARCH, BURDEN)
    wary = weigh(rows, Forecasts.sure(chance), Forecasts(chance, chance < 0.8), 0.5, SEARCH, BURDEN)
    assert (wary.loss_evidence, wary.calibration_error) == (sure.loss_evidence, sure.calibration_error)
    assert wary.drawdown_fraction < sure.drawdown_fraction
    assert Forecasts(np.asarray([0.6, 0.6, 0.4, np.nan]), np.asarray([True, False, False, False])).traded(0.5).tolist() == [
        False, True, False, False,
    ]  # fmt: skip


def test_returns_are_means_of_sessions_and_losses_count_from_the_peak() -> None:
    rows = DecidedRows(
        np.zeros((5, 1)), np.asarray([True, False, False, True, False]), np.asarray([0.02, -0.04, -0.01, 0.03, -0.5]),
        np.asarray([1, 1, 2, 3, 3]),
    )  # fmt: skip
    challenger = np.asarray([0.9, 0.9, 0.9, 0.9, 0.1])
    told = weighed(rows, np.full(5, 0.1), challenger)
    by_day = np.asarray([-0.01, -0.01, 0.03])
    assert told.drawdown_fraction == pytest.approx(1.0 - 0.99 * 0.99)
    assert told.champion_drawdown_fraction == 0.0
    assert told.sharpe == pytest.approx(by_day.mean() / by_day.std(ddof=1) * math.sqrt(252))


def test_who_does_not_say_how_it_was_found_is_not_promoted() -> None:
    rows, chance = rows_of(1, 2.0)
    guess = np.random.default_rng(9).permutation(chance)
    unknown = weighed(rows, guess, chance, Search(math.nan, math.nan, math.nan))
    assert set(judge_promotion(unknown, Gate()).failed) == {Line.DEFLATED_SHARPE, Line.OVERFITTING}


def test_no_rows_promote_nobody() -> None:
    rows = DecidedRows(np.empty((0, 3)), np.empty(0, np.bool_), np.empty(0), np.empty(0, np.int64))
    verdict = judge_promotion(weighed(rows, np.empty(0), np.empty(0)), Gate())
    assert set(verdict.failed) >= {Line.PREDICTIONS, Line.DAYS, Line.LOSS_EVIDENCE, Line.CALIBRATION, Line.DRAWDOWN}


@pytest.mark.parametrize("scores", [np.full(DAYS * A_DAY, 1.5), np.full(DAYS * A_DAY, -0.1), np.full(3, 0.5)])
def test_what_is_no_probability_is_refused(scores: Floats) -> None:
    rows, chance = rows_of(1, 2.0)
    with pytest.raises(BadInput, match="one in \\[0, 1\\] or NaN"):
        weighed(rows, chance, scores)


def test_rows_that_do_not_belong_together_are_refused() -> None:
    rows, _ = rows_of(1, 2.0)
    with pytest.raises(BadInput, match="won has shape"):
        replace(rows, won=rows.won[1:])
    with pytest.raises(BadInput, match="not finite"):
        replace(rows, net_return=np.full(len(rows.won), np.nan))
