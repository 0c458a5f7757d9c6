"""From daily bars as rows to a panel over the exchange's sessions, with the splits that explain false gaps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finagent.adapters.market_data.bar_files import ADJUSTED, Split
from finagent.adapters.market_data.daily_panel import DailyPanel, KnownPanels, nearest_split, split_values
from finagent.domain.bars import BAR_COLUMNS, Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.sessions import Session
from finagent.quant.features.bar_soundness import sound_bars

_EPOCH = date(1970, 1, 1)
_DAY_SECONDS = 86_400
# Real splits opened within 2.3 % of the exact ratio in 25 years of large caps; true gaps near 1:2 were at least 3.6 % off.
_SUSPECT_LOG_DISTANCE = 0.03
_SUSPECT_MIN = 2.0
_CURE = "add a corporate_actions*.csv beside the bars, or an adj_close column"
_ALREADY_ADJUSTED = "the prices do not jump by it: they are adjusted for it already"


@dataclass(frozen=True, slots=True)
class SplitNote:
    """A split that was used or set aside: `value` new shares per old one."""

    symbol: str
    session: Session
    value: float
    told_by: str
    set_aside: str


def sessions_of(
    bars: pd.DataFrame, calendar: ExchangeCalendar, sessions: tuple[Session, ...] = ()
) -> tuple[tuple[Session, ...], NDArray[np.intp]]:
    """All sessions that the bars span (or those given, which do), and for each bar the row of its session; a bar on no trading
    day is refused."""
    local = bars["timestamp"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    days = (local.dt.as_unit("s").astype("int64") // _DAY_SECONDS).to_numpy()
    if not sessions:
        sessions = calendar.sessions(_EPOCH + timedelta(days=int(days.min())), _EPOCH + timedelta(days=int(days.max())))
    known = np.array([(session.date - _EPOCH).days for session in sessions])
    rows = np.minimum(np.searchsorted(known, days), len(known) - 1)
    closed = np.flatnonzero(known[rows] != days)
    if len(closed):
        symbol, day = bars["symbol"].iloc[int(closed[0])], _EPOCH + timedelta(days=int(days[closed[0]]))
        raise BadInput(
            f"timestamp: {len(closed)} bars lie on days on which the exchange is closed, first {symbol} on {day}. "
            "A daily bar carries midnight in New York of its session, in UTC"
        )
    return sessions, rows


def panels_of(
    bars: Callable[[datetime | None], pd.DataFrame],
    changes: Sequence[datetime],
    splits: Sequence[Split],
    symbols: tuple[str, ...],
    calendar: ExchangeCalendar,
) -> tuple[KnownPanels, tuple[SplitNote, ...]]:
    """The panels, and what became of each split in the one of what was told first.

    `bars` as they were known at an instant, or told first, of which those told first span every session; `changes` are the
    instants at which they were told. A split that is told late counts from then on.
    """
    sessions, _ = sessions_of(_of(bars(None), symbols), calendar)
    late = [split.known_at for split in splits if split.known_at is not None]

    notes: list[tuple[SplitNote, ...]] = []

    def make(at: datetime | None) -> DailyPanel:
        known = [split for split in splits if split.known_at is None or at is None or split.known_at <= at]
        panel, of_splits = panel_of(bars(at), known, symbols, calendar, sessions)
        if at is None:
            notes.append(of_splits)
        return panel

    return KnownPanels([*changes, *late], make), notes[0]


def _of(bars: pd.DataFrame, symbols: tuple[str, ...]) -> pd.DataFrame:
    return bars[bars["symbol"].isin(symbols)]


def panel_of(
    bars: pd.DataFrame,
    splits: Sequence[Split],
    symbols: tuple[str, ...],
    calendar: ExchangeCalendar,
    sessions: tuple[Session, ...] = (),
) -> tuple[DailyPanel, tuple[SplitNote, ...]]:
    """The panel of the symbols over every session that the bars span (or those given), and what became of each split."""
    bars = _of(bars, symbols)
    sessions, rows = sessions_of(bars, calendar, sessions)
    place_of = {symbol: place for place, symbol in enumerate(symbols)}
    places = bars["symbol"].map(place_of).to_numpy(dtype=np.int64)

    def column(name: str) -> Floats:
        values = np.full((len(sessions), len(symbols)), np.nan)
        values[rows, places] = bars[name].to_numpy(dtype=np.float64)
        return values

    columns = {name: column(name) for name in BAR_COLUMNS}
    told = {name: np.ones_like(columns["close"]) for name in ("corporate actions", "adj_close")}
    for action in splits:
        if action.symbol in place_of:
            place, last_cum = place_of[action.symbol], action.last_cum_session.date()
            traded = np.flatnonzero(np.isfinite(columns["open"][:, place]))
            ex_day = next((row for row in traded.tolist() if sessions[row].date > last_cum), None)
            if ex_day is not None and sessions[0].date <= last_cum:
                told["corporate actions"][ex_day, place] = action.value
    if ADJUSTED in bars.columns:
        told["adj_close"] = split_values(columns["close"], column(ADJUSTED))
    sound = sound_bars(*(columns[name] for name in BAR_COLUMNS))
    # What is known at an open is the open: whether the bar is sound is not.
    opened = (columns["open"] > 0.0) & (columns["open"] < np.inf)
    open_, close = np.where(opened, columns["open"], np.nan), np.where(sound, columns["close"], np.nan)
    split, notes = _believed(told, open_, close, symbols, sessions)
    suspects: list[dict[str, str]] = [{} for _ in sessions]
    if not splits and ADJUSTED not in bars.columns:
        for row, place, value in suspected_splits(open_, close):
            if sound[row, place]:
                split[row, place] = value
            suspects[row][symbols[place]] = f"looks like a split, {value:g} new shares per old, that nothing confirms: {_CURE}"
    return DailyPanel.checked(symbols, sessions, columns, split, tuple(suspects)), notes


def _believed(
    told: dict[str, Floats], open_: Floats, close: Floats, symbols: tuple[str, ...], sessions: tuple[Session, ...]
) -> tuple[Floats, tuple[SplitNote, ...]]:
    """A split counts only where the raw prices jump by it: files of adjusted prices lie beside lists of splits.

    Of two sources the list of corporate actions is believed first.
    """
    believed = np.ones_like(open_)
    notes = []
    for source, values in told.items():
        for row, place in np.argwhere(values != 1.0):
            value = float(values[row, place])
            earlier = close[:row, place][np.isfinite(close[:row, place])]
            if believed[row, place] != 1.0 or not len(earlier):
                continue
            jump = float(np.log(open_[row, place] / earlier[-1]))
            real = abs(jump + np.log(value)) < abs(jump)  # a NaN open is no jump
            if real:
                believed[row, place] = value
            notes.append(SplitNote(symbols[place], sessions[row], value, source, "" if real else _ALREADY_ADJUSTED))
    return believed, tuple(notes)


def suspected_splits(open_: Floats, close: Floats) -> Iterator[tuple[int, int, float]]:
    """Overnight jumps so near to a customary split of two or more (or its reverse) that a split is the likelier reading."""
    for place in range(close.shape[1]):
        closed, opened = np.flatnonzero(np.isfinite(close[:, place])), np.flatnonzero(np.isfinite(open_[:, place]))
        before = np.searchsorted(closed, opened) - 1  # the last close before each open
        opened, before = opened[before >= 0], closed[before[before >= 0]]
        ratio = close[before, place] / open_[opened, place]
        for number in np.flatnonzero(np.abs(np.log(ratio)) > np.log(_SUSPECT_MIN) - _SUSPECT_LOG_DISTANCE):
            value = nearest_split(float(ratio[number]))
            if max(value, 1.0 / value) >= _SUSPECT_MIN and abs(np.log(ratio[number] / value)) < _SUSPECT_LOG_DISTANCE:
                yield int(opened[number]), place, value
