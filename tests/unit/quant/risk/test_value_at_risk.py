"""Value at risk by hand, by published figures and by what it must obey."""

from statistics import NormalDist

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.sharpe import annual_sharpe, annual_sortino, rolling_sharpe
from finagent.quant.risk.components import betas
from finagent.quant.risk.drawdown import drawdowns
from finagent.quant.risk.value_at_risk import Tail, cornish_fisher, filtered, tail

_CHANCE = np.random.Generator(np.random.Philox(key=12))
FAT = _CHANCE.standard_t(4, 501) * 0.009 + 0.0004
MARKET = _CHANCE.standard_t(4, 501) * 0.008
RETURNS = FAT + 0.5 * MARKET


def test_against_empyrical() -> None:
    """empyrical-reloaded 0.7.1 on the same returns; quantstats 0.0.86 says the same of drawdown and both ratios. Its quantile
    falls on a scenario with 501 days, so interpolation does not matter."""
    found = tail(RETURNS)

    assert found.value_at_risk == pytest.approx(0.01884318852851621, rel=1e-12)
    assert found.expected_shortfall == pytest.approx(0.03189094958162041, rel=1e-12)
    assert drawdowns(np.cumprod(np.append(1.0, 1.0 + RETURNS))).max() == pytest.approx(0.26965214001413296, rel=1e-12)
    assert annual_sharpe(RETURNS) == pytest.approx(0.3678579194528318, rel=1e-12)
    assert annual_sortino(RETURNS) == pytest.approx(0.5355070046663275, rel=1e-12)
    assert betas(RETURNS[:, None], MARKET)[0] == pytest.approx(0.484130056215403, rel=1e-12)
    rolling = rolling_sharpe(RETURNS, 63)
    assert (len(rolling), rolling[0], rolling[-1], rolling.sum()) == (
        439,
        pytest.approx(0.13364414195080895, rel=1e-11),
        pytest.approx(0.7295244532328778, rel=1e-11),
        pytest.approx(133.12747677657458, rel=1e-11),
    )


def test_the_tail_by_hand() -> None:
    losses = np.arange(1.0, 102.0)  # five of 101 scenarios lose more than 96

    assert tail(-losses) == Tail(96.0, 98.5)
    assert tail(-losses[:100]).value_at_risk == 96.0  # four of 100 lose more, not five
    assert tail(np.asarray([3.0])) == Tail(-3.0, -3.0)
    assert tail(-np.arange(1.0, 12.0), 0.9).value_at_risk == 10.0  # 1 - 0.9 is a little less than a tenth


def test_cornish_fisher_is_the_normal_value_without_skew_and_excess_kurtosis() -> None:
    normal = np.asarray([NormalDist(0.001, 0.02).inv_cdf((n + 0.5) / 200_000) for n in range(200_000)])

    assert cornish_fisher(normal) == pytest.approx(-NormalDist(0.001, 0.02).inv_cdf(0.05), rel=1e-3)
    assert cornish_fisher(np.full(5, -0.01)) == 0.01


def test_cornish_fisher_by_the_moments_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    z, skew, excess = stats.norm.ppf(0.05), stats.skew(RETURNS), stats.kurtosis(RETURNS)
    corrected = z + (z * z - 1) * skew / 6 + z * (z * z - 3) * excess / 24 - z * (2 * z * z - 5) * skew * skew / 36

    assert cornish_fisher(RETURNS) == pytest.approx(-(RETURNS.mean() + corrected * np.std(RETURNS)), rel=1e-12)


def test_filtering_by_hand() -> None:
    returns = np.asarray([0.01, -0.02, 0.03])
    before = [np.mean(returns**2)]
    for value in returns:
        before.append(0.94 * before[-1] + 0.06 * value**2)
    expected = [value * (before[3] / before[day]) ** 0.5 for day, value in enumerate(returns)]

    np.testing.assert_allclose(filtered(returns), expected, rtol=1e-14)


def test_filtered_losses_follow_the_volatility_of_today_and_past_ones_do_not() -> None:
    calm = np.concatenate([RETURNS * 3, RETURNS[:100] / 3])

    assert tail(filtered(calm)).value_at_risk < tail(filtered(RETURNS)).value_at_risk
    assert tail(filtered(calm)).value_at_risk < tail(calm).value_at_risk / 3


def test_filtering_is_by_series_and_keeps_days_together() -> None:
    both = filtered(np.column_stack([RETURNS, MARKET]))

    np.testing.assert_allclose(both[:, 1], filtered(MARKET), rtol=1e-12)
    np.testing.assert_allclose(filtered(np.column_stack([RETURNS, 2 * RETURNS])) @ [2.0, -1.0], 0.0, atol=1e-15)


def test_a_series_that_never_moved_has_no_scenarios() -> None:
    assert not filtered(np.zeros((9, 2))).any()


@pytest.mark.parametrize("wrong", [np.empty(0), np.asarray([0.1, np.nan]), np.asarray([np.inf, 0.0]), np.zeros((3, 3))])
def test_what_is_no_series_of_scenarios_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(BadInput, match="scenarios"):
        tail(wrong)
    with pytest.raises(BadInput, match="scenarios"):
        cornish_fisher(wrong)


def test_nonsense_is_refused() -> None:
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(BadInput, match="confidence"):
            tail(RETURNS, confidence)
    with pytest.raises(BadInput, match="decay"):
        filtered(RETURNS, 1.0)
    with pytest.raises(BadInput, match="finite"):
        filtered(np.asarray([0.1, np.nan]))
    with pytest.raises(BadInput, match="drawdown"):
        drawdowns(np.asarray([1.0, 0.0]))
    with pytest.raises(BadInput, match="rolling"):
        rolling_sharpe(RETURNS, 502)
    with pytest.raises(BadInput, match="rolling"):
        rolling_sharpe(np.asarray([0.1, np.nan, 0.2]), 2)
    with pytest.raises(BadInput, match="market that moves"):
        betas(RETURNS[:, None], np.zeros(501))
    with pytest.raises(BadInput, match="the same days"):
        betas(RETURNS[:, None], MARKET[1:])


def test_ratios_of_what_does_not_move_or_fall() -> None:
    assert annual_sortino(np.zeros(3)) == 0.0
    assert annual_sortino(np.asarray([0.0, 0.01])) == np.inf
    assert rolling_sharpe(np.asarray([0.1, 0.1, 0.1]), 2).tolist() == [0.0, 0.0]


def test_drawdown_by_hand() -> None:
    np.testing.assert_allclose(drawdowns(np.asarray([100.0, 120.0, 90.0, 120.0, 150.0, 75.0])), [0, 0, 0.25, 0, 0, 0.5])
