"""Daily bars of many symbols as columns, checked at the edge, and what is known of each symbol before an open."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import BAR_COLUMNS, DailyHistory, Floats, PriorFacts, require_shape
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session

# New shares per old share that companies really choose; a jump of the adjustment factor is told as the nearest of them.
SPLIT_VALUES = (1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0)
SPLIT_JUMP_MIN = 0.20

NO_EXCLUSION: Mapping[str, str] = {}
BEFORE = datetime(1, 1, 1, tzinfo=UTC)  # every correction


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """How much history the facts before an open need, and how large a hole in it is still bridged."""

    mean_sessions: int
    hole_sessions_max: int  # sessions without a bar that a previous close may lie back

    def __post_init__(self) -> None:
        if self.mean_sessions < 1 or self.hole_sessions_max < 0:
            raise BadInput(f"history: mean_sessions {self.mean_sessions} or hole_sessions_max {self.hole_sessions_max} too small")


class VolumeShares(Protocol):
    """The share of its day's volume that each symbol had traded by given minutes of a session of the panel."""

    def __call__(self, session: Session, minutes: tuple[int, ...]) -> Floats:
        """Shares [len(minutes), symbols]; a minute past the end of a half day counts as its end."""
        ...


@dataclass(frozen=True, slots=True)
class DailyPanel:
    """Raw (as traded) daily bars, arrays [days, symbols]; NaN: no bar. USD and shares.

    `split`: new shares per old share, taking effect at the open of that day (1.0: none). `excluded`: a mapping a day from
    symbol to the reason why its bar was refused, known when it is over; such a bar is NaN. `suspect`: those of them whose open
    tells it already. Build with `checked`, which fills both.
    """

    symbols: tuple[str, ...]
    sessions: tuple[Session, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    split: Floats
    excluded: tuple[Mapping[str, str], ...]
    suspect: tuple[Mapping[str, str], ...]
    _day: dict[date, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_shape(self, (*BAR_COLUMNS, "split"), (len(self.sessions), len(self.symbols)), "daily panel")
        days = [session.date for session in self.sessions]
        if any(later <= earlier for earlier, later in pairwise(days)):
            raise BadInput("daily panel: sessions are not in order, or one comes twice")
        if len(set(self.symbols)) != len(self.symbols):
            raise BadInput("daily panel: a symbol comes twice")
        for days_told in (self.excluded, self.suspect):
            if len(days_told) != len(self.sessions):
                raise BadInput(f"daily panel: {len(days_told)} days of exclusions for {len(self.sessions)} sessions")
        if not (self.split > 0).all():
            raise BadInput("daily panel: a split value is not positive")
        object.__setattr__(self, "_day", {day: number for number, day in enumerate(days)})

    @classmethod
    def checked(
        cls,
        symbols: tuple[str, ...],
        sessions: tuple[Session, ...],
        bars: Mapping[str, Floats],
        split: Floats,
        suspect: tuple[Mapping[str, str], ...] | None = None,
    ) -> Self:
        """A panel of `bars` (open, high, low, close, volume) with every bad bar refused by name; those that are suspect are
        refused too."""
        columns = {name: np.array(bars[name], dtype=np.float64) for name in BAR_COLUMNS}
        suspect = suspect if suspect is not None else (NO_EXCLUSION,) * len(sessions)
        reasons: list[dict[str, str]] = [{} for _ in sessions]
        for reason, bad in _faults(columns).items():
            for day, place in np.argwhere(bad):
                reasons[day].setdefault(symbols[place], reason)
        reasons = [dict(told) | faults for told, faults in zip(suspect, reasons, strict=True)]
        place_of = {symbol: place for place, symbol in enumerate(symbols)}
        refused = [(day, place_of[symbol]) for day, named in enumerate(reasons) for symbol in named]
        if refused:
            days, places = zip(*refused, strict=True)
            for column in columns.values():
                column[days, places] = np.nan
        return cls(symbols, sessions, **columns, split=split, excluded=tuple(reasons), suspect=suspect)

    def of_symbols(self, symbols: tuple[str, ...]) -> "DailyPanel":
        """The same panel with these symbols only, in this order; BadInput names the first unknown one."""
        place_of = {symbol: place for place, symbol in enumerate(self.symbols)}
        for symbol in symbols:
            if symbol not in place_of:
                raise BadInput(f"unknown symbol {symbol}: the daily bars have {', '.join(self.symbols[:20])}")
        places = [place_of[symbol] for symbol in symbols]
        excluded, suspect = (
            tuple({symbol: day[symbol] for symbol in symbols if symbol in day} for day in told)
            for told in (self.excluded, self.suspect)
        )
        return DailyPanel(
            symbols,
            self.sessions,
            open=self.open[:, places],
            high=self.high[:, places],
            low=self.low[:, places],
            close=self.close[:, places],
            volume=self.volume[:, places],
            split=self.split[:, places],
            excluded=excluded,
            suspect=suspect,
        )

    def day_of(self, session: Session) -> int:
        """Row of the session; BadInput if the panel has none."""
        day = self._day.get(session.date)
        if day is None:
            raise BadInput(f"no daily bars for the session {session.date}")
        return day

    def daily_history(self, session: Session, first: date) -> DailyHistory:
        """The days from `first` to the one before the session."""
        end = self.day_of(session)
        start = next((row for row, each in enumerate(self.sessions[:end]) if each.date >= first), end)
        days = slice(start, end)
        return DailyHistory(
            sessions=tuple(each.date for each in self.sessions[days]),
            symbols=self.symbols,
            open=self.open[days],
            high=self.high[days],
            low=self.low[days],
            close=self.close[days],
            volume=self.volume[days],
            split=self.split[days],
        )

    def prior_facts(self, session: Session, minutes: tuple[int, ...], policy: HistoryPolicy, shares: VolumeShares) -> PriorFacts:
        """What was known before the open. Means are over each symbol's last `mean_sessions` bars; a bar older than the
        permitted hole allows does not count. A refused bar of the last session excludes its symbol, as does a long hole;
        so does an open of today that is suspect. Whether the bar of today is refused nobody knows before it is over."""
        day = self.day_of(session)
        previous_close, gaps = self._previous_close(day, policy.hole_sessions_max)
        used = self._last_bars(day, policy)
        enough = used.sum(axis=0) == policy.mean_sessions
        dollars = np.zeros(len(self.symbols))
        cumulative = np.zeros((len(minutes), len(self.symbols)))
        for row in np.flatnonzero(used.any(axis=1)):
            past = day - len(used) + int(row)
            counted = used[row]
            dollars += np.where(counted, self.close[past] * self.volume[past], 0.0)
            to_today = np.multiply.reduce(self.split[past + 1 : day + 1], axis=0)
            volume = np.where(counted, self.volume[past] * to_today, 0.0)
            cumulative += shares(self.sessions[past], minutes) * volume
        return PriorFacts(
            session=session,
            symbols=self.symbols,
            previous_close=previous_close,
            dollar_volume_mean=np.where(enough, dollars / policy.mean_sessions, np.nan),
            minutes=minutes,
            cumulative_volume_mean=np.where(enough, cumulative / policy.mean_sessions, np.nan),
            excluded=self._out(day, previous_close, gaps),
        )

    def _previous_close(self, day: int, hole_sessions_max: int) -> tuple[Floats, NDArray[np.bool_]]:
        """The last close in today's shares, and which symbols have one that lies too far back."""
        found = np.full(len(self.symbols), np.nan)
        factor = np.ones(len(self.symbols))
        reach = max(0, day - 1 - hole_sessions_max)
        for past in range(day - 1, reach - 1, -1):
            factor = factor * self.split[past + 1]
            found = np.where(np.isnan(found), self.close[past] / factor, found)
        earlier = np.isfinite(self.close[:reach]).any(axis=0)
        return found, np.isnan(found) & earlier

    def _last_bars(self, day: int, policy: HistoryPolicy) -> NDArray[np.bool_]:
        """Which bars before the day the means count, [sessions back, symbols]: of each symbol the last `mean_sessions`."""
        start = max(0, day - policy.mean_sessions - policy.hole_sessions_max)
        valid = np.isfinite(self.close[start:day]) & np.isfinite(self.volume[start:day])
        rank = np.cumsum(valid[::-1], axis=0)[::-1]
        return np.asarray(valid & (rank <= policy.mean_sessions))

    def _out(self, day: int, previous_close: Floats, gaps: NDArray[np.bool_]) -> dict[str, str]:
        yesterday = self.excluded[day - 1] if day else NO_EXCLUSION
        out = {symbol: f"previous bar refused: {reason}" for symbol, reason in yesterday.items()}
        for place in np.flatnonzero(gaps):
            out.setdefault(self.symbols[place], "no bar for too many sessions")
        return out | dict(self.suspect[day])


class KnownPanels:
    """The same days as they were known at different instants. Between two `changes` nothing was told anew; `make` builds the
    panel as known at one of them, and for None each bar as it was told first, which is what the market showed on its day. All
    panels have the same symbols and sessions. Safe from any thread."""

    def __init__(self, changes: Sequence[datetime], make: Callable[[datetime | None], DailyPanel]) -> None:
        self._changes = sorted(set(changes))
        self.first = make(None)
        self._made = lru_cache(maxsize=2)(lambda number: make(self._changes[number - 1]) if number else make(BEFORE))

    @classmethod
    def fixed(cls, panel: DailyPanel) -> Self:
        """Nothing is ever told anew."""
        return cls((), lambda _: panel)

    def at(self, instant: datetime) -> DailyPanel:
        """The last that was known then."""
        if not self._changes:
            return self.first
        return self._made(bisect_right(self._changes, instant))


def split_values(close: Floats, adjusted_close: Floats) -> Floats:
    """Splits told from gaps by the adjustment factor, arrays [days, symbols]; 1.0 where there is none.

    The factor adjusted/raw close jumps at a split by the split value, while a fall in price, however deep, leaves it alone and
    a dividend moves it by little. NaN rows are passed over: the jump is seen at the next bar of the symbol.
    """
    result = np.ones_like(close)
    for place in range(close.shape[1]):
        rows = np.flatnonzero(np.isfinite(close[:, place]) & np.isfinite(adjusted_close[:, place]))
        factor = adjusted_close[rows, place] / close[rows, place]
        jump = factor[1:] / factor[:-1]
        for number in np.flatnonzero(np.abs(jump - 1.0) > SPLIT_JUMP_MIN):
            result[rows[number + 1], place] = nearest_split(float(jump[number]))
    return result


def nearest_split(ratio: float) -> float:
    """The customary split value nearest to the ratio in logarithm; reverse splits are its inverses."""
    forward = max(ratio, 1.0 / ratio)
    value = min(SPLIT_VALUES, key=lambda candidate: abs(np.log(candidate / forward)))
    return value if ratio >= 1.0 else 1.0 / value


def _faults(columns: Mapping[str, Floats]) -> dict[str, NDArray[np.bool_]]:
    """Reason -> which bars have that fault; bars that are wholly NaN are missing, not bad."""
    open_, high, low, close, volume = (columns[name] for name in BAR_COLUMNS)
    prices = np.stack([open_, high, low, close])
    missing = np.isnan(prices).all(axis=0) & (np.isnan(volume) | (volume == 0))
    with np.errstate(invalid="ignore"):
        return {
            "price is not finite": ~np.isfinite(prices).all(axis=0) & ~missing,
            "price is not positive": (prices <= 0).any(axis=0),
            "high is below open, close or low": (high < np.maximum(np.maximum(open_, close), low)),
            "low is above open or close": (low > np.minimum(open_, close)),
            "volume is not a number of shares": ~missing & ~(np.isfinite(volume) & (volume >= 0)),
        }
