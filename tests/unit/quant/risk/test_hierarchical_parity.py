"""Risk parity along a tree: the paper's own example, a library's figures, scipy's trees, and a tree built the slow way."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.domain.errors import BadInput
from finagent.quant.risk.components import component_risk, correlation_with_book
from finagent.quant.risk.covariance import shrunk_covariance
from finagent.quant.risk.hierarchical_parity import (
    Linkage,
    capped,
    correlation_distance,
    hierarchical_parity,
    inverse_variance,
    leaf_order,
    single_linkage,
)

PAPER = (0.0700, 0.0759, 0.1084, 0.1903, 0.0972, 0.1019, 0.0662, 0.0910, 0.0712, 0.1279)
PAPER_INVERSE_VARIANCE = (0.1036, 0.1028, 0.1036, 0.1025, 0.1031, 0.0974, 0.0980, 0.0965, 0.0964, 0.0961)
# PyPortfolioOpt 1.6.0: HRPOpt(returns).optimize() of the paper's returns and of RETURNS.
PAPER_CONDENSED = (0.130857, 0.052995, 0.104393, 0.130914, 0.108442, 0.098157, 0.125184, 0.10148, 0.098001, 0.049577)
CONDENSED = (
    *(0.1144131477, 0.2298697677, 0.0572231648, 0.079477334, 0.0158621608, 0.2116788929),
    *(0.0543223664, 0.0368307091, 0.0409187817, 0.0504791465, 0.0733161748, 0.0356083535),
)


def returns_with_factors(seed: int, days: int, symbols: int) -> np.ndarray:
    chance = np.random.Generator(np.random.Philox(key=seed))
    factors = chance.standard_normal((days, 3))
    loadings, scale = chance.uniform(-0.5, 1.5, (3, symbols)), chance.uniform(0.005, 0.03, symbols)
    drawn: np.ndarray = (factors @ loadings + chance.standard_normal((days, symbols))) * scale
    return drawn


RETURNS = returns_with_factors(11, 250, 12)
SAMPLE = np.cov(RETURNS.T)


def paper_returns() -> np.ndarray:
    """Snippet 4 of the paper: 10,000 observations of five independent series and five that follow one of them."""
    old = np.random.RandomState(12345)
    own = random.Random(12345)
    independent = old.normal(0, 1, size=(10_000, 5))
    followed = [int(own.random() * 5) for _ in range(5)]  # randint(0, 4) of Python 2, in which the paper was written
    return np.append(independent, independent[:, followed] + old.normal(0, 0.25, size=(10_000, 5)), axis=1)


def test_the_ten_assets_of_the_paper() -> None:
    """The weights that the paper prints, to a hundredth of a percent, and PyPortfolioOpt's on the same returns."""
    covariance = np.cov(paper_returns().T)

    np.testing.assert_allclose(hierarchical_parity(covariance, Linkage.PAPER), PAPER, atol=1e-4)
    np.testing.assert_allclose(inverse_variance(covariance), PAPER_INVERSE_VARIANCE, atol=1e-4)
    np.testing.assert_allclose(hierarchical_parity(covariance), PAPER_CONDENSED, atol=1e-6)


def test_twelve_assets_as_a_library_weighs_them() -> None:
    np.testing.assert_allclose(hierarchical_parity(SAMPLE), CONDENSED, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_trees_are_those_of_scipy(seed: int) -> None:
    hierarchy, spatial = pytest.importorskip("scipy.cluster.hierarchy"), pytest.importorskip("scipy.spatial.distance")
    distance = correlation_distance(np.cov(returns_with_factors(seed, 60, 40).T))
    merges = single_linkage(distance)
    theirs = hierarchy.linkage(spatial.squareform(distance, checks=False), "single")

    np.testing.assert_allclose(merges, theirs, atol=1e-12)
    assert leaf_order(merges) == hierarchy.leaves_list(theirs).tolist()


def slow_merges(distance: np.ndarray) -> list[tuple[frozenset[int], float]]:
    """Single linkage as it is defined: join the two nearest clusters, by their nearest members, until one is left."""
    clusters, found = [frozenset([n]) for n in range(len(distance))], []
    while len(clusters) > 1:
        pairs = [(a, b) for i, a in enumerate(clusters) for b in clusters[i + 1 :]]
        one, other = min(pairs, key=lambda pair: min(distance[x, y] for x in pair[0] for y in pair[1]))
        height = min(distance[x, y] for x in one for y in other)
        clusters = [c for c in clusters if c not in (one, other)] + [one | other]
        found.append((one | other, height))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 9))
def test_trees_are_those_of_the_definition(seed: int, symbols: int) -> None:
    places = np.random.Generator(np.random.Philox(key=seed)).random((symbols, 2))
    distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))
    merges = single_linkage(distance)
    members = [frozenset([n]) for n in range(symbols)]
    for low, high, _, size in merges:
        members.append(members[int(low)] | members[int(high)])
        assert low < high
        assert len(members[-1]) == size

    slow = slow_merges(distance)
    assert [(m, h) for m, h in zip(members[symbols:], merges[:, 2], strict=True)] == slow
    assert sorted(leaf_order(merges)) == list(range(symbols))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from(Linkage))
def test_weights_are_a_whole_and_know_no_unit(seed: int, symbols: int, linkage: Linkage) -> None:
    covariance = np.atleast_2d(np.cov(returns_with_factors(seed, 80, symbols).T))
    weights = hierarchical_parity(covariance, linkage)

    assert weights.sum() == pytest.approx(1.0)
    assert (weights > 0).all()
    np.testing.assert_allclose(hierarchical_parity(covariance * 7.0, linkage), weights, rtol=1e-9)


shares = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 10.0)), min_size=1, max_size=12).filter(lambda parts: sum(parts) > 0.01)


@given(shares, st.floats(0.05, 1.0))
def test_a_cap_cuts_the_tall_and_fills_the_rest_in_proportion(parts: list[float], cap: float) -> None:
    weights = np.asarray(parts) / sum(parts)
    level = capped(weights, cap)
    low = (level < cap * (1 - 1e-9)) & (weights > 0)
    reachable = min(1.0, cap * (weights > 0).sum())

    assert (level <= cap * (1 + 1e-12)).all()
    assert level.sum() == pytest.approx(reachable)
    assert np.ptp(level[low] / weights[low]) <= 1e-9 * (level[low] / weights[low]).max() if low.any() else True
    assert (level[low] >= weights[low] * (1 - 1e-9)).all()


def test_a_cap_by_hand() -> None:
    np.testing.assert_allclose(capped(np.asarray([0.5, 0.24, 0.16, 0.1]), 0.25), [0.25, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(capped(np.asarray([0.4, 0.3, 0.2, 0.1]), 0.35), [0.35, 0.325, 0.65 / 3, 0.325 / 3])
    np.testing.assert_allclose(capped(np.asarray([0.6, 0.4]), 0.25), [0.25, 0.25])  # the rest stays cash
    np.testing.assert_allclose(capped(np.asarray([1.0, 1e-311]), 0.5), [0.5, 0.5])


def test_covariance_shrinks_as_a_library_shrinks_it() -> None:
    """PyPortfolioOpt 1.6.0, CovarianceShrinkage.ledoit_wolf("constant_correlation"), given the moments of the population."""
    found = shrunk_covariance(RETURNS)

    assert found.intensity == pytest.approx(0.07970650310417834, rel=1e-12)
    assert found.matrix[0, 1] == pytest.approx(-1.3736581268918817e-06, rel=1e-10)
    assert found.matrix[3, 3] == pytest.approx(0.0005831088977092334, rel=1e-12)
    assert np.abs(found.matrix).sum() == pytest.approx(0.049924488005687065, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(3, 60))
def test_shrinking_keeps_variances_and_mends_what_is_singular(seed: int, symbols: int, days: int) -> None:
    returns = returns_with_factors(seed, days, symbols)
    found = shrunk_covariance(returns)

    assert 0.0 <= found.intensity <= 1.0
    np.testing.assert_allclose(np.diag(found.matrix), returns.var(axis=0), rtol=1e-12)
    assert (found.matrix == found.matrix.T).all()
    scaled = shrunk_covariance(returns * 100)
    assert scaled.intensity == pytest.approx(found.intensity, abs=1e-9)


def test_shrinking_is_nearer_to_the_truth_than_the_sample() -> None:
    truth = 0.0004 * (0.6 * np.eye(50) + 0.4)
    chance = np.random.Generator(np.random.Philox(key=4))
    returns = chance.multivariate_normal(np.zeros(50), truth, 60)
    off = [np.linalg.norm(matrix - truth) for matrix in (shrunk_covariance(returns).matrix, np.cov(returns.T, ddof=0))]

    assert off[0] < off[1] / 2


def test_components_sum_to_the_risk_of_the_book_and_a_hedge_takes_away() -> None:
    exposures = np.linspace(-2e4, 5e4, 12)
    parts = component_risk(exposures, SAMPLE, 1_234.5)
    nudge = np.sqrt((exposures + np.eye(12)[3] * 1e-2) @ SAMPLE @ (exposures + np.eye(12)[3] * 1e-2))
    slope = (nudge - np.sqrt(exposures @ SAMPLE @ exposures)) / 1e-2
    pair = component_risk(np.asarray([100.0, -60.0]), np.asarray([[1.0, 0.9], [0.9, 1.0]]), 10.0)

    assert parts.sum() == pytest.approx(1_234.5)
    assert parts[3] / 1_234.5 == pytest.approx(exposures[3] * slope / np.sqrt(exposures @ SAMPLE @ exposures), rel=1e-5)
    assert pair[0] > 10.0
    assert pair[1] < 0.0
    assert not component_risk(np.zeros(12), SAMPLE, 0.0).any()


def test_correlation_with_the_book_is_that_of_its_profits() -> None:
    exposures = np.linspace(-2e4, 5e4, 12)
    profits = RETURNS @ exposures

    assert correlation_with_book(5, exposures, SAMPLE) == pytest.approx(np.corrcoef(RETURNS[:, 5], profits)[0, 1])
    assert correlation_with_book(5, np.zeros(12), SAMPLE) == 0.0


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros((2, 2)), np.full((2, 2), np.nan), np.zeros(4)])
def test_what_is_no_covariance_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(BadInput, match="covariance"):
        hierarchical_parity(wrong)


def test_what_cannot_be_shrunk_or_capped_is_refused() -> None:
    with pytest.raises(BadInput, match="never moves"):
        shrunk_covariance(np.column_stack([RETURNS[:, 0], np.ones(250)]))
    with pytest.raises(BadInput, match="two days and symbols"):
        shrunk_covariance(RETURNS[:, :1])
    with pytest.raises(BadInput, match="cap"):
        capped(np.asarray([0.5, 0.5]), 0.0)
