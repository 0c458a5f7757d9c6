"""What a candidate turned out to be: which barrier its price met first, its net return, and until when that was open."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

Ints = NDArray[np.int64]
TARGET_ATR_MAX = 3.0


class Outcome(IntEnum):
    """The class of a row, which is also its column in a matrix of probabilities."""

    UNKNOWN = -1  # no sound entry, ATR or bar: not a row to learn from or to be scored
    DOWN = 0
    FLAT = 1
    UP = 2


CLASSES = 3


@dataclass(frozen=True, slots=True)
class Barriers:
    """How far from the entry the label is decided, in multiples of ATR14; `cost_fraction` of the entry is lost on the way in and
    out together."""

    up_atr: float = 0.5
    down_atr: float = 0.5
    cost_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("up_atr", self.up_atr), ("down_atr", self.down_atr)):
            if not 0.0 < value < np.inf:
                raise BadInput(f"barriers: {name} is {value}, must be above zero")
        if not 0.0 <= self.cost_fraction < 1.0:
            raise BadInput(f"barriers: cost_fraction is {self.cost_fraction}, must be from 0 to below 1")


@dataclass(frozen=True, slots=True)
class Labels:
    """Arrays [rows]. `outcome` see Outcome; `target_atr` the net return over the ATR, at most TARGET_ATR_MAX either way, NaN
    where the outcome is UNKNOWN; `label_start` and `label_end` the first and the last bar that decided it, on the caller's
    axis."""

    outcome: NDArray[np.int8]
    target_atr: Floats
    label_start: Ints
    label_end: Ints

    @property
    def known(self) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = self.outcome != Outcome.UNKNOWN
        return known


@dataclass(frozen=True, slots=True)
class Path:
    """The bars after each entry, prices in USD [rows, bars], NaN where there is none."""

    high: Floats
    low: Floats
    close: Floats


def label_days(
    open_: Floats, path: Path, atr_fraction: Floats, sessions: Ints, barriers: Barriers, side: Floats | float = 1.0
) -> Labels:
    """Labels of entries at the open, where only the day's own bar is known: `path` holds arrays [rows], `sessions` is the index
    of each row's session; the rest as in label_minutes."""
    if path.high.ndim != 1:
        raise BadInput(f"labels: daily bars have shape {path.high.shape}, not one a row")
    one = Path(path.high[:, np.newaxis], path.low[:, np.newaxis], path.close[:, np.newaxis])
    return label_minutes(open_, one, atr_fraction, sessions, barriers, side)


def label_minutes(
    entry: Floats, path: Path, atr_fraction: Floats, starts: Ints, barriers: Barriers, side: Floats | float = 1.0
) -> Labels:
    """The triple barrier (Lopez de Prado, Advances in Financial Machine Learning, 2018, 3.4), the last bar being the time-out.

    `entry` in USD, `atr_fraction` ATR14 over the price and `starts`, the index of the first bar of `path`: arrays [rows]. A bar
    that holds both barriers does not say which came first: FLAT, out at its close. `side` [rows] is 1 for who buys, -1 for who
    sells short; it signs the net return and not the outcome. BadInput when shapes differ.
    """
    _require_shapes(entry, path, atr_fraction, starts)
    sound = np.isfinite(path.high) & np.isfinite(path.low) & np.isfinite(path.close)
    known = sound.any(axis=1) & np.isfinite(entry) & (entry > 0.0) & np.isfinite(atr_fraction) & (atr_fraction > 0.0)
    up_fraction, down_fraction = barriers.up_atr * atr_fraction, barriers.down_atr * atr_fraction
    with np.errstate(invalid="ignore"):
        meets_up = sound & (path.high >= (entry * (1.0 + up_fraction))[:, np.newaxis])
        meets_down = sound & (path.low <= (entry * (1.0 - down_fraction))[:, np.newaxis])
    met = meets_up | meets_down
    last = sound.shape[1] - 1 - sound[:, ::-1].argmax(axis=1)
    decided = np.where(met.any(axis=1), met.argmax(axis=1), last)
    rows = np.arange(len(entry))
    up, down = meets_up[rows, decided], meets_down[rows, decided]
    outcome = np.select([~known, up & ~down, down & ~up], [Outcome.UNKNOWN, Outcome.UP, Outcome.DOWN], Outcome.FLAT)
    with np.errstate(invalid="ignore", divide="ignore"):
        at_close = path.close[rows, decided] / entry - 1.0
        gross = np.where(outcome == Outcome.UP, up_fraction, np.where(outcome == Outcome.DOWN, -down_fraction, at_close))
        net_atr = (np.asarray(side) * gross - barriers.cost_fraction) / atr_fraction
    target = np.where(known, np.clip(net_atr, -TARGET_ATR_MAX, TARGET_ATR_MAX), np.nan)
    return Labels(outcome.astype(np.int8), target, starts.astype(np.int64), (starts + decided).astype(np.int64))


def day_weights(days: NDArray[np.integer]) -> Floats:
    """One over the number of rows of the same day [rows]: a day counts once, however many candidates it has."""
    _, place, counts = np.unique(days, return_inverse=True, return_counts=True)
    weights: Floats = 1.0 / counts[place]
    return weights


def _require_shapes(entry: Floats, path: Path, atr_fraction: Floats, starts: Ints) -> None:
    rows = len(entry)
    for name, array in (("atr_fraction", atr_fraction), ("starts", starts)):
        if array.shape != (rows,):
            raise BadInput(f"labels: {name} has shape {array.shape}, not ({rows},)")
    shape = (rows, path.high.shape[-1])
    if path.high.ndim != 2 or not shape[1]:
        raise BadInput(f"labels: high has shape {path.high.shape}, not rows and at least one bar")
    for name, array in (("high", path.high), ("low", path.low), ("close", path.close)):
        if array.shape != shape:
            raise BadInput(f"labels: {name} has shape {array.shape}, not {shape}")
