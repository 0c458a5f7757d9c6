"""`finagent simulate-broker`: an Alpaca of one's own, to try everything without keys."""

import asyncio
from shlex import quote
from typing import TYPE_CHECKING, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force

if TYPE_CHECKING:
    from finagent.domain.ports.market_data import MarketDataPort
    from finagent.settings import Settings


def simulate_broker(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Serve Alpaca's REST and streams before a simulated account on the market of the settings, until SIGTERM.

    Prints where it listens and what an agent needs to trade there, as soon as it can be reached. The account lives in
    alpaca_simulator.directory and is the same at the next start.
    """
    asyncio.run(_serve(settings_in_force(settings_file, overrides), as_json))


async def _serve(settings: "Settings", as_json: bool) -> None:
    from finagent.api.resident import on_signals
    from finagent.bootstrap import build_alpaca_simulator, build_market
    from finagent.cli.output import print_json

    stop = asyncio.Event()
    with on_signals(stop.set):
        market = build_market(settings)
        async with build_alpaca_simulator(settings, market) as url:
            document = directions(settings, url, market)
            if as_json:
                print_json(document)
            else:
                typer.echo(as_text(document))
            await stop.wait()


def directions(settings: "Settings", url: str, market: "MarketDataPort") -> dict[str, Any]:
    """Where the simulator is, and what makes an agent trade there: one that moves its market, or where that runs one on wall
    time."""
    from finagent.adapters.broker.alpaca_simulator.policy import paper_number

    simulator = settings.alpaca_simulator
    streams = url.replace("http", "ws", 1)
    settings_there = {
        "broker.kind": "alpaca",
        "broker.account_id": paper_number(settings.broker.account_id),
        "broker.stop_entry_brackets": "false",
        "alpaca.url": url,
    }
    if simulator.pace:
        settings_there |= {
            "orchestrate.mode": "paper",
            "market_data.source": "alpaca",
            "market_data.symbols": f"[{','.join(market.symbols)}]",
            "wall_time.pace": f"{simulator.pace:g}",
        }
    return {
        "url": url,
        "trade_updates": f"{streams}/stream",
        "market_data": f"{streams}/v2/iex",
        "news": f"{streams}/v1beta1/news",
        "control": f"{url}/control/advance",
        "market": market.notice,
        "directory": str(simulator.directory),
        "environment": {"APCA_API_KEY_ID": simulator.key_id, "APCA_API_SECRET_KEY": simulator.secret},
        "settings": settings_there,
    }


def as_text(document: dict[str, Any]) -> str:
    """The same for a person: lines to copy into another terminal."""
    exports = " ".join(f"{name}={value}" for name, value in document["environment"].items())
    sets = " ".join(f"--set {quote(f'{name}={value}')}" for name, value in document["settings"].items())
    places = "\n".join(f"  {name:<14} {document[name]}" for name in ("url", "trade_updates", "market_data", "news", "control"))
    return (
        f"a simulated Alpaca ({document['market']})\n{places}\n"
        f"trade there from another terminal (these keys are not secret):\n"
        f"  export {exports}\n  finagent orchestrate {sets}\n"
        f"SIGTERM or Ctrl-C ends it; the account stays in {document['directory']},\n"
        "another alpaca_simulator.directory begins anew"
    )
