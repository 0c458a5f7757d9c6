"""`finagent simulate-broker` as a process: it says where it is, trades, keeps the account and ends on SIGTERM."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.alpaca_api import alpaca

from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.bootstrap import build_alpaca_simulator, build_market
from finagent.cli.app import run
from finagent.cli.simulate_broker import as_text, directions
from finagent.policies import check
from finagent.settings import load_settings

OPTIONS = ("--set", "alpaca_simulator.port=0", "--set", "market_data.last_session=2008-10-02")


def started(folder: Path, *more: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """The process, and the document it printed when it could be reached."""
    command = [sys.executable, "-m", "finagent.cli", "simulate-broker", "--json", *OPTIONS]
    process = subprocess.Popen(
        [*command, "--set", f"alpaca_simulator.directory={folder}", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            break
    return process, json.loads("".join(lines))


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    with process:
        return process.wait(timeout=20)


async def test_an_account_lives_from_one_start_to_the_next(tmp_path: Path) -> None:
    order = {"symbol": "AAPL", "qty": "5", "side": "buy", "type": "market", "time_in_force": "day"}
    process, told = started(tmp_path, "--set", "alpaca_simulator.pace=0")
    try:
        keys = told["environment"]
        headers = {"APCA-API-KEY-ID": keys["APCA_API_KEY_ID"], "APCA-API-SECRET-KEY": keys["APCA_API_SECRET_KEY"]}
        async with httpx.AsyncClient(base_url=told["url"], headers=headers, timeout=20, verify=False) as http:
            assert told["settings"]["broker.account_id"] == "PASIM-1"
            assert (await http.get("/v2/account")).json()["account_number"] == told["settings"]["broker.account_id"]
            assert (await http.post("/v2/orders", json=order)).status_code == 200
            (await http.post("/control/advance", json={"at": "2008-10-01T13:40:00Z"})).raise_for_status()
    finally:
        assert ended(process) == 0

    settings = load_settings(None, (*OPTIONS[1::2], f"alpaca_simulator.directory={tmp_path}", "alpaca_simulator.pace=0"))
    async with (
        build_alpaca_simulator(settings, build_market(settings)) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=20, verify=False) as again,
    ):
        assert [position["qty"] for position in (await again.get("/v2/positions")).json()] == ["5"]


async def test_market_time_goes_with_wall_time_where_a_pace_is_set(tmp_path: Path) -> None:
    async with alpaca(tmp_path, policy=AlpacaSimulatorPolicy(pace=60_000)) as venue:
        seen: set[str] = set()
        async with asyncio.timeout(20):
            while len(seen) < 4:
                seen.add((await venue.get("/control/clock"))["at"])
    assert min(seen) >= "2008-10-01T13:30"


def test_what_is_printed_can_be_copied_into_another_terminal() -> None:
    settings = load_settings(None, ("broker.account_id=PA1",))
    text = as_text(directions(settings, "http://127.0.0.1:8322", build_market(settings)))
    assert "export APCA_API_KEY_ID=PKSIMULATOR APCA_API_SECRET_KEY=simulator" in text
    command = "finagent orchestrate --set broker.kind=alpaca --set broker.account_id=PA1 "
    command += "--set broker.stop_entry_brackets=false --set alpaca.url=http://127.0.0.1:8322"
    assert [line.strip() for line in text.splitlines() if "orchestrate" in line] == [command]
    assert "ws://127.0.0.1:8322/stream" in text


def test_where_the_market_runs_on_its_own_an_agent_on_wall_time_is_printed() -> None:
    settings = load_settings(None, ("alpaca_simulator.pace=60",))
    document = directions(settings, "http://127.0.0.1:8322", build_market(settings))
    there = load_settings(None, [f"{name}={value}" for name, value in document["settings"].items()])
    check(there)
    assert (there.orchestrate.mode, there.wall_time.pace) == ("paper", 60)
    assert there.market_data.symbols == build_market(settings).symbols
    assert "--set 'market_data.symbols=[" in as_text(document)


def test_a_taken_port_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--set", f"alpaca_simulator.port={port}", "--set", f"alpaca_simulator.directory={tmp_path}")
        assert run(["simulate-broker", *options]) == 4
    assert f"alpaca_simulator.port {port} on 127.0.0.1 cannot be used" in capsys.readouterr().err
