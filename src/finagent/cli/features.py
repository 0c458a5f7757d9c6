"""`finagent features`: the catalogue, its values, and the proof that none of them looks ahead."""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.domain.ports.market_data import MarketDataPort
    from finagent.domain.sessions import Session
    from finagent.services.market_data.feature_past import FeaturePast
    from finagent.settings import Settings

WRONG = 3
DAYS = "1d"
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


@app.command(
    epilog="Example: finagent features compute --symbol AAPL --date 2008-10-09 --feature rsi_14 --json  "
    "What was known at an instant: finagent features compute --at 2008-10-09T14:00:00Z"
)
def compute(
    symbol: Annotated[list[str] | None, typer.Option("--symbol", metavar="SYMBOL", help="May be repeated; else all.")] = None,
    day: Day = None,
    at: Annotated[str, typer.Option(metavar="INSTANT", help="The latest known then, such as 2008-10-09T14:00:00Z.")] = "",
    feature: Annotated[list[str] | None, typer.Option("--feature", metavar="NAME", help="May be repeated; else all.")] = None,
    timeframe: Annotated[
        str, typer.Option(metavar="BARS", help="1d, or bars of so many minutes, such as 5min, complete at --at.")
    ] = DAYS,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The features of days that were known at the open of a session, of the market that the settings name; or those of bars of
    some minutes, as they were known at an instant."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    if timeframe == DAYS:
        document = asyncio.run(_computed(settings, symbol or [], _day(day), at, feature or []))
        since = f"as of the close before {document['session']}"
    else:
        document = asyncio.run(_computed_intraday(settings, symbol or [], at, feature or [], _minutes(timeframe)))
        since = f"bars of {timeframe} complete at {document['at']}"
    if as_json:
        print_json(document)
        return
    typer.echo(f"{since}, data spec {document['hash']}; {document['notice']}")
    for name, values in document["values"].items():
        typer.echo(name)
        for key, value in values.items():
            typer.echo(f"  {key:<28} {'unknown' if value is None else f'{value:.6g}'}")


async def _computed(settings: "Settings", symbols: list[str], day: date | None, at: str, names: list[str]) -> dict[str, Any]:
    """From the store of the folder where there is one."""
    from finagent.bootstrap import build_feature_cache, open_feature_store, open_market
    from finagent.quant.features.catalogue import BARS

    columns = {name: _column(name) for name in names or BARS.names}
    async with open_market(settings) as market, AsyncExitStack() as stack:
        places = {symbol: _place(market, symbol) for symbol in symbols or market.symbols}
        kept = settings.storage.directory.is_dir()
        store = await stack.enter_async_context(open_feature_store(settings)) if kept else None
        cache = build_feature_cache(settings, market, store)
        if at and day is not None:
            raise BadInput("--at and --date name two times: leave one of them out")
        if at:
            session, values = await cache.as_of(_instant(at))
        else:
            session = _session(market, day)
            values = await cache.before(session)
        notice = market.notice
    return {"session": session.date.isoformat(), "hash": BARS.hash, "notice": notice, "values": _told(values, places, columns)}


async def _computed_intraday(
    settings: "Settings", symbols: list[str], at: str, names: list[str], timeframe_minutes: int
) -> dict[str, Any]:
    from finagent.bootstrap import build_daily_features, open_market
    from finagent.quant.features.catalogue import BARS
    from finagent.services.market_data.intraday_features import intraday_features

    if not at:
        raise BadInput(
            "--timeframe of minutes needs --at, such as --at 2008-10-09T14:00:00Z: which bars are complete depends on it"
        )
    instant = _instant(at)
    columns = {name: _column(name) for name in names or BARS.names}
    async with open_market(settings) as market:
        places = {symbol: _place(market, symbol) for symbol in symbols or market.symbols}
        session = next((each for each in market.sessions() if each.opens_at <= instant <= each.closes_at), None)
        if session is None:
            raise BadInput(f"--at {at}: no session of the window is open then")
        minute, index = session.minute_of(instant), build_daily_features(settings, market).index
        values = await intraday_features(market, session, minute, timeframe_minutes, index)
        notice = market.notice
    told = {"session": session.date.isoformat(), "at": instant.isoformat(), "timeframe_minutes": timeframe_minutes}
    return told | {"hash": BARS.hash, "notice": notice, "values": _told(values, places, columns)}


def _told(values: Any, places: dict[str, int], columns: dict[str, int]) -> dict[str, dict[str, float | None]]:
    """By symbol and feature; None: unknown."""
    from math import isfinite

    told = {symbol: {name: float(values[place, column]) for name, column in columns.items()} for symbol, place in places.items()}
    return {s: {name: value if isfinite(value) else None for name, value in row.items()} for s, row in told.items()}


def _minutes(timeframe: str) -> int:
    """BadInput for anything but a number of minutes."""
    number = timeframe.removesuffix("min")
    if number == timeframe or not number.isdecimal():
        raise BadInput(f"--timeframe {timeframe}: 1d, or minutes such as 1min, 5min or 30min")
    return int(number)


@app.command(epilog="Example: finagent features history --output var/features")
def history(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for values.npy and history.json.")],
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session.")] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Features of days for a span of sessions, each as known at its open, in a file that training maps and does not copy."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    if output.exists():
        raise BadInput(f"{output} is there already: name another place, or remove it")
    document = asyncio.run(_history(settings, output, _day(first), _day(last)))
    if as_json:
        print_json(document)
    else:
        typer.echo(
            f"{document['sessions']} sessions x {document['symbols']} symbols x {document['features']} features of data spec "
            f"{document['hash']} in {document['folder']} ({document['bytes'] / 1e6:.1f} MB)"
        )


async def _history(settings: "Settings", folder: Path, first: date | None, last: date | None) -> dict[str, Any]:
    from finagent.adapters.features.history_files import VALUES, write_history
    from finagent.quant.features.catalogue import BARS

    past, source_id = await _past(settings, first, last)
    write_history(folder, past.values, BARS, [each.date for each in past.sessions], past.symbols, source_id)
    counts = {"sessions": len(past.sessions), "symbols": len(past.symbols), "features": len(BARS.features)}
    return {"folder": str(folder), "hash": BARS.hash, **counts, "bytes": (folder / VALUES).stat().st_size}


async def _past(settings: "Settings", first: date | None, last: date | None) -> "tuple[FeaturePast, str]":
    """With a bar on stderr that shows how far it is, where somebody watches."""
    from finagent.bootstrap import build_daily_features, open_market
    from finagent.services.market_data.feature_past import feature_past, sessions_between

    async with open_market(settings) as market:
        sessions = sessions_between(market, first, last)
        days = build_daily_features(settings, market)
        with typer.progressbar(length=len(sessions), label="sessions", file=sys.stderr) as bar:
            past = await feature_past(market, sessions, days, lambda _: bar.update(1))
        return past, market.source_id


@app.command(
    epilog="Example: finagent features chart --symbol AAPL --feature rsi_14 --feature natr_14 --output rsi.html  "
    "Within a session: finagent features chart --symbol AAPL --feature rsi_14 --timeframe 5min --date 2008-10-09 --output a.html"
)
def chart(
    symbol: Annotated[str, typer.Option(metavar="SYMBOL", help="Whose bars.")],
    feature: Annotated[list[str], typer.Option(metavar="NAME", help="May be repeated; drawn below each other.")],
    output: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write.")],
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session of the window.")] = None,
    timeframe: Annotated[str, typer.Option(metavar="BARS", help="1d, or bars of so many minutes of one session.")] = DAYS,
    day: Day = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Draw features of days, or of the minutes of a session, under the bars that they are made of."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    if timeframe == DAYS:
        if day is not None:
            raise BadInput("--date names the session of bars of minutes; for days name --from and --to")
        page = asyncio.run(_page(settings, symbol, feature, _day(first), _day(last)))
    else:
        if first is not None or last is not None:
            raise BadInput(f"--timeframe {timeframe} draws one session: name it with --date, not with --from and --to")
        page = asyncio.run(_page_of_session(settings, symbol, feature, _day(day), _minutes(timeframe)))
    output.write_text(page)
    if as_json:
        print_json({"file": str(output), "symbol": symbol, "features": feature})
    else:
        typer.echo(f"written: {output}")


async def _page(settings: "Settings", symbol: str, names: list[str], first: date | None, last: date | None) -> str:
    import numpy as np

    from finagent.bootstrap import open_market
    from finagent.quant.features.catalogue import BARS
    from finagent.services.market_data.feature_past import days_between, sessions_between
    from finagent.services.reporting.feature_chart import DrawnBars, feature_page

    columns = {name: _column(name) for name in names}
    async with open_market(settings) as market:
        place = _place(market, symbol)
        days = await days_between(market, sessions_between(market, first, last))
        notice = market.notice
    if not days.sessions:
        raise BadInput(f"{symbol}: one session is no span to draw, name --from and --to")
    past, _ = await _past(settings, first, last)
    values = np.full((len(days.sessions), len(BARS.names)), np.nan)
    for row, session in enumerate(past.sessions[1:], 1):  # what is known before a session is of the last day before it
        before = [number for number, day in enumerate(days.sessions) if day < session.date]
        if before:
            values[before[-1]] = past.values[row, place]
    drawn = {name: values[:, column] for name, column in columns.items()}
    ends = [each.isoformat() for each in days.sessions]
    bars = DrawnBars(ends, days.open[:, place], days.high[:, place], days.low[:, place], days.close[:, place])
    return feature_page(symbol, bars, drawn, notice)


async def _page_of_session(settings: "Settings", symbol: str, names: list[str], day: date | None, timeframe_minutes: int) -> str:
    import numpy as np

    from finagent.bootstrap import build_daily_features, open_market
    from finagent.domain.time import EXCHANGE_ZONE
    from finagent.services.market_data.intraday_features import intraday_past
    from finagent.services.reporting.feature_chart import DrawnBars, feature_page

    columns = {name: _column(name) for name in names}
    async with open_market(settings) as market:
        place, session = _place(market, symbol), _session(market, day)
        index = build_daily_features(settings, market).index
        past = await intraday_past(market, session, session.minutes, timeframe_minutes, index)
        notice = market.notice
    ends = [f"{session.instant_of(minute).astimezone(EXCHANGE_ZONE):%H:%M}" for minute in past.ends_at]
    prices = [np.asarray([getattr(row, name)[place] for row in past.bars]) for name in ("open", "high", "low", "close")]
    if not np.isfinite(prices[-1]).any():
        raise BadInput(f"{symbol}: no trade in the session of {session.date} to draw")
    drawn = {name: past.values[:, place, column] for name, column in columns.items()}
    return feature_page(f"{symbol} {session.date}", DrawnBars(ends, *prices), drawn, notice)


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment is not None else None


@app.command(epilog="Example: finagent features lookahead --points 24 --json")
def lookahead(
    points: Annotated[int, typer.Option(min=1, max=1000, help="Random decisions to test, beside those at holes and ends.")] = 24,
    day: Day = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Replace everything that was not known at a decision and compute again, for every feature and the model's score; so too in
    the days, minutes, corrections, quotes and news that a scan is told by its sources.

    Exits 3 when a value changes, and names feature, column and decision.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    document = asyncio.run(_leaks(settings, points, _day(day)))
    if as_json:
        print_json(document)
    else:
        typer.echo(
            f"{document['features']} features at {document['decisions']} decisions of {', '.join(document['symbols'])} around "
            f"{document['session']}: {len(document['leaks'])} look ahead"
        )
        if document["untested"]:
            typer.echo(f"  not tested, since they are unknown in these data: {', '.join(document['untested'])}")
        for leak in document["leaks"]:
            typer.echo(f"  {leak['text']}")
    if document["leaks"]:
        raise typer.Exit(WRONG)


async def _leaks(settings: "Settings", points: int, day: date | None) -> dict[str, Any]:
    from finagent.bootstrap import build_daily_features, build_predictor, open_market
    from finagent.bootstrap.replaced_sources import replaced_sources
    from finagent.services.market_data.leak_check import check_catalogue, check_sources, source_minutes, tested_history
    from finagent.services.reporting.canonical import as_plain

    async with open_market(settings) as market:
        session, days = _session(market, day), build_daily_features(settings, market)
        predictor = build_predictor(settings, keep=False)
        minutes, history = source_minutes(session, points), await tested_history(market, session, days)
        with (
            typer.progressbar(length=2 * points + len(minutes), label="decisions", file=sys.stderr) as bar,
            replaced_sources(settings, history.symbols, session, history) as (feed_at, columns),
        ):
            report = await check_catalogue(market, session, predictor, points, days, lambda: bar.update(1))
            told = await check_sources(feed_at, columns, session, minutes, lambda: bar.update(1))
    return {
        "session": session.date.isoformat(),
        "symbols": list(report.symbols),
        "features": report.features,
        "decisions": report.decisions + len(minutes),
        "sources": list(columns),
        "untested": list(report.untested),
        "leaks": [as_plain(leak) | {"text": str(leak)} for leak in (*report.leaks, *told)],
    }


@app.command(
    epilog="Example: finagent features alarms --set market_data.first_session=2009-01-02 "
    "--set market_data.last_session=2013-02-28 --json"
)
def alarms(
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session.")] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Learn from everything that is known at the open, trade on it, and ring where that is too good to be true.

    Exits 3 when an alarm rings: then a feature, or the data, knows what comes. Costs are not counted: this is no strategy.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    document = asyncio.run(_alarms(settings, _day(first), _day(last)))
    if as_json:
        print_json(document)
    else:
        told = document["figures"]
        typer.echo(
            f"{document['features']} features of {len(document['symbols'])} symbols, {document['first']} to {document['last']}: "
            f"learned from {document['trained']} sessions, {told['signals']} signals in {told['sessions']}"
        )
        typer.echo(
            f"  Sharpe ratio {told['sharpe']:.2f}, with the signals of the session before {told['sharpe_lagged']:.2f}; "
            f"{told['hit_fraction']:.1%} right; {told['losing_months']} of {told['months']} months lose; "
            f"skill from shuffled returns {told['shuffled_skill']:+.3f}"
        )
        for alarm in document["alarms"] or ["no alarm"]:
            typer.echo(f"  {alarm}")
    if document["alarms"]:
        raise typer.Exit(WRONG)


async def _alarms(settings: "Settings", first: date | None, last: date | None) -> dict[str, Any]:
    from dataclasses import asdict

    from finagent.bootstrap import build_daily_features, open_market
    from finagent.services.market_data.backtest_check import backtest_catalogue
    from finagent.services.market_data.feature_past import sessions_between

    async with open_market(settings) as market:
        sessions = sessions_between(market, first, last)
        with typer.progressbar(length=len(sessions) - 1, label="sessions", file=sys.stderr) as bar:
            report = await backtest_catalogue(market, sessions, build_daily_features(settings, market), lambda: bar.update(1))
    return {
        "first": report.first.isoformat(),
        "last": report.last.isoformat(),
        "symbols": list(report.symbols),
        "features": report.features,
        "trained": report.trained,
        "figures": asdict(report.figures),
        "alarms": list(report.figures.alarms()),
    }


def _instant(text: str) -> datetime:
    """BadInput for one without its distance from UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadInput(f"--at {text}: an instant such as 2008-10-09T14:00:00Z is needed, with its distance from UTC")
    return at


def _session(market: "MarketDataPort", day: date | None) -> "Session":
    sessions = market.sessions()
    found = sessions[0] if day is None else next((each for each in sessions if each.date == day), None)
    if found is None:
        raise BadInput(f"--date {day}: no session of the window, which is {sessions[0].date} to {sessions[-1].date}")
    return found


def _column(name: str) -> int:
    """Of a feature of days."""
    from finagent.quant.features.catalogue import BARS, CANDIDATE

    if name in CANDIDATE.columns and name not in BARS.columns:
        group = CANDIDATE.feature(name).group.value.lower()
        raise BadInput(f"--feature {name}: it is of a candidate ({group}) and known at its scan alone, not of days")
    return BARS.columns[BARS.feature(name).name]


def _place(market: "MarketDataPort", symbol: str) -> int:
    if symbol not in market.symbols:
        raise BadInput(f"--symbol {symbol}: not in the universe of {len(market.symbols)}: {', '.join(market.symbols[:20])}")
    return market.symbols.index(symbol)
