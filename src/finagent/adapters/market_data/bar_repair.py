"""What becomes of holes and bad bars in a session of minute bars."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.errors import BadInput
from finagent.quant.features.bar_soundness import sound_bars

_FILLED, _MISSING, _BAD = np.uint8(BarQuality.FILLED), np.uint8(BarQuality.MISSING), np.uint8(BarQuality.BAD)


@dataclass(frozen=True, slots=True)
class GapPolicy:
    """A hole of up to `hole_minutes_max` minutes is forward-filled; a longer one drops the symbol for the rest of the session."""

    hole_minutes_max: int

    def __post_init__(self) -> None:
        if self.hole_minutes_max < 0:
            raise BadInput(f"hole_minutes_max is {self.hole_minutes_max}: it cannot be negative")


def refused(bars: SessionBars) -> SessionBars:
    """The bars with every unsound one marked BAD and set to NaN: the guard of the hot path, the same rule as the file schemas."""
    claimed = bars.quality <= _FILLED
    bad = claimed & ~sound_bars(bars.open, bars.high, bars.low, bars.close, bars.volume)
    if not bad.any():
        return bars
    return _marked(bars, bad, _BAD)


def repaired(bars: SessionBars, policy: GapPolicy) -> SessionBars:
    """Refuse bad bars, fill short holes, drop symbols with long ones; a halt is no hole, a bad bar is part of one.

    Point in time: what becomes of a minute depends on earlier minutes alone. So the first `hole_minutes_max` minutes of a
    hole are FILLED (last close, zero volume) and the next one drops the symbol: MISSING to the end of the session, even if
    bars come back. A hole that starts with the session has nothing to fill from: its minutes stay MISSING.
    """
    bars = refused(bars)
    missing, bad = bars.quality == _MISSING, bars.quality == _BAD
    hole = missing | bad
    if not hole.any():
        return bars
    dropped = np.logical_or.accumulate(_running_length(hole) > policy.hole_minutes_max, axis=0)
    source = _last_sound_minute(bars.quality <= _FILLED)
    fill = missing & ~dropped & (source >= 0)
    carried = np.take_along_axis(bars.close, np.maximum(source, 0), axis=0)
    filled = replace(
        bars,
        open=np.where(fill, carried, bars.open),
        high=np.where(fill, carried, bars.high),
        low=np.where(fill, carried, bars.low),
        close=np.where(fill, carried, bars.close),
        volume=np.where(fill, 0.0, bars.volume),
        quality=np.where(fill, _FILLED, bars.quality),
    )
    return _marked(filled, dropped & ~bad, _MISSING)


def dropped_symbols(bars: SessionBars, policy: GapPolicy) -> dict[str, str]:
    """Symbol -> why it is out by the end of the session, for those that a long hole drops."""
    hole = (bars.quality == _MISSING) | (bars.quality == _BAD)
    long = _running_length(hole) > policy.hole_minutes_max
    out = {}
    for column in np.flatnonzero(long.any(axis=0)).tolist():
        minute = int(np.argmax(long[:, column]))
        since = bars.session.instant_of(minute - policy.hole_minutes_max)
        out[bars.symbols[column]] = f"no bar for more than {policy.hole_minutes_max} minutes from {since.isoformat()}"
    return out


def _marked(bars: SessionBars, where: NDArray[np.bool_], quality: np.uint8) -> SessionBars:
    return replace(
        bars,
        open=np.where(where, np.nan, bars.open),
        high=np.where(where, np.nan, bars.high),
        low=np.where(where, np.nan, bars.low),
        close=np.where(where, np.nan, bars.close),
        volume=np.where(where, np.nan, bars.volume),
        quality=np.where(where, quality, bars.quality),
    )


def _running_length(hole: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each minute how many minutes the hole it lies in has lasted, itself included; 0 outside holes."""
    count = np.cumsum(hole, axis=0)
    return np.asarray(count - np.maximum.accumulate(np.where(hole, 0, count), axis=0))


def _last_sound_minute(sound: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each minute the latest sound one up to it, -1 before the first."""
    minutes = np.arange(len(sound))[:, None]
    return np.asarray(np.maximum.accumulate(np.where(sound, minutes, -1), axis=0))
