"""`uvicorn --factory finagent.app:make_app`: the application's life is the agent's."""

import asyncio
import os
import signal
from pathlib import Path

import httpx

from finagent.api.resident import resident
from finagent.app import make_app
from finagent.cli.control_client import ask
from finagent.domain.trading_state import MarketClock, TradingState
from finagent.services.progress import Onlookers
from finagent.settings import load_settings
from finagent.store_access import CONTROL_SOCKET, HALT_FILE, reading


async def test_the_application_runs_the_agent_and_stops_it_in_order(tmp_path: Path) -> None:
    """It replays while it serves; at its end the store is closed in order and can be read."""
    settings = load_settings(
        None,
        [
            f"storage.directory={tmp_path / 'var'}",
            "market_data.first_session=2008-10-13",
            "market_data.last_session=2008-10-13",
        ],
    )
    app = make_app(settings)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent")
    async with asyncio.timeout(60), client, app.router.lifespan_context(app):
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/control/status")).status_code == 404
        summary = await asyncio.shield(app.state.agent)
        ready = await client.get("/health/ready")
        figures = (await client.get("/metrics")).text

    assert summary.sessions == 1
    assert (ready.status_code, ready.json()["reasons"]) == (200, [])
    assert 'finagent_job_duration_seconds_count{type="scan"} 3.0' in figures
    with reading(settings) as store:
        clock = store.reads.get(MarketClock, 1)
    assert clock is not None
    assert clock.state == "FINISHED"


async def test_local_commands_reach_an_agent_that_serves_no_port(tmp_path: Path) -> None:
    day = ("market_data.first_session=2008-10-13", "market_data.last_session=2008-10-13")
    settings = load_settings(None, [f"storage.directory={tmp_path / 'var'}", "http.enabled=false", *day])

    async with resident(settings, Onlookers(), asyncio.Event(), serve_http=True) as agent:
        answer = await asyncio.to_thread(ask, tmp_path / "var" / CONTROL_SOCKET, "GET", "/control/status", None, 20.0)

    assert agent.address == ""
    assert answer["start_gate"] == "STARTING"


async def test_a_signal_halts_an_agent_whose_loop_stands(tmp_path: Path) -> None:
    """The HALT file is there before the loop turns again; who halted is recorded when it does."""
    day = ("market_data.first_session=2008-10-13", "market_data.last_session=2008-10-13", "replay.pace=1")
    settings = load_settings(None, (f"storage.directory={tmp_path}", "http.enabled=false", *day))
    async with resident(settings, Onlookers(), asyncio.Event(), serve_http=False) as agent:
        os.kill(os.getpid(), signal.SIGUSR1)
        file = tmp_path / HALT_FILE
        for _ in range(1000):  # the loop stands; the handler runs between two instructions
            if file.exists():
                break
        assert "SIGUSR1" in file.read_text()
        assert agent.application.kill_switch.objection() == "HALT file"
        commits = asyncio.Event()
        agent.application.queue.on_commit.append(lambda _effects, _jobs: commits.set())  # type: ignore[attr-defined] # the store's own
        async with asyncio.timeout(60):
            await commits.wait()
        assert agent.application.kill_switch.state().state is TradingState.HALTED
        assert agent.application.kill_switch.state().by == "signal"
