"""How five forecasts of one-day value at risk cover what came: `python -m tests.benchmarks.value_at_risk [FILE.csv[.gz] ...]`.

A file has a date and a column of prices. Without one: the SPY of the market data that tests use (raw closes, so dividends
count as falls; it never split), and the adjusted closes of bokeh_sampledata.
"""

import math
import os
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

from finagent.domain.bars import Floats
from finagent.quant.risk.value_at_risk import CONFIDENCE, DECAY, cornish_fisher
from finagent.quant.risk.var_backtest import coverage, filtered_forecasts

WINDOW, WORST = 500, 250  # days
Z = -NormalDist().inv_cdf(1.0 - CONFIDENCE)


def forecasts(returns: Floats) -> dict[str, Floats]:
    """Each method's value at risk of every day that has a window before it, from that window alone."""
    windows = np.lib.stride_tricks.sliding_window_view(returns[:-1], WINDOW)
    weights = DECAY ** np.arange(WINDOW)[::-1]
    return {
        "historical, 500 days": -np.quantile(windows, 1.0 - CONFIDENCE, axis=1),
        "normal, 500 days": Z * windows.std(axis=1) - windows.mean(axis=1),
        "Cornish-Fisher, 500 days": np.asarray([cornish_fisher(window) for window in windows]),
        "normal, EWMA 0.94": Z * np.sqrt((windows**2) @ (weights / weights.sum())),
        "filtered historical, 500 days": filtered_forecasts(returns, WINDOW),
    }


def table(name: str, prices: "pd.Series[float]") -> str:
    """Markdown: breaches against 5 %, both tests, the worst 250 days (12.5 are expected), and the mean pinball loss."""
    closes = np.asarray(prices, dtype=np.float64)
    returns = closes[1:] / closes[:-1] - 1.0
    actual, tail = returns[WINDOW:], 1.0 - CONFIDENCE
    lines = [
        f"{name}: {len(actual):,} forecasts, {prices.index[WINDOW + 1]:%Y-%m-%d} to {prices.index[-1]:%Y-%m-%d}",
        "",
        "| forecast | breaches | Kupiec p | independence p | Christoffersen p | worst 250 days | pinball loss, bp |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, forecast in forecasts(returns).items():
        breached = actual < -forecast
        found = coverage(breached, CONFIDENCE)
        worst = int(np.convolve(breached, np.ones(WORST), "valid").max())
        miss = actual + forecast
        pinball = float(np.maximum(tail * miss, (tail - 1.0) * miss).mean()) * 1e4
        tests = f"{found.kupiec_p:.2g} | {found.independence_p:.2g} | {found.christoffersen_p:.2g}"
        lines.append(f"| {method} | {found.rate:.2%} | {tests} | {worst} | {pinball:.3f} |")
        assert all(math.isfinite(value) for value in forecast)
    return "\n".join([*lines, ""])


def series(files: list[str]) -> dict[str, "pd.Series[float]"]:
    """Prices by name."""
    if files:
        tables = {Path(file).name: pd.read_csv(file, index_col=0, parse_dates=True) for file in files}
        return {f"{name}, {frame.columns[0]}": frame[frame.columns[0]] for name, frame in tables.items()}
    from bokeh_sampledata import stocks

    found = {}
    named = os.environ.get("FINAGENT_TEST_DATA")
    lean = (Path(named) if named else Path(__file__).parents[3] / "shared" / "data") / "daily_lean_unadjusted_shared.parquet"
    if lean.exists():
        bars = pd.read_parquet(lean)
        found["SPY"] = bars[bars["symbol"] == "SPY"].set_index("timestamp")["close"]
    for symbol in ("IBM", "MSFT"):
        columns = getattr(stocks, symbol)
        found[symbol] = pd.Series(columns["adj_close"], index=pd.to_datetime(columns["date"]))
    return found


if __name__ == "__main__":
    for title, prices in series(sys.argv[1:]).items():
        print(table(title, prices))
