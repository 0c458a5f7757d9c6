"""A feature under the bars that it is made of, as a page of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from finagent.domain.bars import Floats
from finagent.services.reporting.charts import Scale

WIDTH, LEFT, RIGHT = 1120.0, 10.0, 1020.0
BARS_HEIGHT, FEATURE_HEIGHT, GAP = 260.0, 130.0, 26.0
STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #66748a; --line: #d9dee6; --up: #1a7f5a; --down: #b3413b; --of: #2f6fb0; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f0; --soft: #93a1b5; --line: #2c3644; --up: #4cc493; --down: #ef7d76; --of: #7db4ee; --page: #121820; }
}
body { margin: 2rem auto; max-width: 1160px; padding: 0 1rem; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; } p { color: var(--soft); margin: .2rem 0 1rem; }
svg { width: 100%; height: auto; } text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--line); } .up { stroke: var(--up); } .down { stroke: var(--down); } .name { fill: var(--ink); font-weight: 600; }
.of { fill: none; stroke: var(--of); stroke-width: 1.6; }
"""  # noqa: E501 a style sheet


@dataclass(frozen=True, slots=True)
class DrawnBars:
    """Of one symbol, in USD; NaN: no bar. `ends` says when each ended, as it is written below it."""

    ends: Sequence[str]
    open: Floats
    high: Floats
    low: Floats
    close: Floats


def feature_page(symbol: str, bars: DrawnBars, features: Mapping[str, Floats], notice: str) -> str:
    """A page of bars and, below each other, features [bars] as of the end of each; NaN leaves a gap."""
    ends = bars.ends
    across = Scale(-0.5, len(ends) - 0.5, LEFT, RIGHT)
    parts = [_bars(across, bars)]
    top = BARS_HEIGHT + GAP
    for name, values in features.items():
        parts.append(_feature(across, name, values, top))
        top += FEATURE_HEIGHT + GAP
    step = max(1, round(len(ends) / 10))
    parts += [
        f'<text x="{across(place)}" y="{top}" text-anchor="middle">{escape(ends[place])}</text>'
        for place in range(step // 2, len(ends), step)
    ]
    title = f"{symbol}: {', '.join(features)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(ends[0])} to {escape(ends[-1])}; {escape(notice)}; values as of each bar's end</p>"
        f'<svg viewBox="0 0 {WIDTH:.0f} {top + 12:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></html>\n'
    )


def _bars(across: Scale, bars: DrawnBars) -> str:
    open_, high, low, close = bars.open, bars.high, bars.low, bars.close
    known = np.isfinite(close)
    up = Scale(float(np.nanmin(low)), float(np.nanmax(high)), BARS_HEIGHT - 6, 8)
    body = max(1.0, min(8.0, (across(1) - across(0)) * 0.6))
    drawn = []
    for place in np.flatnonzero(known).tolist():
        x, kind = across(place), "up" if close[place] >= open_[place] else "down"
        drawn.append(f'<path class="{kind}" d="M{x} {up(low[place])}V{up(high[place])}"/>')
        drawn.append(f'<path class="{kind}" stroke-width="{body:.1f}" d="M{x} {up(open_[place])}V{up(close[place]) + 0.5:.1f}"/>')
    return _grid(up, "USD", 8) + "".join(drawn)


def _feature(across: Scale, name: str, values: Floats, top: float) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return f'<text class="name" x="{LEFT}" y="{top + 12}">{escape(name)}: unknown throughout</text>'
    least, most = float(known.min()), float(known.max())
    room = (most - least) * 0.08 or abs(most) * 0.01 or 1.0
    up = Scale(least - room, most + room, top + FEATURE_HEIGHT, top + 18)
    steps, pen = [], "M"
    for place, value in enumerate(values.tolist()):
        if np.isfinite(value):
            steps.append(f"{pen}{across(place)} {up(value)}")
            pen = "L"
        else:
            pen = "M"
    title = f'<text class="name" x="{LEFT}" y="{top + 10}">{escape(name)}</text>'
    return f'{_grid(up, "", top)}{title}<path class="of" d="{"".join(steps)}"/>'


def _grid(up: Scale, unit: str, top: float) -> str:
    lines = "".join(
        f'<path class="grid" d="M{LEFT} {up(tick)}H{RIGHT}"/><text x="{RIGHT + 8}" y="{up(tick) + 4}">{tick:.6g}</text>'
        for tick in up.ticks(4)
    )
    return lines + (f'<text x="{RIGHT + 8}" y="{top + 2}">{unit}</text>' if unit else "")
