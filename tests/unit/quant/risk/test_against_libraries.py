"""The measures of risk beside those of libraries that nobody here wrote, on returns drawn anew.

`pip install ".[oracles]"` brings them; without it these tests are skipped, and what the libraries said of one set of returns is
pinned in the tests beside this one. They are no part of `dev`: PyPortfolioOpt brings cvxpy and its solvers (229 MB), empyrical
wants an old peewee that has to be compiled (30 s), and `quantstats` would bring yfinance for the same ratios. skfolio (151 MB)
splits along the tree and not in halves, which is another allocation than the paper's, so it is no oracle of ours.
"""

import warnings
from typing import Any

import numpy as np
import pytest
from tests.unit.quant.risk.test_hierarchical_parity import returns_with_factors

from finagent.quant.evaluation.sharpe import annual_sharpe, annual_sortino
from finagent.quant.risk.components import betas
from finagent.quant.risk.covariance import shrunk_covariance
from finagent.quant.risk.drawdown import drawdowns
from finagent.quant.risk.hierarchical_parity import hierarchical_parity
from finagent.quant.risk.value_at_risk import tail

SEEDS = range(20)


def library(name: str) -> Any:
    """Its module; skips where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its optional parts, which are not ours
        return pytest.importorskip(name, reason="pip install '.[oracles]'")


@pytest.mark.parametrize("seed", SEEDS)
def test_tail_drawdown_and_ratios_are_those_of_empyrical(seed: int) -> None:
    """With so many days that its quantile falls on a scenario: between two of them it interpolates, and we do not."""
    theirs = library("empyrical")
    chance = np.random.Generator(np.random.Philox(key=seed))
    market = chance.standard_t(4, 20 * (seed + 10) + 1) * 0.01
    returns = 0.7 * market + chance.standard_t(4, len(market)) * 0.012 + 0.0003
    found = tail(returns)

    assert found.value_at_risk == pytest.approx(-theirs.value_at_risk(returns, 0.05), rel=1e-12)
    assert found.expected_shortfall == pytest.approx(-theirs.conditional_value_at_risk(returns, 0.05), rel=1e-12)
    equity = np.cumprod(np.append(1.0, 1.0 + returns))
    assert drawdowns(equity).max() == pytest.approx(-theirs.max_drawdown(returns), rel=1e-12)
    assert annual_sharpe(returns) == pytest.approx(theirs.sharpe_ratio(returns), rel=1e-12)
    assert annual_sortino(returns) == pytest.approx(theirs.sortino_ratio(returns), rel=1e-12)
    assert betas(returns[:, None], market)[0] == pytest.approx(theirs.beta(returns, market), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_hierarchical_parity_is_that_of_pyportfolioopt(seed: int) -> None:
    theirs, pandas = library("pypfopt"), library("pandas")
    returns = returns_with_factors(seed, 250, 3 + seed)
    weights = theirs.HRPOpt(pandas.DataFrame(returns)).optimize()

    np.testing.assert_allclose(hierarchical_parity(np.cov(returns.T)), [weights[name] for name in range(3 + seed)], atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_shrunk_covariance_is_that_of_pyportfolioopt(seed: int) -> None:
    """Its formula takes the moments of the population as the paper does; what it hands in are those of the sample."""
    theirs, pandas = library("pypfopt.risk_models"), library("pandas")
    returns = returns_with_factors(seed, 60 + 10 * seed, 3 + seed)
    estimate = theirs.CovarianceShrinkage(pandas.DataFrame(returns), returns_data=True, frequency=1)
    estimate.S = np.cov(returns.T, ddof=0)
    matrix = estimate.ledoit_wolf("constant_correlation")
    found = shrunk_covariance(returns)

    assert found.intensity == pytest.approx(estimate.delta, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(found.matrix, matrix, rtol=1e-9, atol=1e-18)
