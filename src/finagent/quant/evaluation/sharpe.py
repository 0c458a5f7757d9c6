"""Sharpe ratios with their uncertainty: of one series of returns, of its last sessions, and of one against another; Sortino's."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

SESSIONS_YEAR = 252
ERROR_MIN = 1e-9  # below it two strategies do the same but for rounding
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class SharpeDifference:
    """Of two strategies over the same sessions: annual `difference` and its `standard_error`; `p_value` of one so large or larger
    when the first is no better. NaN where one of them never moves, or both do the same."""

    difference: float
    standard_error: float
    p_value: float

    def lower(self, confidence: float) -> float:
        """The annual difference that is exceeded with this confidence, one-sided."""
        return self.difference - _NORMAL.inv_cdf(confidence) * self.standard_error


def session_returns(days: NDArray[np.int64], returns: Floats, traded: NDArray[np.bool_]) -> Floats:
    """The mean return of what was traded in each session [sessions], zero where nothing was; all arguments [rows]."""
    sessions, place = np.unique(days, return_inverse=True)
    count = np.bincount(place[traded], minlength=len(sessions))
    total = np.bincount(place[traded], weights=returns[traded], minlength=len(sessions))
    return np.divide(total, count, out=np.zeros(len(sessions)), where=count > 0)


def annual_sharpe(returns: Floats) -> float:
    """Mean over deviation of the returns of sessions, as fractions without interest [sessions], times the root of 252 (Sharpe, J.
    Portfolio Manag. 21, 1994). Zero where nothing moves; BadInput for fewer than two sessions or a return that is not finite."""
    return _session_sharpe(returns) * math.sqrt(SESSIONS_YEAR)


def rolling_sharpe(returns: Floats, sessions: int) -> Floats:
    """annual_sharpe of so many sessions up to each one: [sessions of the series - sessions + 1]. BadInput also for a window of
    fewer than two sessions or longer than the series."""
    if not 2 <= sessions <= len(returns):
        raise BadInput(
            f"rolling Sharpe ratio over {sessions} sessions of {len(returns)}: two or more, and no more than there are"
        )
    if not np.isfinite(returns).all():
        raise BadInput("rolling Sharpe ratio: returns must be finite")
    windows = np.lib.stride_tricks.sliding_window_view(returns, sessions)
    still = np.ptp(windows, axis=1) == 0
    ratios: Floats = np.where(still, 0.0, windows.mean(axis=1) / np.where(still, 1.0, windows.std(axis=1, ddof=1)))
    return ratios * math.sqrt(SESSIONS_YEAR)


def annual_sortino(returns: Floats) -> float:
    """Mean over the root mean square of losses, times the root of 252: only falls count as risk (Sortino & Price, J. Investing 3,
    1994, with a target of zero). Zero where nothing moves, infinite where nothing falls; errors as of annual_sharpe."""
    _session_sharpe(returns)
    downside = math.sqrt(float((np.minimum(returns, 0.0) ** 2).mean()))
    if downside:
        return float(returns.mean()) / downside * math.sqrt(SESSIONS_YEAR)
    return math.inf if returns.any() else 0.0


def compare_sharpe(first: Floats, second: Floats) -> SharpeDifference:
    """The test of Jobson & Korkie (J. Finance 36, 1981) with the variance of Memmel (Finance Letters 1, 2003). Both are returns
    of the same sessions [sessions]; BadInput for different lengths, and as of annual_sharpe."""
    if first.shape != second.shape:
        raise BadInput(f"Sharpe ratios of {first.shape} and {second.shape} sessions: the same sessions are needed")
    one, other = _session_sharpe(first), _session_sharpe(second)
    difference = (one - other) * math.sqrt(SESSIONS_YEAR)
    if not (np.ptp(first) and np.ptp(second)):
        return SharpeDifference(difference, math.nan, math.nan)
    correlation = float(np.corrcoef(first, second)[0, 1])
    variance = 2.0 - 2.0 * correlation + (one**2 + other**2 - 2.0 * one * other * correlation**2) / 2.0
    error = math.sqrt(max(variance, 0.0) / len(first))
    if error < ERROR_MIN:
        return SharpeDifference(difference, math.nan, math.nan)
    return SharpeDifference(difference, error * math.sqrt(SESSIONS_YEAR), 1.0 - _NORMAL.cdf((one - other) / error))


def probabilistic_sharpe(returns: Floats, benchmark_annual: float = 0.0) -> float:
    """The probability that the true annual ratio is above the benchmark, given skew and kurtosis. `returns` as fractions
    [sessions]; NaN where nothing moves, errors as of annual_sharpe."""
    ratio = _session_sharpe(returns)
    if not np.ptp(returns):
        return math.nan
    standard = (returns - returns.mean()) / returns.std()
    skew, kurtosis = float((standard**3).mean()), float((standard**4).mean())
    return sharpe_probability(ratio, benchmark_annual / math.sqrt(SESSIONS_YEAR), len(returns), skew, kurtosis)


def sharpe_probability(ratio: float, benchmark: float, sessions: int, skew: float, kurtosis: float) -> float:
    """The same of ratios by session and moments that are known, the kurtosis being 3 for a normal distribution (Bailey & Lopez de
    Prado, J. Risk 15, 2012). NaN where the variance that the moments imply is not above zero."""
    variance = 1.0 - skew * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return _NORMAL.cdf((ratio - benchmark) * math.sqrt((sessions - 1) / variance)) if variance > 0.0 else math.nan


def _session_sharpe(returns: Floats) -> float:
    if returns.ndim != 1 or len(returns) < 2 or not np.isfinite(returns).all():
        raise BadInput(f"Sharpe ratio: returns of shape {returns.shape} must be finite, two sessions or more")
    # Of equal returns the deviation is not always zero, but what rounding made of it.
    return float(returns.mean() / returns.std(ddof=1)) if np.ptp(returns) else 0.0
