"""The page of a model as one HTML file that needs nothing else: what its package says, and nothing computed anew."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from finagent.domain.model_evidence import ModelEvidence
from finagent.domain.ports.model_registry import ModelVersion
from finagent.services.reporting.html import style_sheet
from finagent.services.reporting.model_charts import block_chart, importance_chart, learning_chart, reliability_chart

BASE = "climatology"
FEATURES_SHOWN = 20
_TILES = (
    ("Log-loss", "log_loss", "log_loss_climatology", ".4f"),
    ("Brier score", "brier", "brier_climatology", ".4f"),
    ("Accuracy", "accuracy", None, ".1%"),
    ("Calibration error", "calibration_error", None, ".3f"),
    ("Coverage", "coverage", None, ".0%"),
    ("Deflated Sharpe", "deflated_sharpe", None, ".2f"),
    ("Best is overfitted", "overfitting_probability", None, ".0%"),
)


def model_page(facts: ModelVersion, roles: Sequence[str]) -> str:
    """The page; every number on it stands in the package."""
    style = style_sheet() + files(__package__).joinpath("model.css").read_text(encoding="utf-8")
    evidence = facts.evidence
    role = "".join(f' <span class="tag good">{escape(each)}</span>' for each in roles)
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>finagent: {escape(facts.version)}</title><style>{style}</style></head><body><main>",
            f'<header><h1>{escape(facts.version)}</h1><span class="window">learned until {facts.trained_until}, '
            f"{len(facts.features)} features{role}</span>"
            f'<div class="notice">{escape(facts.description)}</div></header>',
            _tiles(facts),
            _of(evidence) if evidence is not None else _without(),
            _figures(facts),
            f"<footer>package <code>{escape(facts.digest)}</code><br>data spec <code>{escape(facts.data_spec_hash)}</code><br>"
            f"made by {escape(facts.created_by)}</footer></main></body></html>\n",
        )
    )


def _tiles(facts: ModelVersion) -> str:
    told = facts.metrics
    tiles = []
    for title, name, base, form in _TILES:
        if name in told:
            note = f"knowing nothing: {told[base]:{form}}" if base is not None and base in told else "of the walk-forward"
            tiles.append(f'<div class="card tile"><span>{title}</span><b>{told[name]:{form}}</b><i>{note}</i></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _without() -> str:
    return (
        '<h2>Evidence</h2><div class="card"><p class="window">This package brings no learning curve, calibration, walk-forward '
        "or importance of features along: it was not made by a training that writes them, or was imported. They are not "
        "computed afterwards.</p></div>"
    )


def _of(evidence: ModelEvidence) -> str:
    return "".join((_learning_and_calibration(evidence), _walk_forward(evidence), _importance(evidence)))


def _learning_and_calibration(evidence: ModelEvidence) -> str:
    steps, rows = evidence.learning, sum(each.rows for each in evidence.reliability)
    best = min(range(len(steps)), key=lambda number: steps[number].validation_loss)
    return (
        '<h2>Learning and calibration</h2><div class="pair two"><div class="card"><h3>Loss by epoch '
        '<small><span class="key train"></span>days learned from<span class="key held-out"></span>held-out days</small></h3>'
        f"{learning_chart(steps)}"
        f'<p class="explain">{len(steps)} epochs; least on held-out days after {best + 1}. A mean of the seeds that still got '
        f"better ({steps[0].members} at first, {steps[-1].members} at last). The loss of the days learned from has smoothed "
        "labels and dropout in it, so the two lines are not on one scale.</p></div>"
        '<div class="card"><h3>Calibration <small>how often what was told happened, by what was told</small></h3>'
        f"{reliability_chart(evidence.reliability)}"
        f'<p class="explain">{rows:,} gaps of the walk-forward, which this kind of model ({escape(evidence.model)}) had not '
        "seen; "
        "the score is the probability that the price goes the way of the gap. Whiskers are Wilson's 95 % for independent rows; "
        "rows of one day are not, so they are too short.</p></div></div>"
    )


def _walk_forward(evidence: ModelEvidence) -> str:
    blocks, own = evidence.blocks, evidence.model
    names = list(blocks[0].log_loss)
    head = "".join(f'<th class="{"own" if name == own else ""}">{escape(name)}</th>' for name in names)
    body = []
    for block in blocks:
        least = min(block.log_loss.values())
        cells = "".join(
            f'<td class="{"least" if block.log_loss[name] == least else ""}">{block.log_loss[name]:.4f}<br>'
            f"<code>{block.brier[name]:.4f}</code></td>"
            for name in names
        )
        body.append(f'<tr><td class="l">{block.first} to {block.last}</td><td>{block.rows:,}</td>{cells}</tr>')
    chart = block_chart(blocks, own, BASE) if BASE in names and len(names) > 1 else ""
    return (
        "<h2>Walk-forward <small>log-loss on blocks that nobody had seen, less that of knowing nothing: below zero is better"
        f'</small></h2><div class="card">{chart}</div>'
        "<h2>Block by block <small>log-loss in nats, the least in bold; below it the Brier score (0 to 2)</small></h2>"
        f'<div class="card scroll"><table><thead><tr><th class="l">Sessions</th><th>Gaps</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _importance(evidence: ModelEvidence) -> str:
    held = evidence.held_out
    source = (
        f"{held.rows:,} gaps of {held.sessions} sessions, {held.first} to {held.last}: no weights were learned from them, "
        "temperature and share were set by them. Each feature was shuffled among them "
        f"{held.shuffles} times; whiskers are 95 % over days, and of {len(evidence.importance)} features about "
        f"{0.025 * len(evidence.importance):.0f} stand out by chance. Of features that say the same, each may look worthless. "
        f"This is what the networks rely on; they have a share of {evidence.skill:.0%} in what the model tells, the rest is how "
        "often each class happens."
    )
    ranked = sorted(evidence.importance, key=lambda each: (-each.log_loss_increase, each.feature))
    if not ranked:
        inside = f'<p class="window">Too few held-out sessions ({held.sessions}) for an error.</p>'
    else:
        inside = importance_chart(ranked[:FEATURES_SHOWN])
        if rest := ranked[FEATURES_SHOWN:]:
            span = f"{rest[-1].log_loss_increase:+.5f} to {rest[0].log_loss_increase:+.5f}"
            inside += f'<p class="explain">The other {len(rest)} features: {span} nats.</p>'
    return (
        "<h2>Importance of features <small>by how many nats the log-loss grows without what the feature says</small></h2>"
        f'<div class="card">{inside}<p class="explain">{source}</p></div>'
    )


def _figures(facts: ModelVersion) -> str:
    rows = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{value:.6g}</td></tr>" for name, value in facts.metrics.items()
    )
    told = rows or '<tr><td colspan="2">None: nobody has tested it where it was made.</td></tr>'
    return (
        "<h2>Figures <small>as the package says them; the gate of promotion reads them</small></h2>"
        f'<div class="card scroll"><table class="facts">{told}</table></div>'
        f'<details><summary>{len(facts.features)} features</summary><div class="card"><p class="explain">'
        f"{escape(', '.join(facts.features))}</p></div></details>"
    )
