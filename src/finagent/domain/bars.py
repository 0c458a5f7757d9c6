"""Bars and quotes as columns over symbols: the one file of the domain that knows numpy."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session

Floats = NDArray[np.float64]
BAR_COLUMNS = ("open", "high", "low", "close", "volume")


def require_shape(bars: object, names: Iterable[str], shape: tuple[int, ...], what: str) -> None:
    """BadInput that names the first of those arrays of `bars` that has another shape."""
    for name in names:
        found = getattr(bars, name).shape
        if found != shape:
            raise BadInput(f"{what}: {name} has shape {found}, not {shape}")


class BarQuality(IntEnum):
    """What is known of one bar of one symbol; only OK and FILLED bars may be traded on."""

    OK = 0
    FILLED = 1  # a short hole, carried forward from the last good bar with zero volume
    MISSING = 2
    BAD = 3  # refused at the edge: non-finite, non-positive, or high/low do not enclose open/close
    HALTED = 4


@dataclass(frozen=True, slots=True)
class BarBlock:
    """The bars of all symbols that are complete at one instant: one message a bar-time.

    Arrays have shape [symbols]; prices in USD, volume in shares; NaN where the quality is not OK or FILLED.
    """

    at: datetime
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quality: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SessionBars:
    """All minute bars of one session, arrays [minutes, symbols] (see BarBlock for units). `simulated`: nobody traded so; the
    minutes are made up, be it between the bars of real days."""

    session: Session
    symbols: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quality: NDArray[np.uint8]
    simulated: bool = False

    def __post_init__(self) -> None:
        shape = (self.session.minutes, len(self.symbols))
        require_shape(self, (*BAR_COLUMNS, "quality"), shape, f"session {self.session.date}")

    def block(self, minute: int) -> BarBlock:
        """The bars complete `minute` minutes after the open (1 to session.minutes)."""
        row = minute - 1
        return BarBlock(
            at=self.session.instant_of(minute),
            open=self.open[row],
            high=self.high[row],
            low=self.low[row],
            close=self.close[row],
            volume=self.volume[row],
            quality=self.quality[row],
        )


def no_bars(session: Session, symbols: tuple[str, ...]) -> SessionBars:
    """A session of which nothing is known: arrays of its own, to be filled or not."""
    shape = (session.minutes, len(symbols))
    quality = np.full(shape, BarQuality.MISSING, dtype=np.uint8)
    open_, high, low, close, volume = np.full((5, *shape), np.nan)
    return SessionBars(session, symbols, open_, high, low, close, volume, quality)


@dataclass(frozen=True, slots=True)
class DailyHistory:
    """Daily bars as traded, of the sessions before one, as they were known at its open; arrays [sessions, symbols], oldest first.

    USD and shares; NaN: no bar, or one that was refused. `split`: new shares per old, taking effect at the open of that session.
    """

    sessions: tuple[date, ...]
    symbols: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    split: Floats

    def __post_init__(self) -> None:
        require_shape(self, (*BAR_COLUMNS, "split"), (len(self.sessions), len(self.symbols)), "daily bars")


def no_history(symbols: tuple[str, ...]) -> DailyHistory:
    """A history of which nothing is known."""
    empty = np.empty((0, len(symbols)))
    return DailyHistory((), symbols, empty, empty, empty, empty, empty, empty)


@dataclass(frozen=True, slots=True)
class Quotes:
    """The best bid and ask of each symbol as last known; arrays over symbols, prices in USD, sizes in any unit that both sides
    share, `age_seconds` since the quote was made. NaN: no quote is known."""

    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats
    age_seconds: Floats


def no_quotes(symbols: int) -> Quotes:
    """Nothing is known of so many symbols."""
    return Quotes(*np.full((5, symbols), np.nan))


@dataclass(frozen=True, slots=True)
class PriorFacts:
    """What is known of each symbol before the open of a session; arrays over symbols.

    `previous_close` in today's shares (split-adjusted as of today, NaN: none); `dollar_volume_mean` the mean of
    close x volume over the last 20 sessions in USD (NaN: fewer); `cumulative_volume_mean` [len(minutes), symbols]: the mean
    volume by that many minutes after the open over the last 20 sessions, in today's shares (NaN: fewer);
    `excluded` names symbols that are out for the session and why (bad previous bar, long hole, unexplained split).
    """

    session: Session
    symbols: tuple[str, ...]
    previous_close: Floats
    dollar_volume_mean: Floats
    minutes: tuple[int, ...]
    cumulative_volume_mean: Floats
    excluded: dict[str, str]
