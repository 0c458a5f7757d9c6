"""Returns of days, for what measures risk."""

import numpy as np

from finagent.domain.bars import DailyHistory, Floats


def daily_returns(history: DailyHistory, hole_sessions_max: int) -> Floats:
    """[sessions - 1, symbols] from close to close in shares of one size, NaN where not known. Over a hole of at most
    `hole_sessions_max` sessions the price stands still, and the day after it has the whole move."""
    closes = history.close * np.cumprod(history.split, axis=0)
    rows = np.arange(len(closes))[:, None]
    seen = np.maximum.accumulate(np.where(np.isfinite(closes) & (closes > 0), rows, -1), axis=0)
    carried = np.take_along_axis(closes, np.maximum(seen, 0), axis=0)
    carried[(seen < 0) | (rows - seen > hole_sessions_max)] = np.nan
    returns: Floats = carried[1:] / carried[:-1] - 1.0
    return returns
