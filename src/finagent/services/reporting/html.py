"""The report as one HTML file that needs nothing else: figures, equity, trades on their bars, every candidate and its reason."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from decimal import Decimal
from html import escape
from importlib.resources import files
from itertools import groupby

from finagent.domain.bars import SessionBars
from finagent.domain.sessions import Session
from finagent.domain.time import EXCHANGE_ZONE
from finagent.services.reporting.charts import equity_chart, trade_chart
from finagent.services.reporting.day_report import Aside, DayReport, DecisionRow

SessionBarsSource = Callable[[Session], Awaitable[SessionBars]]
_TONE = {
    "FILLED": "good",
    "RISK_DENIED": "bad",
    "REJECTED": "bad",
    "DEAD": "bad",
    "PARKED": "warn",
    "EXPIRED": "warn",
    "OPEN": "warn",
}
_EXIT_TONE = {"TARGET": "good", "STOP": "bad"}


async def html_report(report: DayReport, sessions: Iterable[Session], bars: SessionBarsSource, charts_max: int) -> str:
    """The page. `bars` is asked once for each session with a trade; the `charts_max` trades largest by result are drawn."""
    drawn = sorted(report.trades, key=lambda row: (-abs(row.pnl or Decimal(0)), row.decision_id))[:charts_max]
    by_day = {session.date: session for session in sessions}
    cards = []
    chosen = sorted(drawn, key=lambda row: (row.session_date, row.scanned_at, row.symbol))
    for day, rows in groupby(chosen, key=lambda row: row.session_date):
        session_bars = await bars(by_day[day]) if day in by_day else None
        cards += [_trade_card(row, session_bars) for row in rows]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>finagent: {escape(_window(report))}</title><style>{style_sheet()}</style></head><body><main>",
            _head(report),
            _tiles(report),
            "<h2>Equity <small>at each close, with the result of each session, USD</small></h2>",
            f'<div class="card">{_equity(report)}</div>',
            _counts(report),
            f"<h2>Trades <small>{_drawn_note(len(drawn), len(report.trades))}</small></h2>"
            f'<div class="trades">{"".join(cards) or _nothing("No entry was filled.")}</div>',
            f"<h2>Every candidate and why <small>{len(report.decisions)} in {len(report.sessions)} sessions</small></h2>"
            f'<div class="card scroll">{_candidates(report.decisions)}</div>',
            _asides("Near misses", "past the gap threshold, turned away by another rule", report.near_misses),
            _asides("Bad data", "symbols marked and left out, the rest went on", report.bad_data),
            f"<footer>source <code>{escape(report.source_id)}</code><br>ledger <code>{escape(report.ledger_id)}</code><br>"
            f"outcome_hash <code>{report.outcome_hash}</code></footer></main></body></html>\n",
        )
    )


def style_sheet() -> str:
    """Light and dark, for every page."""
    return files(__package__).joinpath("report.css").read_text(encoding="utf-8")


def _head(report: DayReport) -> str:
    return (
        f'<header><h1>finagent</h1><span class="window">{escape(_window(report))}</span>'
        f'<div class="notice">Data: {escape(report.notice)}</div></header>'
    )


def _window(report: DayReport) -> str:
    days = [row.session_date for row in report.sessions]
    return f"{_day(days[0])} to {_day(days[-1])}, {len(days)} sessions" if days else "no session yet"


def _tiles(report: DayReport) -> str:
    trades = [row for row in report.trades if row.pnl is not None]
    won = sum(row.pnl > 0 for row in trades if row.pnl is not None)
    share = f"{won / len(trades):.0%} of {len(trades)}" if trades else "none closed"
    growth = f"{float(report.pnl / report.start_equity):+.2%}" if report.start_equity else ""
    tiles = (
        ("End equity", f"{report.end_equity:,.2f}", f"from {report.start_equity:,.0f} USD", ""),
        ("Result", f"{report.pnl:+,.2f}", f"{growth}, fees {report.fees:,.2f}", _sign(report.pnl)),
        ("Trades won", str(won), share, ""),
        ("Deepest drawdown", f"{report.drawdown_max:.2%}", "of an earlier close", ""),
        ("Candidates", str(len(report.decisions)), f"{len(report.near_misses)} near misses", ""),
        ("Orders, fills", f"{report.orders}, {report.fills}", "exits included", ""),
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="card tile"><span>{name}</span><b class="{tone}">{figure}</b><i>{escape(note)}</i></div>'
            for name, figure, note, tone in tiles
        )
        + "</div>"
    )


def _equity(report: DayReport) -> str:
    points = [(row.session_date, row.close_equity) for row in report.sessions if row.close_equity is not None]
    return equity_chart(points, report.start_equity) or _nothing("No session has closed yet.")


def _counts(report: DayReport) -> str:
    boxes = (
        ("What became of the candidates", report.outcomes),
        ("Why not traded", report.refusals),
        ("How positions ended", report.exits),
    )
    return (
        '<h2>Counts</h2><div class="pair">'
        + "".join(f'<div class="card"><h3>{title}</h3>{_bars(counts)}</div>' for title, counts in boxes)
        + "</div>"
    )


def _bars(counts: dict[str, int]) -> str:
    largest = max(counts.values(), default=1)
    return "".join(
        f'<div class="bar"><span>{escape(_words(name))}</span>'
        f'<u style="width:{100 * count / largest:.1f}%"></u><em>{count}</em></div>'
        for name, count in counts.items()
    ) or _nothing("None.")


def _trade_card(row: DecisionRow, bars: SessionBars | None) -> str:
    result = f'<b class="{_sign(row.pnl)}">{row.pnl:+,.2f}</b>' if row.pnl is not None else "<b>still open</b>"
    prices = f"{row.entry_price:,.2f}" + (f" to {row.exit_price:,.2f}" if row.exit_price is not None else "")
    return (
        f'<article class="card trade"><h3>{escape(row.symbol)} <time>{_day(row.session_date)}</time>'
        f'<span class="tag {_EXIT_TONE.get(row.exit, "")}">{escape(_words(row.exit) or "open")}</span>{result}</h3>'
        f"<p>{row.entered_quantity:,} shares, {prices}, gap {row.gap:+.2%}, found {_time(row)}</p>"
        f"{trade_chart(row, bars) if bars and row.symbol in bars.symbols else ''}<code>{escape(row.decision_id)}</code></article>"
    )


def _candidates(rows: tuple[DecisionRow, ...]) -> str:
    if not rows:
        return _nothing("No candidate was found.")
    heads = ("Time", "Symbol", "Gap", "Volume", "Score", "Outcome", "Shares", "In", "Out", "Exit", "Result", "Why")
    left = {"Time", "Symbol", "Outcome", "Exit", "Why"}
    head = "".join(f'<th class="{"l" if name in left else ""}">{name}</th>' for name in heads)
    body = []
    for day, group in groupby(rows, key=lambda row: row.session_date):
        body.append(f'<tr class="day"><td colspan="{len(heads)}">{day:%A}, {_day(day)}</td></tr>')
        body += [_candidate(row) for row in group]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _candidate(row: DecisionRow) -> str:
    result = f'<span class="{_sign(row.pnl)}">{row.pnl:+,.2f}</span>' if row.pnl is not None else ""
    exit_tag = f'<span class="tag {_EXIT_TONE.get(row.exit, "")}">{escape(_words(row.exit))}</span>' if row.exit else ""
    return (
        f'<tr><td class="l">{_time(row)}</td><td class="l"><b>{escape(row.symbol)}</b></td>'
        f"<td>{row.gap:+.2%}</td><td>{row.relative_volume:.2f}x</td>"
        f"<td>{'' if row.score is None else f'{row.score:.3f}'}</td>"
        f'<td class="l"><span class="tag {_TONE.get(row.outcome, "")}">{escape(_words(row.outcome))}</span></td>'
        f"<td>{_shares(row)}</td><td>{_price(row.entry_price)}</td><td>{_price(row.exit_price)}</td>"
        f'<td class="l">{exit_tag}</td>'
        f'<td>{result}</td><td class="why">{escape(_why(row))}<br><code>{escape(row.decision_id)}</code></td></tr>'
    )


def _why(row: DecisionRow) -> str:
    if row.verdict == "REDUCED":
        cut = f"reduced from {row.planned_quantity} by {_words(row.code)} (limit {row.limit:,.2f}, would be {row.value:,.2f})"
        return f"{row.reason}; {cut}"
    if row.verdict == "REFUSED" and row.code not in row.reason:
        return f"{_words(row.code)}: limit {row.limit:,.2f}, would be {row.value:,.2f}. {row.reason}"
    return row.reason


def _asides(title: str, note: str, rows: tuple[Aside, ...]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f'<tr><td class="l">{_day(row.session_date)} {_time(row)}</td><td class="l"><b>{escape(row.symbol)}</b></td>'
        f'<td class="why">{escape(row.reason)}</td></tr>'
        for row in rows
    )
    return (
        f"<h2>{title} <small>{len(rows)}, {note}</small></h2><details {'open' if len(rows) <= 12 else ''}><summary>Show</summary>"
        f'<div class="card scroll"><table>{lines}</table></div></details>'
    )


def _drawn_note(drawn: int, trades: int) -> str:
    return f"{trades}, times of the exchange" if drawn == trades else f"the {drawn} largest of {trades}, times of the exchange"


def _shares(row: DecisionRow) -> str:
    return (
        ""
        if row.quantity is None and row.planned_quantity is None
        else f"{row.entered_quantity or (row.quantity if row.quantity is not None else row.planned_quantity):,}"
    )


def _nothing(text: str) -> str:
    return f'<p class="window">{escape(text)}</p>'


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def _sign(amount: Decimal | None) -> str:
    return "" if not amount else "up" if amount > 0 else "down"


def _price(price: Decimal | None) -> str:
    return "" if price is None else f"{price:,.2f}"


def _time(row: DecisionRow | Aside) -> str:
    return f"{row.scanned_at.astimezone(EXCHANGE_ZONE):%H:%M}"


def _day(day: date) -> str:
    return f"{day:%b} {day.day}, {day.year}"
