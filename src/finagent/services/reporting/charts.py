"""The report's drawings, as inline SVG whose colours come from the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.time import EXCHANGE_ZONE
from finagent.services.reporting.day_report import DecisionRow

CHART_MINUTES_MIN = 75
_TRADABLE = (BarQuality.OK, BarQuality.FILLED)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float | Decimal) -> float:
        span = (self.high - self.low) or 1.0
        return round(self.start + (float(value) - self.low) / span * (self.end - self.start), 1)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values inside the range."""
        raw = (self.high - self.low) / max(count, 1) or 1.0
        power = 10.0 ** np.floor(np.log10(raw))
        step = float(next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw))
        first = float(np.ceil(self.low / step) * step)
        return [first + number * step for number in range(int((self.high - first) / step + 1e-9) + 1)]


def equity_chart(points: Sequence[tuple[date, Decimal]], start: Decimal) -> str:
    """Equity at each session's close as a line over the result of each session as bars; empty without a point."""
    if not points:
        return ""
    width, floor, bottom = 1120.0, 196.0, 262.0
    values = [float(start), *(float(value) for _, value in points)]
    room = (max(values) - min(values)) * 0.12 or max(abs(values[0]) * 0.001, 1.0)
    across, up = Scale(0, len(points), 14, width - 84), Scale(min(values) - room, max(values) + room, floor, 10)
    grid = "".join(
        f'<line class="grid" x1="14" x2="{width - 84}" y1="{up(tick)}" y2="{up(tick)}"/>'
        f'<text x="{width - 76}" y="{up(tick) + 4}">{tick:,.0f}</text>'
        for tick in up.ticks(4)
    )
    line = " ".join(f"{across(number)},{up(value)}" for number, value in enumerate(values))
    days = "".join(
        f'<text x="{across(number + 1)}" y="{bottom + 22}" text-anchor="middle">{day:%b} {day.day}</text>'
        for number, (day, _) in enumerate(points)
        if number % max(1, round(len(points) / 12)) == 0
    )
    last_x, last_y = across(len(points)), up(values[-1])
    return (
        f'<svg viewBox="0 0 {width:.0f} {bottom + 30:.0f}" role="img" aria-label="Equity by session">{grid}'
        f'<line class="start" x1="14" x2="{width - 84}" y1="{up(start)}" y2="{up(start)}"/>'
        f'<polygon class="area" points="{across(0)},{floor} {line} {last_x},{floor}"/><polyline class="equity" points="{line}"/>'
        f'<circle class="dot" cx="{last_x}" cy="{last_y}" r="4"/>'
        f"{_result_bars(values, across, floor + 14, bottom)}"
        f'<line class="axis" x1="14" x2="{width - 84}" y1="{bottom + 4}" y2="{bottom + 4}"/>{days}</svg>'
    )


def _result_bars(values: list[float], across: Scale, top: float, bottom: float) -> str:
    changes = [after - before for before, after in pairwise(values)]
    largest = max((abs(change) for change in changes), default=0.0) or 1.0
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    thick = min(26.0, (across(1) - across(0)) * 0.6)
    bars = []
    for number, change in enumerate(changes):
        height = max(abs(change) / largest * half, 0.8)
        y = middle - height if change >= 0 else middle
        bars.append(
            f'<rect class="{"gain" if change >= 0 else "loss"}" x="{across(number + 1) - thick / 2:.1f}" y="{y:.1f}" '
            f'width="{thick:.1f}" height="{height:.1f}" rx="1.5"><title>{change:+,.2f} USD</title></rect>'
        )
    return f'<line class="axis" x1="14" x2="{across.end}" y1="{middle}" y2="{middle}"/>' + "".join(bars)


def trade_chart(row: DecisionRow, bars: SessionBars) -> str:
    """One trade on its minute bars: when it was found, entry, stop and target levels, the fills in and out."""
    width, left, right, top, floor = 640.0, 8.0, 560.0, 10.0, 236.0
    column = bars.symbols.index(row.symbol)
    shown = _minutes_shown(row, bars)
    usable = np.isin(bars.quality[:, column], _TRADABLE) & (np.arange(bars.session.minutes) < shown)
    lows, highs = bars.low[usable, column], bars.high[usable, column]
    marks = [float(price) for price in (row.entry, row.stop, row.target, row.entry_price, row.exit_price) if price is not None]
    lowest, highest = min([*lows.tolist(), *marks]), max([*highs.tolist(), *marks])
    room = (highest - lowest) * 0.04 or 0.01
    up, across = Scale(lowest - room, highest + room, floor, top), Scale(0, shown, left, right)

    def when(instant: datetime) -> float:
        return across((instant - bars.session.opens_at) / timedelta(minutes=1))

    grid = "".join(
        f'<line class="grid" x1="{left}" x2="{right}" y1="{up(tick)}" y2="{up(tick)}"/>'
        f'<text x="{right + 6}" y="{up(tick) + 4}">{tick:,.2f}</text>'
        for tick in up.ticks(4)
        if all(abs(up(tick) - up(mark)) > 9 for mark in marks[:3])
    )
    return (
        f'<svg viewBox="0 0 {width:.0f} {floor + 24:.0f}" role="img" '
        f'aria-label="{escape(row.symbol)} {row.session_date}: bars, entry and exit">'
        f"{grid}{_times(bars, across, floor, shown)}{_held(row, when, top, floor)}"
        f'<line class="scan" x1="{when(row.scanned_at)}" x2="{when(row.scanned_at)}" y1="{top}" y2="{floor}"/>'
        f"{_minute_bars(bars, column, usable, across, up)}{_levels(row, when, right, up)}{_fills(row, when, up)}</svg>"
    )


def _minute_bars(bars: SessionBars, column: int, usable: NDArray[np.bool_], across: Scale, up: Scale) -> str:
    body = max(1.2, min(5.0, (across(1) - across(0)) * 0.62))
    paths: dict[str, list[str]] = {"bar-up wick": [], "bar-down wick": [], "bar-up body": [], "bar-down body": []}
    for minute in np.flatnonzero(usable):
        opened, close = float(bars.open[minute, column]), float(bars.close[minute, column])
        x, kind = across(float(minute) + 0.5), "bar-up" if close >= opened else "bar-down"
        paths[f"{kind} wick"].append(f"M{x} {up(float(bars.low[minute, column]))}V{up(float(bars.high[minute, column]))}")
        y_open, y_close = up(opened), up(close)
        paths[f"{kind} body"].append(f"M{x} {y_open}V{y_close if y_close != y_open else y_open + 0.5}")
    widths = {"wick": max(0.7, body / 4), "body": body}
    return "".join(
        f'<path class="{kind}" stroke-width="{widths[kind[-4:]]:.1f}" d="{"".join(steps)}"/>'
        for kind, steps in paths.items()
        if steps
    )


def _minutes_shown(row: DecisionRow, bars: SessionBars) -> int:
    """From the open to well after the exit, so that a trade of minutes is not lost in a day of hours."""
    last = row.exit_at or bars.session.closes_at
    return min(bars.session.minutes, max(CHART_MINUTES_MIN, int(bars.session.minute_of(last) * 1.35) + 20))


def _times(bars: SessionBars, across: Scale, floor: float, shown: int) -> str:
    marks = [f'<line class="axis" x1="{across.start}" x2="{across.end}" y1="{floor}" y2="{floor}"/>']
    step = 60 if shown > 180 else 30 if shown > 100 else 15
    for minute in range(step - 30 % step if step > 30 else step, shown - 2, step):
        local = (bars.session.opens_at + timedelta(minutes=minute)).astimezone(EXCHANGE_ZONE)
        marks.append(f'<text x="{across(minute)}" y="{floor + 16}" text-anchor="middle">{local:%H:%M}</text>')
    return "".join(marks)


def _held(row: DecisionRow, when: Callable[[datetime], float], top: float, floor: float) -> str:
    if row.entry_at is None:
        return ""
    begin, end = when(row.entry_at), when(row.exit_at or row.entry_at)
    kind = "held-up" if row.pnl is None or row.pnl >= 0 else "held-down"
    return f'<rect class="{kind}" x="{begin}" y="{top}" width="{max(end - begin, 1):.1f}" height="{floor - top}"/>'


def _levels(row: DecisionRow, when: Callable[[datetime], float], right: float, up: Scale) -> str:
    begin = when(row.scanned_at)
    levels = [
        (kind, price) for kind, price in (("target", row.target), ("entry", row.entry), ("stop", row.stop)) if price is not None
    ]
    parts, previous = [], 0.0
    for kind, price in sorted(levels, key=lambda level: up(level[1])):
        label = max(up(price), previous + 12)
        previous = label
        parts.append(
            f'<path class="level {kind}" d="M{begin} {up(price)}H{right}"/>'
            f'<text class="label-{kind}" x="{right + 6}" y="{label + 4}">{kind} {price:,.2f}</text>'
        )
    return "".join(parts)


def _fills(row: DecisionRow, when: Callable[[datetime], float], up: Scale) -> str:
    parts = []
    if row.entry_at is not None and row.entry_price is not None:
        x, y = when(row.entry_at), up(row.entry_price)
        parts.append(
            f'<path class="mark mark-entry" d="M{x} {y - 1}l8 14h-16z"><title>bought at {row.entry_price:,.4f}</title></path>'
        )
    if row.exit_at is not None and row.exit_price is not None:
        x, y = when(row.exit_at), up(row.exit_price)
        kind = "mark-up" if row.pnl is not None and row.pnl >= 0 else "mark-down"
        parts.append(f'<path class="mark {kind}" d="M{x} {y + 1}l8 -14h-16z"><title>sold at {row.exit_price:,.4f}</title></path>')
    return "".join(parts)
