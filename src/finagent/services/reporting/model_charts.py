"""The drawings of a model's page, as inline SVG whose colours come from the page."""

import math
from collections.abc import Sequence
from html import escape

from finagent.domain.model_evidence import FeatureImportance, ForwardBlock, LearningStep, ReliabilityBin
from finagent.services.reporting.charts import Scale

_NAME_PIXELS = 7.2  # of a letter
_TWO_SIDED_95 = 1.96


def learning_chart(steps: Sequence[LearningStep]) -> str:
    """Both losses by epoch, and where the one on held-out days was least."""
    width, left, right, top, floor = 560.0, 8.0, 500.0, 14.0, 240.0
    train, held_out = [step.train_loss for step in steps], [step.validation_loss for step in steps]
    low, high = min(*train, *held_out), max(*train, *held_out)
    room = (high - low) * 0.06 or 0.01
    across, up = Scale(1, max(len(steps), 2), left, right), Scale(low - room, high + room, floor, top)
    best = held_out.index(min(held_out))
    lines = "".join(
        f'<polyline class="{kind}" points="{" ".join(f"{across(n)},{up(loss)}" for n, loss in enumerate(losses, 1))}"/>'
        for kind, losses in (("train", train), ("held-out", held_out))
    )
    epochs = "".join(
        f'<text x="{across(tick)}" y="{floor + 20}" text-anchor="middle">{tick:.0f}</text>'
        for tick in across.ticks(6)
        if tick == int(tick)
    )
    return (
        f'<svg viewBox="0 0 {width:.0f} {floor + 30:.0f}" role="img" aria-label="Loss by epoch">'
        f"{_grid(up, left, right, '.3f')}{lines}"
        f'<path class="best" d="M{across(best + 1)} {top}V{floor}"/>'
        f'<circle class="held-out-dot" cx="{across(best + 1)}" cy="{up(held_out[best])}" r="4">'
        f"<title>epoch {best + 1}: {held_out[best]:.4f}</title></circle>"
        f'<path class="axis" d="M{left} {floor}H{right}"/>{epochs}</svg>'
    )


def reliability_chart(bins: Sequence[ReliabilityBin]) -> str:
    """What happened by what was told, with the range that chance alone explains 95 times of 100, above the number of rows."""
    width, left, right, top, floor, bottom = 560.0, 44.0, 500.0, 14.0, 250.0, 310.0
    across, up = Scale(0.0, 1.0, left, right), Scale(0.0, 1.0, floor, top)
    most = max(each.rows for each in bins)
    parts = [
        f'<path class="grid" d="M{left} {up(tick)}H{right}"/>'
        f'<text x="{left - 8}" y="{up(tick) + 4}" text-anchor="end">{tick:.0%}</text>'
        f'<text x="{across(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:.0%}</text>'
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(f'<path class="start" d="M{across(0.0)} {up(0.0)}L{across(1.0)} {up(1.0)}"/>')
    for each in bins:
        x, (low, high) = across(each.forecast), _wilson(each.happened, each.rows)
        tall = (bottom - floor - 16) * each.rows / most
        parts.append(
            f'<path class="whisker" d="M{x} {up(low)}V{up(high)}"/>'
            f'<circle class="held-out-dot" cx="{x}" cy="{up(each.happened)}" r="4">'
            f"<title>told {each.forecast:.1%}, happened {each.happened:.1%} of {each.rows}</title></circle>"
            f'<rect class="rows" x="{x - 9:.1f}" y="{bottom - tall:.1f}" width="18" height="{max(tall, 0.8):.1f}" rx="1.5"/>'
            f'<text class="small" x="{x}" y="{bottom - tall - 4:.1f}" text-anchor="middle">{each.rows:,}</text>'
        )
    return (
        f'<svg viewBox="0 0 {width:.0f} {bottom + 26:.0f}" role="img" aria-label="Calibration">{"".join(parts)}'
        f'<path class="axis" d="M{left} {bottom}H{right}"/></svg>'
    )


def block_chart(blocks: Sequence[ForwardBlock], own: str, base: str) -> str:
    """Each model's log-loss less that of the one that knows nothing, by block: below the line it knew something."""
    names = [name for name in blocks[0].log_loss if name != base]
    legend_width = max(len(name) for name in names) * _NAME_PIXELS + 34
    width, left, top, floor = 1120.0, 14.0, 14.0, 230.0
    right = width - legend_width - 64
    gains = {name: [block.log_loss[name] - block.log_loss[base] for block in blocks] for name in names}
    told = [0.0, *(gain for each in gains.values() for gain in each)]
    room = (max(told) - min(told)) * 0.08 or 0.01
    across, up = Scale(-0.5, len(blocks) - 0.5, left, right), Scale(min(told) - room, max(told) + room, floor, top)
    others = [name for name in names if name != own]
    parts = [_grid(up, left, right, "+.3f"), f'<path class="axis" d="M{left} {up(0.0)}H{right}"/>']
    for place, name in enumerate(names):
        tone, offset = "own" if name == own else f"other-{others.index(name) % 5}", (place - (len(names) - 1) / 2) * 9
        y = top + 14 + place * 22
        for number, gain in enumerate(gains[name]):
            x = across(number) + offset
            parts.append(
                f'<path class="stem {tone}" d="M{x:.1f} {up(0.0)}V{up(gain)}"/>'
                f'<circle class="dot {tone}" cx="{x:.1f}" cy="{up(gain)}" r="4"><title>{escape(name)}, {blocks[number].first} to '
                f"{blocks[number].last}: {gain:+.4f}</title></circle>"
            )
        parts.append(
            f'<circle class="dot {tone}" cx="{width - legend_width}" cy="{y - 4}" r="5"/>'
            f'<text class="name" x="{width - legend_width + 12}" y="{y}">{escape(name)}</text>'
        )
    step = max(1, round(len(blocks) / 8))
    parts += [
        f'<text x="{across(number)}" y="{floor + 20}" text-anchor="middle">{blocks[number].first:%b %Y}</text>'
        for number in range(0, len(blocks), step)
    ]
    return f'<svg viewBox="0 0 {width:.0f} {floor + 30:.0f}" role="img" aria-label="Walk-forward by block">{"".join(parts)}</svg>'


def importance_chart(features: Sequence[FeatureImportance]) -> str:
    """One bar a feature, with its error of 95 times of 100."""
    names = max(len(each.feature) for each in features) * _NAME_PIXELS + 16
    row, top, width = 24.0, 8.0, 1120.0
    ends = [each.log_loss_increase + sign * _TWO_SIDED_95 * each.standard_error for each in features for sign in (-1, 1)]
    across = Scale(min(0.0, *ends), max(0.0, *ends) or 1e-9, names, width - 150)
    zero, parts = across(0.0), []
    for number, each in enumerate(features):
        y, end = top + (number + 0.5) * row, across(each.log_loss_increase)
        low, high = (across(each.log_loss_increase + sign * _TWO_SIDED_95 * each.standard_error) for sign in (-1, 1))
        tone = "gain" if each.log_loss_increase >= 0 else "loss"
        parts.append(
            f'<text class="name" x="{names - 10:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(each.feature)}</text>'
            f'<rect class="{tone}" x="{min(zero, end):.1f}" y="{y - 6:.1f}" width="{max(abs(end - zero), 0.6):.1f}" '
            f'height="12" rx="2"/>'
            f'<path class="whisker" d="M{low} {y:.1f}H{high}"/>'
            f'<text class="small" x="{width - 138:.0f}" y="{y + 4:.1f}">{each.log_loss_increase:+.5f} ± '
            f"{_TWO_SIDED_95 * each.standard_error:.5f}</text>"
        )
    tall = top + len(features) * row + 6
    return (
        f'<svg viewBox="0 0 {width:.0f} {tall:.0f}" role="img" aria-label="Importance of features">'
        f'<path class="axis" d="M{zero} {top}V{tall - 6:.0f}"/>{"".join(parts)}</svg>'
    )


def _wilson(fraction: float, rows: int) -> tuple[float, float]:
    """Wilson's interval of a fraction (J. Am. Stat. Assoc. 22, 1927)."""
    square = _TWO_SIDED_95**2
    middle = (fraction + square / (2 * rows)) / (1 + square / rows)
    half = _TWO_SIDED_95 / (1 + square / rows) * math.sqrt(fraction * (1 - fraction) / rows + square / (4 * rows * rows))
    return middle - half, middle + half


def _grid(up: Scale, left: float, right: float, form: str) -> str:
    return "".join(
        f'<path class="grid" d="M{left} {up(tick)}H{right}"/><text x="{right + 8}" y="{up(tick) + 4}">{tick:{form}}</text>'
        for tick in up.ticks(5)
    )
