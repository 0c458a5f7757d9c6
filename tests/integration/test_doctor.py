"""`finagent doctor` at a broker: what is missing for trading there, each with its cure."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_live_day import at_alpaca, simulator

from finagent.bootstrap import build_alpaca_simulator, build_market
from finagent.cli.broker_examination import broker_findings
from finagent.cli.finding import Finding, Verdict
from finagent.settings import load_settings

KEYS = {"APCA_API_KEY_ID": "PKSIMULATOR", "APCA_API_SECRET_KEY": "simulator"}


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    there = simulator(tmp_path / "alpaca")
    async with build_alpaca_simulator(there, build_market(there)) as url:
        yield url


async def examined(folder: Path, url: str, *more: str) -> list[Finding]:
    """On a thread: the command has a loop of its own."""
    quick = ("alpaca.read_attempts=1", "broker.call_seconds=5")
    return await asyncio.to_thread(broker_findings, at_alpaca(folder, url, *quick, *more))


async def test_what_can_trade_is_named(tmp_path: Path, url: str) -> None:
    found = await examined(tmp_path / "agent", url)

    assert [(one.name, one.verdict) for one in found] == [
        ("broker", Verdict.OK),
        ("broker clock", Verdict.OK),
        ("symbols", Verdict.OK),
        ("data", Verdict.OPTIONAL),  # nothing has traded there yet
    ]
    assert "paper account PASIM-1" in found[0].text
    assert not (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    ("change", "name", "text", "cure"),
    [
        ({"APCA_API_KEY_ID": ""}, "keys", "APCA_API_KEY_ID is not set", "simulate-broker"),
        ({"APCA_API_SECRET_KEY": "wrong"}, "broker", "403", "check APCA_API_KEY_ID and APCA_API_SECRET_KEY"),
        ({"APCA_API_KEY_ID": "AKLIVE"}, "broker", "that of a live account", ""),
        ("broker.account_id=PA2", "broker", "the keys are of account PASIM-1", "--set broker.account_id=PASIM-1"),
        ("market_data.symbols=[AAPL,NOSUCH]", "symbols", "NOSUCH cannot be traded", "market_data.symbols"),
        ("alpaca.url=http://127.0.0.1:9", "broker", "no connection", "check the network"),
    ],
)
async def test_what_is_missing_is_named_with_its_cure(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, change: Any, name: str, text: str, cure: str
) -> None:
    for key, value in (change if isinstance(change, dict) else {}).items():
        monkeypatch.setenv(key, value)
    *sound, last = await examined(tmp_path / "agent", url, *([change] if isinstance(change, str) else []))

    assert (last.name, last.verdict) == (name, Verdict.MISSING)
    assert text in last.text
    assert cure in last.cure
    assert all(one.verdict is Verdict.OK for one in sound)


def test_a_replay_is_told_what_paper_trading_would_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "PK1")
    monkeypatch.delenv("APCA_API_SECRET_KEY", raising=False)
    paper = broker_findings(load_settings())[1]
    assert (paper.name, paper.verdict, paper.text) == (
        "paper trading",
        Verdict.OPTIONAL,
        "needs export APCA_API_SECRET_KEY=...",
    )
    monkeypatch.setenv("APCA_API_SECRET_KEY", "x")
    assert "are there" in broker_findings(load_settings())[1].text
