"""`finagent risk`: what the account risks, and within which limits."""

import asyncio
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force

if TYPE_CHECKING:
    from finagent.domain.ports.market_data import MarketDataPort
    from finagent.services.reporting.risk_figures import RiskReport
    from finagent.services.reporting.risk_limits import Gauge
    from finagent.services.reporting.what_if import Answer, Wish
    from finagent.settings import Settings
    from finagent.store_access import Store

WRONG = 3
Instant = Annotated[
    str | None,
    typer.Option("--at", metavar="INSTANT", help="As it stood then (with the distance from UTC); default: when it last changed."),
]


class SideOfTrade(Enum):
    """Which way a trade goes."""

    BUY = "buy"
    SELL = "sell"


app = typer.Typer(no_args_is_help=True, help="What the account risks, and within which limits.")


@app.callback()
def risk() -> None:
    """What the account risks, and within which limits."""


@app.command(epilog="Example: finagent risk report --at 2008-10-09T15:00:00Z --out risk.html")
def report(
    at: Instant = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The page; default: risk-INSTANT.html among the reports.")
    ] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """A page: exposures, value at risk with its back-test, use of each limit, correlations and their tree, drawdown, breakers.

    Reads the store and the history of the market data, beside a running agent or without one; a replay's now is where it stands.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.adapters.report_files import ReportFiles
    from finagent.cli.output import print_json
    from finagent.services.reporting.risk_page import risk_page
    from finagent.store_access import reading

    with reading(settings) as store:
        if store.moved:
            typer.echo(f"finagent: {store.moved}", err=True)
        found = asyncio.run(_report(settings, store, at))
        moved = store.moved
    place = out or settings.storage.directory / "reports" / f"risk-{found.at:%Y-%m-%dT%H%M%S}Z.html"
    path = ReportFiles(place.parent).write(place.name, risk_page(found))
    if as_json:
        from finagent.services.reporting.risk_figures import document

        print_json({"report": path, **document(found), "moved": moved})
    else:
        typer.echo("\n".join([*_lines(found), path]))


async def _report(settings: "Settings", store: "Store", at: str | None) -> "RiskReport":
    from finagent.bootstrap import build_return_history, open_market
    from finagent.policies import risk_profile, risk_report_policy, watch_policy
    from finagent.services.reporting.provenance import data_notice
    from finagent.services.reporting.risk_figures import instant, risk_report

    when = instant(at, store.now())
    async with open_market(settings) as market:
        ledger_id = _require_same_market(settings, store, market)
        return await risk_report(
            store.reads,
            market,
            when,
            risk_profile(settings),
            watch_policy(settings).limits,
            settings.risk.sectors,
            risk_report_policy(settings),
            build_return_history(settings, market, settings.report.risk_history_sessions),
            (data_notice(store.reads), ledger_id),
        )


@app.command(epilog="Example: finagent risk limits --at 2008-10-09T15:00:00Z --json")
def limits(at: Instant = None, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Every limit with what is used of it: those of the account, those that the session's plans came nearest to, the breakers.

    Exits 3 where a limit of the account or a breaker is used up.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.services.reporting.risk_figures import document
    from finagent.store_access import reading

    with reading(settings) as store:
        found = asyncio.run(_report(settings, store, at))
    groups = {"limits": found.limits, "plan_limits": found.plan_limits, "breakers": found.breakers}
    if as_json:
        told = document(found)
        print_json({"at": told["at"], "equity": told["equity"], "notes": told["notes"], **{name: told[name] for name in groups}})
    else:
        typer.echo(f"{found.at.isoformat()}: equity {'unknown' if found.equity is None else f'{found.equity:,.2f} USD'}")
        for name, gauges in groups.items():
            typer.echo(name.replace("_", " ") if gauges else f"{name.replace('_', ' ')}: none")
            for gauge in gauges:
                typer.echo(_gauge_line(gauge))
    if any(gauge.used_up for gauge in (*found.limits, *found.breakers)):
        raise typer.Exit(WRONG)


@app.command(epilog="Example: finagent risk check AAPL --side buy --quantity 200 --price 95.10 --json")
def check(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="What is to be traded.")],
    quantity: Annotated[int, typer.Option("--quantity", metavar="SHARES", help="How many are wanted.")],
    side: Annotated[SideOfTrade, typer.Option("--side", help="Sell: short.")] = SideOfTrade.BUY,
    price: Annotated[str | None, typer.Option("--price", metavar="USD", help="A share, at worst; default: the last one.")] = None,
    at: Instant = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """What the gate would say to one more trade: every check with limit, value and use, the largest quantity, the book after it.

    Nothing is committed or sent. Exits 3 where the whole quantity would not pass.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.cli.result_table import gate_table, terminal
    from finagent.domain.orders import Side
    from finagent.services.forensics.steps import asked
    from finagent.services.reporting.canonical import as_plain
    from finagent.services.reporting.what_if import Wish
    from finagent.store_access import reading

    wish = Wish(symbol, Side[side.name], quantity, None if price is None else _usd(price))
    with reading(settings) as store:
        answer = asyncio.run(_answer(settings, store, at, wish))
    verdict = answer.verdict
    if as_json:
        print_json(_told(answer))
    else:
        cut = f"{verdict.quantity} of {quantity} shares of {symbol}"
        typer.echo(f"{verdict.verdict.value}: {cut}" + ("" if verdict.code.value == "OK" else f", by {verdict.code.value}"))
        terminal().print(gate_table(as_plain(asked(verdict))))
        typer.echo("after: " + ", ".join(f"{name} {value}" for name, value in answer.after.items()))
        for warning in answer.warnings:
            typer.echo(f"warning: {warning}")
    if verdict.quantity < quantity:
        raise typer.Exit(WRONG)


def _usd(text: str) -> Decimal:
    from finagent.domain.errors import BadInput

    try:
        return Decimal(text)
    except InvalidOperation:
        raise BadInput(f"--price {text}: an amount in USD such as 95.10 is needed") from None


def _told(answer: "Answer") -> dict[str, Any]:
    """One shape for what is approved, reduced and refused."""
    verdict = answer.verdict
    return {
        "approved": verdict.quantity == answer.wish.quantity,
        "verdict": verdict.verdict.value,
        "code": verdict.code.value,
        "symbol": answer.wish.symbol,
        "side": answer.wish.side.value,
        "quantity": answer.wish.quantity,
        "allowed_quantity": verdict.quantity,
        "at": answer.at.isoformat(),
        "checks": [
            {
                "code": one.code.value,
                "limit": str(one.limit),
                "value": str(one.value),
                "utilisation": None if one.utilisation is None else float(one.utilisation),
                "allowed_quantity": one.allowed_quantity,
            }
            for one in verdict.checks
        ],
        "after": answer.after,
        "warnings": list(answer.warnings),
    }


async def _answer(settings: "Settings", store: "Store", at: str | None, wish: "Wish") -> "Answer":
    from finagent.bootstrap import build_return_history, open_market
    from finagent.policies import risk_profile
    from finagent.services.reporting.risk_figures import instant
    from finagent.services.reporting.what_if import what_if
    from finagent.store_access import HALT_FILE

    when = instant(at, store.now())
    async with open_market(settings) as market:
        _require_same_market(settings, store, market)
        return await what_if(
            store.reads,
            market,
            when,
            wish,
            risk_profile(settings),
            settings.risk.sectors,
            settings.scan.bad_bars_max,
            build_return_history(settings, market),
            "HALT file" if at is None and (settings.storage.directory / HALT_FILE).exists() else "",
        )


def _gauge_line(gauge: "Gauge") -> str:
    value = "not known" if gauge.value is None else f"{gauge.value:,f}"
    used = "used up" if gauge.used_up else "" if gauge.utilisation is None else f"{gauge.utilisation:.0%}"
    return f"  {gauge.name:<16} {value:>14} of {gauge.limit:>12,f} {gauge.unit.value:<24} {used:>7}  {gauge.detail}".rstrip()


def _require_same_market(settings: "Settings", store: "Store", market: "MarketDataPort") -> str:
    """The ledger's id; Unavailable where nobody has started, BadInput where the store holds a replay of other data."""
    from finagent.domain.errors import BadInput, Unavailable
    from finagent.domain.trading_state import LedgerIdentity, MarketClock

    identity, stored = store.reads.get(LedgerIdentity, 1), store.reads.get(MarketClock, 1)
    if identity is None or stored is None:
        raise Unavailable(f"no agent has started on the store in {settings.storage.directory}: nothing is held there")
    if not settings.on_wall_time and stored.source_id != market.source_id:
        raise BadInput(
            f"{settings.storage.directory} holds a replay of {stored.source_id}, and the settings name {market.source_id}: "
            "give the settings of that replay"
        )
    return identity.ledger_id


def _lines(found: "RiskReport") -> list[str]:
    """The page in short."""
    equity = "unknown" if found.equity is None else f"{found.equity:,.2f} USD"
    lines = [f"{found.at.isoformat()}: equity {equity}, gross {found.gross_usd:,.2f}, net {found.net_usd:+,.2f}"]
    lines += [f"  {note}" for note in found.notes]
    for one in found.forecasts:
        lines.append(f"  VaR 95 % {one.value_at_risk_usd:,.2f} USD by {one.method}")
        if one.coverage is not None:
            lines[-1] += f", {one.coverage.breaches} breaches in {one.coverage.days} days, Kupiec p {one.coverage.kupiec_p:.2g}"
    used = [gauge for gauge in (*found.limits, *found.breakers) if gauge.utilisation is not None and gauge.utilisation >= 0.8]
    lines += [f"  {gauge.name} used to {gauge.utilisation:.0%} {gauge.detail}".rstrip() for gauge in used]
    return lines
