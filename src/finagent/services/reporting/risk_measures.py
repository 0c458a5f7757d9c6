"""What past returns say of a book: forecasts of its loss with what came of such forecasts, its parts, its tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.risk.components import betas, component_risk
from finagent.quant.risk.covariance import shrunk_covariance
from finagent.quant.risk.hierarchical_parity import (
    capped,
    correlation_distance,
    hierarchical_parity,
    leaf_order,
    single_linkage,
)
from finagent.quant.risk.value_at_risk import CONFIDENCE, cornish_fisher, filtered, tail
from finagent.quant.risk.var_backtest import Coverage, coverage, filtered_book_forecasts, plain_forecasts
from finagent.services.market_data.return_history import DailyReturns

FILTERED, HISTORICAL, CORNISH_FISHER = "filtered historical", "historical", "Cornish-Fisher"
_BACKTEST_DAYS_MIN = 60
_TREE_MIN = 2


@dataclass(frozen=True, slots=True)
class RiskReportPolicy:
    """`history_sessions` of returns are read; each forecast is made from `window_sessions` of them. The correlation map has the
    `symbols_max` largest or latest symbols; no weight of the tree is above `weight_max` where there are enough to share."""

    history_sessions: int
    window_sessions: int
    symbols_max: int
    weight_max: float
    bad_bars_max: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the loss of one day at 95 %, USD, and what came of such forecasts; None where there are too few days, and of a shortfall
    where the method has none."""

    method: str
    value_at_risk_usd: float
    expected_shortfall_usd: float | None
    fraction_of_equity: float | None
    coverage: Coverage | None


@dataclass(frozen=True, slots=True)
class Backtest:
    """What the book of now would have made on each past day, USD, with the filtered historical forecast of the days before."""

    days: tuple[date, ...]
    profit_usd: tuple[float, ...]
    value_at_risk_usd: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """Symbols in the order of the leaves, with their correlations as seen; how far these were `shrunk` for the tree; its merges
    by single linkage (in the numbers of that order, each with its distance); weights of hierarchical risk parity, and the part
    of the gross exposure that each has now."""

    symbols: tuple[str, ...]
    correlation: tuple[tuple[float, ...], ...]
    shrunk: float
    merges: tuple[tuple[int, int, float], ...]
    weights: tuple[float, ...]
    held: tuple[float, ...]


def measured(
    past: DailyReturns, known: list[str], exposures: dict[str, float], equity: Decimal | None, window: int
) -> tuple[tuple[Forecast, ...], Backtest | None, dict[str, float], dict[str, float]]:
    """Forecasts, what came of them, and by symbol what it adds and how it moves with the market; nothing of an empty book.
    `past` is that of the `known` symbols."""
    if not known:
        return (), None, {}, {}
    usd = np.asarray([exposures[symbol] for symbol in known])
    past = past.last(min(past.known_days()))
    whole, days = past.returns, past.days
    recent = whole[-window:]
    profits = recent @ usd
    now, plain = tail(filtered(recent) @ usd), tail(profits)
    covered, backtest = _backtest(whole, usd, days, window)
    values = (
        (FILTERED, now.value_at_risk, now.expected_shortfall),
        (HISTORICAL, plain.value_at_risk, plain.expected_shortfall),
        (CORNISH_FISHER, cornish_fisher(profits), None),
    )
    part = float(equity) if equity is not None and equity > 0 else None
    forecasts = tuple(
        Forecast(method, at_risk, short, at_risk / part if part else None, covered.get(method))
        for method, at_risk, short in values
    )
    covariance = shrunk_covariance(recent).matrix if len(known) >= _TREE_MIN else recent.var(axis=0)[None]
    components = component_risk(usd, covariance, now.value_at_risk)
    index = past.market[-window:]
    moved = bool(np.isfinite(index).all() and np.ptp(index))
    slopes = dict(zip(known, betas(recent, index).tolist(), strict=True)) if moved else dict.fromkeys(known, 0.0)
    return forecasts, backtest, dict(zip(known, components.tolist(), strict=True)), slopes


def _backtest(whole: Floats, usd: Floats, days: Sequence[date], window: int) -> tuple[dict[str, Coverage], Backtest | None]:
    if len(whole) < window + _BACKTEST_DAYS_MIN:
        return {}, None
    profits = whole @ usd
    came = profits[window:]
    found = {
        FILTERED: filtered_book_forecasts(whole, usd, window),
        HISTORICAL: plain_forecasts(profits, window, lambda past: tail(past).value_at_risk),
        CORNISH_FISHER: plain_forecasts(profits, window, cornish_fisher),
    }
    covered = {method: coverage(came < -forecast, CONFIDENCE) for method, forecast in found.items()}
    return covered, Backtest(tuple(days[window:]), tuple(came.tolist()), tuple(found[FILTERED].tolist()))


def tree(recent: Floats, names: Sequence[str], exposures: dict[str, float], policy: RiskReportPolicy) -> Tree | None:
    """Of the returns of a window [days, names], in alphabetical order; None for fewer than two."""
    if len(names) < _TREE_MIN:
        return None
    shrunk = shrunk_covariance(recent)
    covariance = shrunk.matrix
    merges = single_linkage(correlation_distance(covariance))
    leaves = leaf_order(merges)
    place = {leaf: number for number, leaf in enumerate(leaves)}
    weights = hierarchical_parity(covariance)
    if len(names) * policy.weight_max >= 1.0:
        weights = capped(weights, policy.weight_max)
    correlation = np.asarray(np.corrcoef(recent.T))[np.ix_(leaves, leaves)]
    gross = sum(abs(usd) for usd in exposures.values()) or 1.0
    return Tree(
        symbols=tuple(names[leaf] for leaf in leaves),
        correlation=tuple(tuple(row) for row in correlation.round(6).tolist()),
        shrunk=shrunk.intensity,
        merges=tuple(
            (place.get(int(low), int(low)), place.get(int(high), int(high)), float(height)) for low, high, height, _ in merges
        ),
        weights=tuple(weights[leaves].tolist()),
        held=tuple(abs(exposures.get(names[leaf], 0.0)) / gross for leaf in leaves),
    )
