"""How forecasts of one-day value at risk cover what came: `python -m tests.benchmarks.value_at_risk [--json] [FILE.csv ...]`.

A file (also .csv.gz) has a date and a column of prices. Without one: the S&P 500 and its companies that skfolio carries, where
that is installed; the SPY of the market data that tests use (raw closes, so dividends count as falls; it never split); and the
adjusted closes of bokeh_sampledata.
"""

import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist
from typing import Any

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


def measured(prices: "pd.Series[float]") -> dict[str, Any]:
    """Of each forecast: breaches against 5 %, both tests, the worst 250 days (12.5 are expected), and the mean pinball loss."""
    closes = np.asarray(prices, dtype=np.float64)
    returns = closes[1:] / closes[:-1] - 1.0
    actual, tail = returns[WINDOW:], 1.0 - CONFIDENCE
    rows = []
    for method, forecast in forecasts(returns).items():
        assert all(math.isfinite(value) for value in forecast)
        breached, miss = actual < -forecast, actual + forecast
        found = coverage(breached, CONFIDENCE)
        rows.append(
            {
                "forecast": method,
                "breaches": found.breaches,
                "rate": round(found.rate, 6),
                "kupiec_p": float(f"{found.kupiec_p:.3g}"),
                "independence_p": float(f"{found.independence_p:.3g}"),
                "christoffersen_p": float(f"{found.christoffersen_p:.3g}"),
                "worst_250_days": int(np.convolve(breached, np.ones(WORST), "valid").max()),
                "pinball_loss_bp": round(float(np.maximum(tail * miss, (tail - 1.0) * miss).mean()) * 1e4, 3),
            }
        )
    first, last = f"{prices.index[WINDOW + 1]:%Y-%m-%d}", f"{prices.index[-1]:%Y-%m-%d}"
    return {"forecasts": len(actual), "first": first, "last": last, "rows": rows}


def table(name: str, document: dict[str, Any]) -> str:
    """In Markdown."""
    lines = [
        f"{name}: {document['forecasts']:,} forecasts, {document['first']} to {document['last']}",
        "",
        "| forecast | breaches | Kupiec p | independence p | Christoffersen p | worst 250 days | pinball loss, bp |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        tests = f"{row['kupiec_p']:.2g} | {row['independence_p']:.2g} | {row['christoffersen_p']:.2g}"
        lines.append(f"| {row['forecast']} | {row['rate']:.2%} | {tests} | {row['worst_250_days']} | {row['pinball_loss_bp']} |")
    return "\n".join([*lines, ""])


def carried_by_skfolio() -> dict[str, "pd.Series[float]"]:
    """The index, and its twenty companies held in equal parts from day to day; empty where skfolio is not installed."""
    found = find_spec("skfolio")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "datasets" / "data"
    index, companies = (
        pd.read_csv(folder / name, index_col=0, parse_dates=True) for name in ("sp500_index.csv.gz", "sp500_dataset.csv.gz")
    )
    book = (1.0 + companies.ffill().pct_change().fillna(0.0).mean(axis=1)).cumprod()
    return {"S&P 500": index[index.columns[0]], f"{len(companies.columns)} companies of it, equal parts": book}


def series(files: list[str]) -> dict[str, "pd.Series[float]"]:
    """Prices by name."""
    if files:
        tables = {Path(file).name: pd.read_csv(file, index_col=0, parse_dates=True) for file in files}
        return {f"{name}, {frame.columns[0]}": frame[frame.columns[0]] for name, frame in tables.items()}
    from bokeh_sampledata import stocks

    found = carried_by_skfolio()
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
    names = [name for name in sys.argv[1:] if name != "--json"]
    answers = {title: measured(prices) for title, prices in series(names).items()}
    if "--json" in sys.argv:
        print(json.dumps(answers))
    else:
        print("\n".join(table(title, answer) for title, answer in answers.items()))
