"""How near the simulated market comes to 433 US shares of 2013 to 2016: one figure a line, with its target and tolerance."""

from dataclasses import dataclass

import numpy as np

from finagent.adapters.market_data.simulated_daily import SimulatedDays
from finagent.domain.bars import Floats

MEDIAN_TOLERANCE, CLUSTERING_TOLERANCE = 0.25, 0.40
GAP = 0.04
SYMBOLS_OF_TARGETS = 433
VOLUME_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value beside the real one; `tolerance` is a fraction of the target, None where it is shown only."""

    name: str
    value: float
    target: float
    tolerance: float | None

    @property
    def within(self) -> bool:
        return self.tolerance is None or abs(self.value - self.target) <= self.tolerance * abs(self.target)


def figures(days: SimulatedDays) -> tuple[Figure, ...]:
    """Every figure of a panel without holes; medians are over symbols."""
    ratio = np.log(days.split[1:])
    log_close, log_open = np.log(days.close), np.log(days.open)
    daily = np.diff(log_close, axis=0) + ratio
    overnight = log_open[1:] - log_close[:-1] + ratio
    gap = np.expm1(overnight)
    log_volume = (np.log(np.maximum(days.volume, 1.0)) - np.cumsum(np.log(days.split), axis=0))[1:]
    size = np.abs(daily)

    def median(name: str, values: Floats, target: float, tolerance: float | None = MEDIAN_TOLERANCE) -> Figure:
        return Figure(name, float(np.median(values)), target, tolerance)

    return (
        median("daily sd of log return, %", 100 * daily.std(axis=0), 1.88),
        median("excess kurtosis, daily", _excess_kurtosis(daily), 5.4),
        median("overnight sd, %", 100 * overnight.std(axis=0), 1.01),
        median("excess kurtosis, overnight", _excess_kurtosis(overnight), 27.0),
        median("overnight share of variance", overnight.var(axis=0) / daily.var(axis=0), 0.28),
        median("P(|gap| > 2 %), %", 100 * (np.abs(gap) > 0.02).mean(axis=0), 3.3),
        median("P(gap >= 4 %), %", 100 * (gap >= GAP).mean(axis=0), 0.38),
        median("P(gap <= -4 %), %", 100 * (gap <= -GAP).mean(axis=0), 0.49),
        median("sd of log volume", log_volume.std(axis=0), 0.52),
        median("autocorrelation of log volume, lag 1", _autocorrelation(log_volume, 1), 0.59),
        median("correlation of |return| and log volume", _correlation(size, log_volume), 0.42),
        median("autocorrelation of return, lag 1", _autocorrelation(daily, 1), 0.007, None),
        median("autocorrelation of |return|, lag 1", _autocorrelation(size, 1), 0.125, CLUSTERING_TOLERANCE),
        median("autocorrelation of |return|, lag 5", _autocorrelation(size, 5), 0.049, CLUSTERING_TOLERANCE),
        median("autocorrelation of |return|, lag 20", _autocorrelation(size, 20), 0.026, CLUSTERING_TOLERANCE),
        *_clustering(gap),
        *_gap_days(days, gap, log_volume),
    )


def table(found: tuple[Figure, ...]) -> str:
    """The figures as text, a line each."""
    lines = [f"{'figure':44s} {'simulated':>10s} {'real':>8s}  allowed"]
    for figure in found:
        allowed = "shown only" if figure.tolerance is None else f"+-{figure.tolerance:.0%} {'ok' if figure.within else 'OUTSIDE'}"
        lines.append(f"{figure.name:44s} {figure.value:10.3f} {figure.target:8.3f}  {allowed}")
    return "\n".join(lines)


def _clustering(gap: Floats) -> tuple[Figure, ...]:
    ups = (gap >= GAP).sum(axis=1) * SYMBOLS_OF_TARGETS / gap.shape[1]
    name = f"gaps up >= 4 % a day of {SYMBOLS_OF_TARGETS} symbols"
    return (
        Figure(f"{name}, mean", float(ups.mean()), 3.1, CLUSTERING_TOLERANCE),
        Figure(f"{name}, median", float(np.median(ups)), 2.0, CLUSTERING_TOLERANCE),
        Figure(f"{name}, p90", float(np.quantile(ups, 0.9)), 6.0, CLUSTERING_TOLERANCE),
        Figure(f"{name}, max", float(ups.max()), 84.0, CLUSTERING_TOLERANCE),
        Figure("days without a gap up >= 4 %, share", float((ups == 0).mean()), 0.15, CLUSTERING_TOLERANCE),
    )


def _gap_days(days: SimulatedDays, gap: Floats, log_volume: Floats) -> tuple[Figure, ...]:
    """What the day of a gap up of 4 % and more is like; pooled over symbols, shown beside the real figures."""
    volume = np.exp(log_volume)
    windows = np.lib.stride_tricks.sliding_window_view(volume[:-1], VOLUME_SESSIONS, axis=0)
    relative = volume[VOLUME_SESSIONS:] / windows.mean(axis=-1)
    up = gap[VOLUME_SESSIONS:] >= GAP
    after = VOLUME_SESSIONS + 1
    open_, high, low, close = (column[after:][up] for column in (days.open, days.high, days.low, days.close))
    previous = open_ / (1.0 + gap[VOLUME_SESSIONS:][up])
    return (
        Figure("gap day: relative volume, quartile 1", float(np.quantile(relative[up], 0.25)), 1.2, None),
        Figure("gap day: relative volume, median", float(np.quantile(relative[up], 0.5)), 2.0, None),
        Figure("gap day: relative volume, quartile 3", float(np.quantile(relative[up], 0.75)), 3.5, None),
        Figure("gap day: range, median, %", float(100 * np.median(high / low - 1)), 7.5, None),
        Figure("gap day: close above open, share", float((close > open_).mean()), 0.42, None),
        Figure("gap day: gap filled the same day, share", float((low <= previous).mean()), 0.26, None),
    )


def _excess_kurtosis(values: Floats) -> Floats:
    centred = values - values.mean(axis=0)
    return np.asarray((centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2 - 3.0)


def _autocorrelation(values: Floats, lag: int) -> Floats:
    centred = values - values.mean(axis=0)
    return np.asarray((centred[lag:] * centred[:-lag]).mean(axis=0) / (centred**2).mean(axis=0))


def _correlation(one: Floats, other: Floats) -> Floats:
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return np.asarray((one * other).mean(axis=0) / np.sqrt((one**2).mean(axis=0) * (other**2).mean(axis=0)))
