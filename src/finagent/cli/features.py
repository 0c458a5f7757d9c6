"""`finagent features`: the catalogue, its values, and the proof that none of them looks ahead."""

import asyncio
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.domain.ports.market_data import MarketDataPort
    from finagent.domain.sessions import Session
    from finagent.settings import Settings

WRONG = 3
app = typer.Typer(no_args_is_help=True, help="The catalogue of features, their values, and the search for look-ahead.")

Day = Annotated[datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Session; else the first of the window.")]


@app.command("list", epilog="Example: finagent features list --group momentum")
def list_(
    group: Annotated[str, typer.Option(metavar="GROUP", help="One group only, such as volatility.")] = "",
    as_json: AsJson = False,
) -> None:
    """Every feature: unit, window, warm-up, when it is known, and where its formula stands."""
    from finagent.cli.output import print_json
    from finagent.domain.data_spec import Group
    from finagent.quant.features.catalogue import CANDIDATE

    if group and group.upper() not in Group.__members__:
        raise BadInput(f"--group {group}: one of {', '.join(each.value.lower() for each in Group)}")
    shown = [feature for feature in CANDIDATE.features if group.upper() in ("", feature.group.value)]
    if as_json:
        rows = [feature.canonical() | {"source": feature.source} for feature in shown]
        print_json({"data_spec": CANDIDATE.name, "hash": CANDIDATE.hash, "features": rows})
        return
    typer.echo(f"{len(shown)} of {len(CANDIDATE.features)} features, data spec {CANDIDATE.hash}")
    for feature in shown:
        known = feature.available_at.value.replace("_", " ").lower()
        typer.echo(
            f"  {feature.name:<28} {feature.group.value.lower():<13} {feature.unit:<20} window {feature.window:>3}  "
            f"warm-up {feature.warmup:>3}  {known:<14} {feature.source}"
        )


@app.command(epilog="Example: finagent features compute --symbol AAPL --date 2008-10-09 --feature rsi_14 --json")
def compute(
    symbol: Annotated[list[str] | None, typer.Option("--symbol", metavar="SYMBOL", help="May be repeated; else all.")] = None,
    day: Day = None,
    feature: Annotated[list[str] | None, typer.Option("--feature", metavar="NAME", help="May be repeated; else all.")] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The features of days that were known at the open of a session, of the market that the settings name."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    document = asyncio.run(_computed(settings, symbol or [], day.date() if day else None, feature or []))
    if as_json:
        print_json(document)
        return
    typer.echo(f"as of the close before {document['session']}, data spec {document['hash']}; {document['notice']}")
    for name, values in document["values"].items():
        typer.echo(name)
        for key, value in values.items():
            typer.echo(f"  {key:<28} {'unknown' if value is None else f'{value:.6g}'}")


async def _computed(settings: "Settings", symbols: list[str], day: date | None, names: list[str]) -> dict[str, Any]:
    from math import isfinite

    from finagent.bootstrap import open_market
    from finagent.quant.features.catalogue import BARS
    from finagent.services.market_data.daily_features import DailyFeatures

    columns = {name: BARS.columns[BARS.feature(name).name] for name in names or BARS.names}
    async with open_market(settings) as market:
        places = {symbol: _place(market, symbol) for symbol in symbols or market.symbols}
        session = _session(market, day)
        days = DailyFeatures(market, settings.market_data.hole_sessions_max, asyncio.to_thread)
        values = await days.before(session)
        notice = market.notice
    told = {symbol: {name: float(values[place, column]) for name, column in columns.items()} for symbol, place in places.items()}
    known = {s: {name: value if isfinite(value) else None for name, value in row.items()} for s, row in told.items()}
    return {"session": session.date.isoformat(), "hash": BARS.hash, "notice": notice, "values": known}


@app.command(epilog="Example: finagent features lookahead --points 24 --json")
def lookahead(
    points: Annotated[int, typer.Option(min=1, max=1000, help="Random decisions to test, beside those at holes and ends.")] = 24,
    day: Day = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Replace everything that was not known at a decision and compute again, for every feature and the model's score.

    Exits 3 when a value changes, and names feature, column and decision.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    document = asyncio.run(_leaks(settings, points, day.date() if day else None))
    if as_json:
        print_json(document)
    else:
        typer.echo(
            f"{document['features']} features at {document['decisions']} decisions of {', '.join(document['symbols'])} around "
            f"{document['session']}: {len(document['leaks'])} look ahead"
        )
        for leak in document["leaks"]:
            typer.echo(f"  {leak['text']}")
    if document["leaks"]:
        raise typer.Exit(WRONG)


async def _leaks(settings: "Settings", points: int, day: date | None) -> dict[str, Any]:
    from finagent.bootstrap import open_market
    from finagent.quant.specialists.gap_and_go import GapAndGoFormula
    from finagent.services.market_data.leak_check import check_catalogue
    from finagent.services.reporting.canonical import as_plain

    async with open_market(settings) as market:
        session = _session(market, day)
        report = await check_catalogue(market, session, GapAndGoFormula(), points, settings.market_data.hole_sessions_max)
    return {
        "session": session.date.isoformat(),
        "symbols": list(report.symbols),
        "features": report.features,
        "decisions": report.decisions,
        "leaks": [as_plain(leak) | {"text": str(leak)} for leak in report.leaks],
    }


def _session(market: "MarketDataPort", day: date | None) -> "Session":
    sessions = market.sessions()
    found = sessions[0] if day is None else next((each for each in sessions if each.date == day), None)
    if found is None:
        raise BadInput(f"--date {day}: no session of the window, which is {sessions[0].date} to {sessions[-1].date}")
    return found


def _place(market: "MarketDataPort", symbol: str) -> int:
    if symbol not in market.symbols:
        raise BadInput(f"--symbol {symbol}: not in the universe of {len(market.symbols)}: {', '.join(market.symbols[:20])}")
    return market.symbols.index(symbol)
