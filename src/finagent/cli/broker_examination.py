"""The examinations of the broker: keys, account, clock and symbols; what paper trading would still need."""

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from finagent.cli.finding import Finding, Verdict
from finagent.domain.errors import FinagentError, Transient
from finagent.settings import ALPACA_KEYS, Settings, alpaca_keys, missing_alpaca_keys

if TYPE_CHECKING:
    from finagent.adapters.broker.alpaca.exchange import AlpacaExchange

SDK = "pip install 'finagent[alpaca]'"
REACH = "check the network; at Alpaca see https://status.alpaca.markets, at a simulator whether it is up"
CHECK_KEYS = f"check {' and '.join(ALPACA_KEYS)}, and that they are of a {{kind}} account"


def broker_findings(settings: Settings) -> list[Finding]:
    """What is found of the broker in use."""
    if settings.broker.kind != "alpaca":
        return [Finding("broker", Verdict.OK, "the simulated one, with its own ledger"), _paper(settings)]
    if importlib.util.find_spec("alpaca") is None:
        return [Finding("broker", Verdict.MISSING, "Alpaca, and its client is not installed", SDK)]
    try:
        alpaca_keys(settings)
    except FinagentError as error:
        return [Finding("keys", Verdict.MISSING, str(error), "finagent simulate-broker lets you try everything without keys")]
    return asyncio.run(_at_alpaca(settings))


def _paper(settings: Settings) -> Finding:
    """What would be missing at a paper account."""
    missing = [] if importlib.util.find_spec("alpaca") else [SDK]
    missing += [f"export {name}=..." for name in missing_alpaca_keys(settings)]
    how = "finagent orchestrate --set orchestrate.mode=paper ...: see README, Paper trading at Alpaca"
    if missing:
        return Finding("paper trading", Verdict.OPTIONAL, f"needs {'; '.join(missing)}", f"then {how}")
    return Finding("paper trading", Verdict.OPTIONAL, "client and keys are there", how)


async def _at_alpaca(settings: Settings) -> list[Finding]:
    from finagent.adapters.broker.alpaca.exchange import AlpacaExchange
    from finagent.bootstrap.broker import build_alpaca_rest
    from finagent.telemetry.metrics import Metrics

    try:
        rest = build_alpaca_rest(settings, Metrics(), time.monotonic)
    except FinagentError as error:
        return [Finding("broker", Verdict.MISSING, str(error))]
    findings = []
    try:
        async for finding in _asked(settings, AlpacaExchange(rest), rest.url):
            findings.append(finding)
            if finding.verdict is Verdict.MISSING:
                break  # what follows would fail for the same reason
    finally:
        await rest.close()
    return findings


async def _asked(settings: Settings, exchange: "AlpacaExchange", url: str) -> AsyncIterator[Finding]:
    yield await _account(settings, exchange, url)
    yield await _clock(settings, exchange)
    yield await _universe(settings, exchange)
    if settings.market_data.source == "alpaca":
        yield await _data(settings)


async def _account(settings: Settings, exchange: "AlpacaExchange", url: str) -> Finding:
    kind = "live" if settings.orchestrate.mode == "live" else "paper"
    try:
        told = await exchange.account()
    except FinagentError as error:
        cure = REACH if isinstance(error, Transient) else CHECK_KEYS.format(kind=kind)
        return Finding("broker", Verdict.MISSING, f"{url}: {error}", cure)
    number, ours = told.account.account_id, settings.broker.account_id
    if number != ours:
        cure = f"--set broker.account_id={number}, or use the keys of {ours}"
        return Finding("broker", Verdict.MISSING, f"the keys are of account {number}, broker.account_id is {ours}", cure)
    if told.blocks:
        cure = "ask the broker why; nothing can be traded until it lifts them"
        return Finding("broker", Verdict.MISSING, f"account {number} at {url} has {', '.join(told.blocks)}", cure)
    return Finding("broker", Verdict.OK, f"{kind} account {number} at {url}, buying power {told.account.buying_power} USD")


async def _clock(settings: Settings, exchange: "AlpacaExchange") -> Finding:
    from finagent.adapters.clock import wall_now
    from finagent.policies import live_policy

    try:
        before = wall_now()
        told = await exchange.clock()
        after = wall_now()
    except FinagentError as error:
        return Finding("broker clock", Verdict.MISSING, str(error), "try again; without its time no new risk leaves")
    policy = live_policy(settings)
    if policy.follows_broker_clock:
        return Finding("broker clock", Verdict.OK, f"{told.at:%Y-%m-%d %H:%M:%S}Z, a simulator's, which the agent follows")
    skew = max((before - told.at).total_seconds(), (told.at - after).total_seconds(), 0.0)  # what the way takes is none
    text = f"{told.at:%Y-%m-%d %H:%M:%S}Z, ours differs by {skew:.1f} s, limit {policy.skew_seconds_max:g} s"
    if skew > policy.skew_seconds_max:
        return Finding("broker clock", Verdict.MISSING, text, "set this machine's clock, and run a time service (chrony)")
    return Finding("broker clock", Verdict.OK, text)


async def _data(settings: Settings) -> Finding:
    """Whether the feed is ours to read, and how old what it says is."""
    from finagent.adapters.clock import VirtualClock, wall_now
    from finagent.bootstrap.market import build_live_market
    from finagent.telemetry.metrics import Metrics

    market = build_live_market(settings, VirtualClock(wall_now()), Metrics())
    try:
        told = await market.snapshots()
    except FinagentError as error:
        cure = "market_data.alpaca.feed=iex is free; sip wants a subscription"
        return Finding("data", Verdict.MISSING, f"{market.notice}: {error}", cure)
    finally:
        await market.close()
    silent = [symbol for symbol in market.symbols if symbol not in told]
    last = max((each.at for each in told.values()), default=None)
    text = f"{market.notice}: {len(told)} of {len(market.symbols)} symbols have traded"
    text += f", last at {last:%Y-%m-%d %H:%M:%S}Z" if last else ""
    if silent:
        cure = "they are not traded until they are heard of"
        return Finding("data", Verdict.OPTIONAL, f"{text}; nothing of {', '.join(silent)}", cure)
    return Finding("data", Verdict.OK, text)


async def _universe(settings: Settings, exchange: "AlpacaExchange") -> Finding:
    symbols = settings.market_data.symbols
    try:
        assets = await exchange.assets()
    except FinagentError as error:
        return Finding("symbols", Verdict.MISSING, str(error), "try again")
    closed = [symbol for symbol in symbols if symbol not in assets or not assets[symbol].tradable]
    if closed:
        cure = "take them out of market_data.symbols"
        return Finding("symbols", Verdict.MISSING, f"{', '.join(closed)} cannot be traded there", cure)
    return Finding("symbols", Verdict.OK, f"all {len(symbols)} can be traded")
