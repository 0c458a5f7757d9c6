"""The risk report's drawings, as inline SVG whose colours come from the page."""

from collections.abc import Sequence
from datetime import date, datetime
from html import escape

from finagent.services.reporting.charts import Scale

_WIDTH, _RIGHT = 1120.0, 1036.0
_NUMBERED_CELL_MIN = 34.0  # pixels; a smaller cell has its number in its tooltip alone
_NAME_PIXELS = 7.2  # of a letter


def breach_chart(days: Sequence[date], profits: Sequence[float], at_risk: Sequence[float]) -> str:
    """Each day's profit as a line from zero, red where it is a loss beyond the forecast, and the forecast below them."""
    top, floor, left = 12.0, 236.0, 14.0
    lows, highs = [*profits, *(-value for value in at_risk)], [*profits, 0.0]
    across, up = Scale(-0.5, len(days) - 0.5, left, _RIGHT), Scale(min(lows) * 1.04, max(highs) * 1.04, floor, top)
    zero, breached = up(0.0), [profit < -value for profit, value in zip(profits, at_risk, strict=True)]
    quiet = "".join(f"M{across(n)} {zero}V{up(profit)}" for n, profit in enumerate(profits) if not breached[n])
    loud = "".join(f"M{across(n)} {zero}V{up(profit)}" for n, profit in enumerate(profits) if breached[n])
    dots = "".join(
        f'<circle class="breach" cx="{across(n)}" cy="{up(profit)}" r="3"><title>{days[n]}: {profit:,.0f} USD, forecast '
        f"{-at_risk[n]:,.0f}</title></circle>"
        for n, profit in enumerate(profits)
        if breached[n]
    )
    line = " ".join(f"{across(n)},{up(-value)}" for n, value in enumerate(at_risk))
    thick = max(0.6, min(3.0, (across(1) - across(0)) * 0.6))
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {floor + 28:.0f}" role="img" aria-label="Profit of each day, forecast of its loss">'
        f"{_grid(up, left, _RIGHT)}{_days(days, across, floor + 20)}"
        f'<path class="daily" stroke-width="{thick:.1f}" d="{quiet}"/>'
        f'<path class="daily-breach" stroke-width="{thick:.1f}" d="{loud}"/>'
        f'<polyline class="forecast" points="{line}"/>{dots}<path class="axis" d="M{left} {zero}H{_RIGHT}"/></svg>'
    )


def drawdown_chart(points: Sequence[tuple[datetime, float]], limit: float) -> str:
    """The fraction below the highest equity so far, downwards, with the breaker's limit where it is near."""
    top, floor, left = 12.0, 168.0, 14.0
    deepest = max(part for _, part in points)
    reach = max(deepest * 1.15, 0.001)
    shows_limit = limit <= 3 * reach
    if shows_limit:
        reach = max(reach, limit * 1.08)
    across, down = Scale(0, max(len(points) - 1, 1), left, _RIGHT), Scale(0.0, reach, top, floor)
    line = " ".join(f"{across(n)},{down(part)}" for n, (_, part) in enumerate(points))
    grid = "".join(
        f'<path class="grid" d="M{left} {down(tick)}H{_RIGHT}"/><text x="{_RIGHT + 8}" y="{down(tick) + 4}">{_below(tick)}</text>'
        for tick in down.ticks(4)
        if not shows_limit or abs(down(tick) - down(limit)) > 11
    )
    mark = (
        f'<path class="limit" d="M{left} {down(limit)}H{_RIGHT}"/>'
        f'<text class="limit-name" x="{_RIGHT + 8}" y="{down(limit) + 4}">limit {limit:.0%}</text>'
        if shows_limit
        else ""
    )
    dot = f'<circle class="dot" cx="{across(len(points) - 1)}" cy="{down(points[-1][1])}" r="4"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {floor + 28:.0f}" role="img" aria-label="Drawdown of the account">{grid}'
        f'{_days([at.date() for at, _ in points], across, floor + 20)}<polygon class="fall" points="{left},{top} {line} '
        f'{across(len(points) - 1)},{top}"/><polyline class="fall-line" points="{line}"/>{mark}{dot}</svg>'
    )


def heat_map(symbols: Sequence[str], correlation: Sequence[Sequence[float]]) -> str:
    """A square of squares: the stronger the colour, the stronger the correlation; negative ones in the colour of a loss."""
    count, margin = len(symbols), max(len(symbol) for symbol in symbols) * _NAME_PIXELS + 14
    cell = min(64.0, (620.0 - margin) / count)
    numbered = cell >= _NUMBERED_CELL_MIN
    parts = []
    for row, symbol in enumerate(symbols):
        y = margin + row * cell
        parts.append(f'<text class="name" x="{margin - 8}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">{escape(symbol)}</text>')
        x = margin + (row + 0.5) * cell + 4
        parts.append(f'<text class="name" transform="translate({x:.1f} {margin - 8}) rotate(-90)">{escape(symbol)}</text>')
        for column, other in enumerate(symbols):
            value = correlation[row][column]
            x = margin + column * cell
            parts.append(
                f'<rect class="{"unlike" if value < 0 else "like"}" x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" '
                f'height="{cell - 1:.1f}" rx="2" fill-opacity="{0.04 + 0.82 * min(abs(value), 1.0):.2f}">'
                f"<title>{escape(symbol)}, {escape(other)}: {value:+.2f}</title></rect>"
            )
            if numbered:
                tone = "on-dark" if abs(value) > 0.75 else "cell"
                parts.append(
                    f'<text class="{tone}" x="{x + (cell - 1) / 2:.1f}" y="{y + cell / 2 + 4:.1f}" text-anchor="middle">'
                    f"{value:.2f}</text>"
                )
    side = margin + count * cell
    return (
        f'<svg class="square" style="max-width:{side:.0f}px" viewBox="0 0 {side:.0f} {side:.0f}" role="img" '
        f'aria-label="Correlations">{"".join(parts)}</svg>'
    )


def dendrogram(
    symbols: Sequence[str], merges: Sequence[tuple[int, int, float]], weights: Sequence[float], held: Sequence[float]
) -> str:
    """The tree of correlations, its leaves on the right with two bars each: the weight of hierarchical risk parity, and below it
    the part that the book has now."""
    names = max(len(symbol) for symbol in symbols) * _NAME_PIXELS + 26
    row, top, width = 30.0, 26.0, 620.0
    stem = width - names - 190
    bars, tallest = stem + names, max([*weights, *held, 0.01])
    nearest, farthest = min(height for *_, height in merges), max(height for *_, height in merges)
    start = max(0.0, nearest - 0.25 * (farthest - nearest)) if farthest > nearest else 0.0  # what all have in common is not drawn
    across = Scale(start, farthest or 1.0, stem, 8.0)
    place = {number: (stem, top + (number + 0.5) * row) for number in range(len(symbols))}
    parts = []
    for merge, (low, high, height) in enumerate(merges):
        (x_low, y_low), (x_high, y_high), x = place[low], place[high], across(height)
        parts.append(
            f'<path class="branch" d="M{x_low} {y_low:.1f}H{x}V{y_high:.1f}H{x_high}"><title>distance {height:.3f}</title></path>'
        )
        place[len(symbols) + merge] = (x, (y_low + y_high) / 2)
    for number, symbol in enumerate(symbols):
        y = top + (number + 0.5) * row
        parts.append(f'<text class="name" x="{stem + 8}" y="{y + 4:.1f}">{escape(symbol)}</text>')
        for part, kind, offset in ((weights[number], "weight", -9.0), (held[number], "held", 1.0)):
            long = part / tallest * 140
            parts.append(f'<rect class="{kind}" x="{bars}" y="{y + offset:.1f}" width="{max(long, 0.5):.1f}" height="8" rx="2"/>')
            parts.append(f'<text class="small" x="{bars + long + 6:.1f}" y="{y + offset + 7.5:.1f}">{part:.1%}</text>')
    legend = (
        f'<rect class="weight" x="{bars}" y="4" width="10" height="8" rx="2"/>'
        f'<text class="small" x="{bars + 14}" y="11.5">parity</text>'
        f'<rect class="held" x="{bars + 66}" y="4" width="10" height="8" rx="2"/>'
        f'<text class="small" x="{bars + 80}" y="11.5">book</text>'
    )
    tall = top + len(symbols) * row + 6
    return (
        f'<svg viewBox="0 0 {width:.0f} {tall:.0f}" role="img" aria-label="Tree of correlations with weights">'
        f"{legend}{''.join(parts)}</svg>"
    )


def _below(part: float) -> str:
    return f"-{part:.2%}" if part else "0"


def _grid(up: Scale, left: float, right: float) -> str:
    return "".join(
        f'<path class="grid" d="M{left} {up(tick)}H{right}"/><text x="{right + 8}" y="{up(tick) + 4}">{tick:,.0f}</text>'
        for tick in up.ticks(5)
    )


def _days(days: Sequence[date], across: Scale, y: float) -> str:
    """About ten dates that do not touch each other; the same day is written once."""
    step, parts, last = max(1, round(len(days) / 10)), [], None
    for place in range(step // 2, len(days), step):
        if days[place] != last:
            parts.append(
                f'<text x="{min(max(across(place), 40), _RIGHT - 30)}" y="{y}" text-anchor="middle">{days[place]}</text>'
            )
        last = days[place]
    return "".join(parts)
