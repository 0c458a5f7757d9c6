"""Hierarchical risk parity: weights that split risk along a tree of correlations (Lopez de Prado, "Building Diversified
Portfolios that Outperform Out of Sample", J. Portfolio Manag. 42, 2016).

The paper's code hands the square matrix of distances to a function that takes rows for observations, so it links by distances
of distances; libraries that came after link by the distances themselves. Both are here and named.
"""

from enum import Enum

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

_CORRELATION_DECIMALS = 12


class Linkage(Enum):
    """What the tree is built from: the distances, or (PAPER) the Euclidean distances between their columns."""

    CONDENSED = "condensed"
    PAPER = "paper"


def hierarchical_parity(covariance: Floats, linkage: Linkage = Linkage.CONDENSED) -> Floats:
    """Weights [symbols], above zero, summing to one. BadInput for a matrix that is not square, finite, with variances above
    zero."""
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or not len(covariance):
        raise BadInput(f"a covariance of shape {covariance.shape} is not square")
    if not np.isfinite(covariance).all() or not (np.diag(covariance) > 0).all():
        raise BadInput("a covariance must be finite, with variances above zero")
    distance = correlation_distance(covariance)
    if linkage is Linkage.PAPER:
        distance = np.sqrt(((distance[:, None, :] - distance[None, :, :]) ** 2).sum(axis=2))
    weights = np.ones(len(covariance))
    pending = [leaf_order(single_linkage(distance))]
    while pending:
        cluster = pending.pop()
        if len(cluster) < 2:
            continue
        left, right = cluster[: len(cluster) // 2], cluster[len(cluster) // 2 :]
        risk_left, risk_right = _cluster_variance(covariance, left), _cluster_variance(covariance, right)
        share = 1.0 - risk_left / (risk_left + risk_right)
        weights[left] *= share
        weights[right] *= 1.0 - share
        pending += [left, right]
    return weights


def correlation_distance(covariance: Floats) -> Floats:
    """Square root of (1 - correlation) / 2: a metric, zero on the diagonal."""
    deviation = np.sqrt(np.diag(covariance))
    # Shrunk to one correlation for all, pairs are equally far: they must tie, or the last bits of a float would draw the tree.
    correlation = np.round(covariance / np.outer(deviation, deviation), _CORRELATION_DECIMALS)
    distance: Floats = np.sqrt(np.clip((1.0 - correlation) / 2.0, 0.0, 1.0))
    np.fill_diagonal(distance, 0.0)
    return distance


def single_linkage(distance: Floats) -> Floats:
    """The merges of single linkage [symbols - 1, 4]: both clusters (the smaller number first), their distance, symbols in them;
    the m-th merge makes cluster symbols + m. The form that scipy uses, from a minimum spanning tree (Prim, Bell Syst. Tech. J.
    36, 1957; Gower & Ross, Appl. Stat. 18, 1969)."""
    symbols = len(distance)
    reach, outside = np.full(symbols, np.inf), np.ones(symbols, dtype=np.bool_)
    edges, at = np.empty((symbols - 1, 3)), 0
    for step in range(symbols - 1):
        outside[at] = False
        reach = np.minimum(reach, distance[at])
        nearest = int(np.where(outside, reach, np.inf).argmin())
        # With single linkage it does not matter by which symbol of the tree the next one is reached.
        edges[step], at = (at, nearest, reach[nearest]), nearest
    merges, cluster, size = np.empty((symbols - 1, 4)), np.arange(symbols), np.ones(2 * symbols - 1)
    for merge, (one, other, height) in enumerate(edges[np.argsort(edges[:, 2], kind="stable")]):
        low, high = sorted((cluster[int(one)], cluster[int(other)]))
        made = symbols + merge
        size[made] = size[low] + size[high]
        merges[merge] = low, high, height, size[made]
        cluster[(cluster == low) | (cluster == high)] = made
    return merges


def leaf_order(merges: Floats) -> list[int]:
    """The symbols from left to right under a tree of merges: like ones stand together (the paper's quasi-diagonal)."""
    symbols, order, pending = len(merges) + 1, [], [2 * len(merges)]
    while pending:
        cluster = pending.pop()
        if cluster < symbols:
            order.append(cluster)
        else:
            low, high = merges[cluster - symbols, :2]
            pending += [int(high), int(low)]
    return order


def capped(weights: Floats, cap: float) -> Floats:
    """No weight above `cap`; what is cut off fills the others in proportion, as water does. Where `cap` times the number of
    weights is less than they sum to, all stand at `cap` and the rest stays cash."""
    if not (np.isfinite(weights).all() and (weights >= 0).all() and cap > 0):
        raise BadInput(f"weights must be finite and not negative, the cap {cap} above zero")
    full, level = np.zeros(len(weights), dtype=np.bool_), weights.copy()
    while (over := (level > cap) & ~full).any():
        full |= over
        free = weights.sum() - cap * full.sum()
        open_ = weights[~full].sum()
        level[full] = cap
        level[~full] = weights[~full] / open_ * free if open_ > 0 else 0.0
    return level


def inverse_variance(covariance: Floats) -> Floats:
    """Weights in proportion to one over the variance, summing to one: risk parity that knows no correlation."""
    inverse = 1.0 / np.diag(covariance)
    weights: Floats = inverse / inverse.sum()
    return weights


def _cluster_variance(covariance: Floats, cluster: list[int]) -> float:
    """Of a cluster that is held in inverse proportion to variances."""
    part = covariance[np.ix_(cluster, cluster)]
    weights = inverse_variance(part)
    return float(weights @ part @ weights)
