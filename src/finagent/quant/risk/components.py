"""What each symbol adds to the risk of a book, and how it moves with it."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput


def component_risk(exposures: Floats, covariance: Floats, book_risk: float) -> Floats:
    """The book's risk split over its symbols by Euler's theorem: exposure times marginal contribution (Garman, Risk 9, 1996;
    Tasche, "Risk contributions and performance measurement", 1999). The parts sum to `book_risk`; a hedge's is negative.

    `exposures` signed [symbols], `covariance` [symbols, symbols]. Zeros where the book has no variance.
    """
    contribution = exposures * (covariance @ exposures)
    total = contribution.sum()
    parts: Floats = contribution / total * book_risk if total > 0 else np.zeros_like(contribution)
    return parts


def betas(returns: Floats, market: Floats) -> Floats:
    """Slope of each symbol's returns on the market's [symbols], from [days, symbols] and [days] (Sharpe, J. Finance 19, 1964).
    BadInput for different days, fewer than two, what is not finite, or a market that never moves."""
    if returns.ndim != 2 or market.shape != returns.shape[:1] or len(market) < 2:
        raise BadInput(f"betas of {returns.shape} on {market.shape}: the same days are needed, two or more")
    if not (np.isfinite(returns).all() and np.isfinite(market).all() and np.ptp(market)):
        raise BadInput("betas need finite returns and a market that moves")
    centred = market - market.mean()
    slopes: Floats = (returns - returns.mean(axis=0)).T @ centred / (centred @ centred)
    return slopes


def correlation_with_book(symbol: int, exposures: Floats, covariance: Floats) -> float:
    """Of a symbol's returns with the book's profit; zero where one of them has no variance."""
    product = covariance @ exposures
    scale = covariance[symbol, symbol] * (exposures @ product)
    return float(product[symbol] / np.sqrt(scale)) if scale > 0 else 0.0
