"""The risk report as one HTML file that needs nothing else."""

from decimal import Decimal
from html import escape
from importlib.resources import files

from finagent.domain.time import EXCHANGE_ZONE
from finagent.services.reporting.html import style_sheet
from finagent.services.reporting.risk_charts import breach_chart, dendrogram, drawdown_chart, heat_map
from finagent.services.reporting.risk_figures import Holding, RiskReport
from finagent.services.reporting.risk_limits import Gauge, Unit
from finagent.services.reporting.risk_measures import Forecast

_NEAR = 0.8  # of a limit: from there on its bar is amber
_STATE_TONE = {"ACTIVE": "good", "REDUCING": "warn", "HALTED": "bad"}


def risk_page(report: RiskReport) -> str:
    """The page; every number on it stands in the report."""
    style = style_sheet() + files(__package__).joinpath("risk.css").read_text(encoding="utf-8")
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>finagent: risk at {escape(_when(report))}</title><style>{style}</style></head><body><main>",
            f'<header><h1>finagent risk</h1><span class="window">{escape(_when(report))}</span>'
            f'<div class="notice">Data: {escape(report.notice)}</div></header>',
            "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes),
            _tiles(report),
            '<h2>Limits <small>used so far</small></h2><div class="pair">'
            f'<div class="card"><h3>Of the account</h3>{_gauges(report.limits)}</div>'
            f'<div class="card"><h3>Breakers {_state(report)}</h3>{_gauges(report.breakers)}{_of_plans(report)}</div></div>',
            _exposures(report),
            _value_at_risk(report),
            _tree(report),
            f'<h2>Drawdown <small>of the account, at each open and close</small></h2><div class="card">{_drawdown(report)}</div>',
            f"<footer>source <code>{escape(report.source_id)}</code><br>ledger <code>{escape(report.ledger_id)}</code></footer>"
            "</main></body></html>\n",
        )
    )


def _when(report: RiskReport) -> str:
    local = report.at.astimezone(EXCHANGE_ZONE)
    return f"{local:%b} {local.day}, {local.year}, {local:%H:%M:%S} in New York"


def _tiles(report: RiskReport) -> str:
    first = report.forecasts[0] if report.forecasts else None
    fall = report.falls[-1].drawdown if report.falls else None
    deepest = max((one.drawdown for one in report.falls), default=None)
    tiles = (
        ("Equity", _usd(report.equity), f"cash {report.cash:,.2f} USD"),
        ("Gross", _times(report.gross_leverage), f"{report.gross_usd:,.2f} USD"),
        ("Net", _times(report.net_leverage), f"{report.net_usd:+,.2f} USD"),
        ("Value at risk", f"{first.value_at_risk_usd:,.2f}" if first else "0.00", _of_equity(first)),
        ("Beta", "unknown" if report.beta is None else f"{report.beta:.2f}", "per USD of equity"),
        ("Drawdown", _percent(fall), f"deepest {_percent(deepest)}"),
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="card tile"><span>{name}</span><b>{figure}</b><i>{escape(note)}</i></div>'
            for name, figure, note in tiles
        )
        + "</div>"
    )


def _of_equity(forecast: Forecast | None) -> str:
    if forecast is None or forecast.fraction_of_equity is None:
        return "USD, one day at 95 %"
    return f"USD, {forecast.fraction_of_equity:.2%} of equity"


def _state(report: RiskReport) -> str:
    if report.state is None:
        return ""
    name = report.state.state.value
    because = f"{report.state.reason}, by {report.state.by}"
    return f'<span class="tag {_STATE_TONE[name]}">{name}</span> <small>{escape(because)}</small>'


def _of_plans(report: RiskReport) -> str:
    if not report.plan_limits:
        return ""
    return f"<h3>Of a plan <small>the one of today that used most</small></h3>{_gauges(report.plan_limits)}"


def _gauges(gauges: tuple[Gauge, ...]) -> str:
    return "".join(_gauge(gauge) for gauge in gauges)


def _gauge(gauge: Gauge) -> str:
    used = gauge.utilisation
    tone = "" if used is None else "over" if used >= 1.0 else "near" if used >= _NEAR else ""
    bar = f'<u class="{tone}" style="width:{100 * min(max(used or 0.0, 0.0), 1.0):.1f}%"></u>'
    value, limit = "unknown" if gauge.value is None else _amount(gauge.value, gauge.unit), _amount(gauge.limit, gauge.unit)
    of = f"limit {limit}" if gauge.value is None else f"{value} of {limit}" if gauge.limit > 0 else f"{value}, allows nothing"
    share = "" if used is None else f"{used:.0%}"
    return (
        f'<div class="gauge"><span>{escape(_words(gauge.name))} <i>{escape(gauge.detail)}</i></span>'
        f'<em>{escape(of)} <b>{share}</b></em><div class="track">{bar}</div></div>'
    )


def _amount(value: Decimal, unit: Unit) -> str:
    if unit in (Unit.FRACTION, Unit.PART, Unit.OF_PRICE):
        return f"{value:.2%}"
    if unit is Unit.MULTIPLE:
        return f"{value:.2f}x"
    if unit is Unit.USD:
        return f"{value:,.0f} USD"
    last = {Unit.BASIS_POINTS: f"{value:,.1f} bp", Unit.SECONDS: f"{value:,.0f} s", Unit.RATIO: f"{value:.2f}"}
    return last.get(unit, f"{value:,.0f}")


def _exposures(report: RiskReport) -> str:
    heads = ("Symbol", "Sector", "Shares", "Price", "Position", "Waiting entries", "Exposure", "Of equity", "Beta", "Adds to VaR")
    head = "".join(f'<th class="{"l" if name in ("Symbol", "Sector") else ""}">{name}</th>' for name in heads)
    largest = max((abs(one.exposure_usd) for one in report.holdings), default=Decimal(1)) or Decimal(1)
    rows = "".join(_holding(one, largest) for one in report.holdings)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else _nothing("No exposure.")
    widest = max(report.sectors.values(), default=Decimal(1)) or Decimal(1)
    sectors = "".join(
        f'<div class="bar"><span>{escape(name)}</span><u style="width:{float(100 * usd / widest):.1f}%"></u>'
        f"<em>{usd:,.0f}</em></div>"
        for name, usd in report.sectors.items()
    )
    return (
        "<h2>Exposure by symbol <small>USD, entries that wait at their worse price</small></h2>"
        f'<div class="card {"scroll" if rows else ""}">{table}</div>'
        "<h2>Exposure by sector <small>USD, long and short added up</small></h2>"
        f'<div class="card wide">{sectors or _nothing("No exposure.")}</div>'
    )


def _holding(one: Holding, largest: Decimal) -> str:
    width = float(100 * abs(one.exposure_usd) / largest)
    side = "short" if one.exposure_usd < 0 else "long"
    return (
        f'<tr><td class="l"><b>{escape(one.symbol)}</b></td><td class="l">{escape(one.sector)}</td><td>{one.shares:,}</td>'
        f"<td>{one.price:,.2f}</td><td>{one.position_usd:,.2f}</td><td>{one.ordered_usd:,.2f}</td>"
        f'<td><span class="inline {side}" style="width:{width * 0.6:.0f}px"></span>{one.exposure_usd:,.2f}</td>'
        f"<td>{_percent(one.weight)}</td><td>{'unknown' if one.beta is None else f'{one.beta:.2f}'}</td>"
        f"<td>{'unknown' if one.component_usd is None else f'{one.component_usd:,.2f}'}</td></tr>"
    )


def _value_at_risk(report: RiskReport) -> str:
    title = "<h2>Value at risk <small>the loss of one day that 95 of 100 days stay below, USD</small></h2>"
    if not report.forecasts:
        return title + f'<div class="card">{_nothing("Nothing is at risk: no exposure with a history of prices.")}</div>'
    heads = (
        "Method",
        "VaR",
        "Shortfall",
        "Of equity",
        "Days",
        "Breaches",
        "Wanted",
        "Kupiec p",
        "Independence p",
        "Christoffersen p",
    )
    head = "".join(f'<th class="{"l" if name == "Method" else ""}">{name}</th>' for name in heads)
    rows = "".join(_forecast(one) for one in report.forecasts)
    back = report.backtest
    chart = (
        "<h3>The book of now on each past day, and the filtered historical forecast made before it</h3>"
        + breach_chart(back.days, back.profit_usd, back.value_at_risk_usd)
        if back is not None
        else _nothing("Too few days of history for a back-test.")
    )
    return (
        f'{title}<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="window explain">Each from the {report.window_sessions} sessions before. A p-value below 0.05 says that so '
        "many breaches (Kupiec), so many in a row (independence), or both together (Christoffersen) would be rare if the "
        f'forecast were right.</p><div class="card">{chart}</div>'
    )


def _forecast(one: Forecast) -> str:
    found = one.coverage
    if found is None:
        tests = "<td></td>" * 6
    else:
        tests = f"<td>{found.days:,}</td><td>{found.breaches} ({found.rate:.2%})</td><td>{found.days * 0.05:.1f}</td>" + "".join(
            f'<td class="{"down" if p < 0.05 else ""}">{p:.2g}</td>'
            for p in (found.kupiec_p, found.independence_p, found.christoffersen_p)
        )
    short = "" if one.expected_shortfall_usd is None else f"{one.expected_shortfall_usd:,.2f}"
    return (
        f'<tr><td class="l">{one.method}</td><td><b>{one.value_at_risk_usd:,.2f}</b></td><td>{short}</td>'
        f"<td>{_percent(one.fraction_of_equity)}</td>{tests}</tr>"
    )


def _tree(report: RiskReport) -> str:
    tree, of = report.tree, f"of {report.window_sessions} sessions"
    of += f"; for the tree shrunk (Ledoit-Wolf) by {tree.shrunk:.0%} to their mean" if tree is not None else ""
    title = f"<h2>Correlations <small>{of}</small></h2>"
    if tree is None:
        return (
            title + f'<div class="card">{_nothing("Fewer than two symbols with a history are held, were traded or found.")}</div>'
        )
    return (
        f'{title}<div class="pair two"><div class="card"><h3>Map</h3>{heat_map(tree.symbols, tree.correlation)}</div>'
        '<div class="card"><h3>Tree, with the weights of hierarchical risk parity and of the book</h3>'
        f"{dendrogram(tree.symbols, tree.merges, tree.weights, tree.held)}</div></div>"
    )


def _drawdown(report: RiskReport) -> str:
    if not report.falls:
        return _nothing("No equity was read yet.")
    limit = next(float(gauge.limit) for gauge in report.breakers if gauge.name == "DRAWDOWN")
    return drawdown_chart([(one.at, one.drawdown) for one in report.falls], limit)


def _nothing(text: str) -> str:
    return f'<p class="window">{escape(text)}</p>'


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"


def _times(leverage: float | None) -> str:
    return "unknown" if leverage is None else f"{leverage:.2f}x"


def _percent(part: float | None) -> str:
    return "unknown" if part is None else f"{part:.2%}"
