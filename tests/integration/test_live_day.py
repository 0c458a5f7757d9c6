"""On wall time: the agent follows a simulated Alpaca, trades its day through the real SDK and ends flat."""

import asyncio
import contextlib
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from finagent.bootstrap import build_alpaca_simulator, build_application, build_market
from finagent.cli.app import run
from finagent.domain.decision import DecisionExit, DecisionOutcome
from finagent.domain.errors import BadInput
from finagent.domain.gap import GapCandidate
from finagent.domain.orders import Fill
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.sessions import Session
from finagent.domain.trading_state import StartGate, SymbolLock, TradingState
from finagent.services.execution.symbol_locks import locked_symbols
from finagent.services.live import BrokerWatch, LiveDriver
from finagent.services.progress import Onlookers
from finagent.settings import Settings, load_settings

PATIENCE_SECONDS = 100
DAY = ("market_data.first_session=2008-10-09", "market_data.last_session=2008-10-09")
STEPS = (*range(1, 75), *range(75, 391, 15))  # minutes of the session at which the test stops
HELD = 9  # the minute after the day's first entry


def at_alpaca(folder: Path, url: str, *more: str) -> Settings:
    """An agent that looks at the broker's clock all the time: the test moves it."""
    quick = (
        "queue.poll_seconds=0.005",
        "wall_time.retry_seconds=0.05",
        "wall_time.clock_seconds=0.005",
        "wall_time.spacing_seconds=0.01",
    )
    history = ("market_data.mean_sessions=5", "market_data.hole_sessions_max=1")
    rules = ("market_data.alpaca.gap_fraction_min=0.02", "market_data.alpaca.relative_volume_min=1")
    limits = (
        "alpaca.requests_per_minute=1000000",
        "wall_time.bar_grace_seconds=0",
        "alpaca.settle_seconds=60",
        "wall_time.spacing_seconds=0",
    )
    return load_settings(
        overrides=(
            *("orchestrate.mode=paper", "broker.kind=alpaca", "broker.account_id=PASIM-1", f"alpaca.url={url}"),
            *("market_data.source=alpaca", "market_data.symbols=[AAPL,GOOG,IBM,MSFT]", "market_data.alpaca.feed=sip"),
            *(f"storage.directory={folder}", "http.enabled=false", *quick, *history, *rules, *limits, *more),
        )
    )


def simulator(folder: Path, *more: str) -> Settings:
    there = (f"alpaca_simulator.directory={folder}", "alpaca_simulator.port=0", "alpaca_simulator.pace=0")
    return load_settings(overrides=(*DAY, *there, "market_data.cached_sessions_max=12", *more))


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "PKSIMULATOR")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "simulator")


class Minutes(Onlookers):
    """Wakes whoever waits for a minute to be taken in."""

    def __init__(self) -> None:
        super().__init__()
        self.done = -1
        self.happened = asyncio.Event()

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        self.done = done
        self.happened.set()

    async def until(self, minute: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.done < minute:
                self.happened.clear()
                await self.happened.wait()


class Looks:
    """Looks of the watch at the broker: it looks by itself, and the test waits for it."""

    def __init__(self, watch: BrokerWatch) -> None:
        self.happened = asyncio.Event()
        self._look = watch.catch_up
        watch.catch_up = self.catch_up  # type: ignore[method-assign] # it looks by itself
        self.begun = self.answered = 0  # looks, and the number of the last that had an answer

    async def catch_up(self) -> None:
        self.begun += 1
        number = self.begun
        await self._look()
        self.answered = number
        self.happened.set()

    async def another(self) -> None:
        """A look that begins now or later."""
        begun = self.begun
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.answered <= begun:
                self.happened.clear()
                await self.happened.wait()


async def lived(settings: Settings, url: str, steps: Iterable[int], *, woken: bool = False) -> None:
    """One life, in which the exchange goes on from minute to minute as soon as the agent has nothing left to do. `woken`: by its
    timer and the signs of its streams alone."""
    minutes = Minutes()
    async with build_application(settings, observer=minutes) as application, httpx.AsyncClient(base_url=url) as exchange:
        running = asyncio.create_task(application.run())
        driver, opens_at = application.driver, application.parts.outside.sessions_ahead[0].opens_at
        assert isinstance(driver, LiveDriver)
        looks = Looks(driver.watch)
        for minute in steps:
            at = opens_at + timedelta(minutes=minute)
            (await exchange.post("/control/advance", json={"at": at.isoformat()})).raise_for_status()
            waiting = asyncio.create_task(minutes.until(minute))
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            await (running if running.done() else waiting)
            await (looks.another() if woken else driver.watch.catch_up())
            while (due := application.queue.next_due()) is not None and due <= at:
                await application.processor.poll()
                await application.processor.quiet.wait()
            await application.processor.quiet.wait()
        application.stop()
        assert await running is False


def trades(fills: Iterable[Fill]) -> Counter[tuple[str, int, str]]:
    return Counter((fill.symbol, fill.quantity, str(fill.price)) for fill in fills)


def traded(folder: Path) -> Counter[tuple[str, int, str]]:
    """What the broker's ledger says was traded; no id of ours may be in it twice."""
    executed = "SELECT o.symbol, e.quantity, e.price FROM ledger_execution e JOIN ledger_order o USING (broker_order_id)"
    with contextlib.closing(sqlite3.connect(folder / "broker-simulator.db")) as ledger:
        assert ledger.execute("SELECT 1 FROM ledger_order GROUP BY client_order_id HAVING count(*) > 1").fetchall() == []
        return Counter(ledger.execute(executed).fetchall())


def told_by(settings: Settings, *command: str) -> Any:
    """The document of a command that knows where the account is."""
    options = [f"storage.directory={settings.storage.directory}", f"alpaca.url={settings.alpaca.url}"]
    options += ["orchestrate.mode=paper", "broker.kind=alpaca", "broker.account_id=PASIM-1", "market_data.source=alpaca"]
    options += [f"market_data.symbols=[{','.join(settings.market_data.symbols)}]", "market_data.alpaca.feed=sip"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run([*command, "--json", *(word for each in options for word in ("--set", each))]) == 0
    return json.loads(out.getvalue())


async def test_a_day_on_wall_time_is_traded_over_two_lives_and_ends_flat(tmp_path: Path) -> None:
    there = simulator(tmp_path / "alpaca")
    async with build_alpaca_simulator(there, build_market(there)) as url:
        settings = at_alpaca(tmp_path / "agent", url)
        await lived(settings, url, (step for step in STEPS if step <= HELD))
        async with build_application(settings) as application:
            theirs = {one["symbol"]: one["quantity"] for one in (await application.broker_account())["positions"]}
            assert theirs == {one.symbol: one.quantity for one in application.reads.find(Position) if one.quantity} != {}
        risk = await asyncio.to_thread(told_by, settings, "risk", "report", "--set", "report.risk_window_sessions=20")
        assert {line["symbol"]: line["shares"] for line in risk["holdings"] if line["shares"]} == theirs
        assert (risk["notes"], len(risk["forecasts"])) == ([], 3)
        await lived(settings, url, (step for step in STEPS if step > HELD))
        async with build_application(settings) as application:
            reads = application.reads
            assert application.kill_switch.state().state is TradingState.ACTIVE
            assert {position.quantity for position in reads.find(Position)} <= {0}
            fills, candidates = reads.find(Fill), reads.find(GapCandidate)
            outcomes = {outcome.decision_id for outcome in reads.find(DecisionOutcome)}
            assert reads.count(AccountSnapshot, kind="CLOSE") == 1
            exits = {left.decision_id for left in reads.find(DecisionExit)}
        decision = candidates[0]
        told = await asyncio.to_thread(told_by, settings, "explain", decision.decision_id, "--news")
    assert [article["headline"].split()[0] for article in told["news"]] == [decision.symbol]
    assert fills, "the day has to trade"
    assert {candidate.decision_id for candidate in candidates} == outcomes
    assert {fill.decision_id for fill in fills} == exits
    assert trades(fills) == traded(tmp_path / "alpaca")


LOSSY = ("duplicate=0.2", "reordered=0.2", "missing=0.2", "null_data=0.1")


@pytest.mark.parametrize("faults", [LOSSY, ("mute=1",)], ids=["lossy", "mute"])
async def test_updates_that_come_twice_late_or_never_cost_no_fill(tmp_path: Path, faults: Iterable[str]) -> None:
    """F-41 to F-43: nobody tells the watch to look but its timer and what the stream lets through."""
    fated = (f"alpaca_simulator.faults.{fault}" for fault in faults)
    there = simulator(tmp_path / "alpaca", "broker.partial_fill_rate=0.5", *fated)
    async with build_alpaca_simulator(there, build_market(there)) as url:
        settings = at_alpaca(tmp_path / "agent", url, "wall_time.activity_seconds=0.05")
        await lived(settings, url, (*range(1, 45), *range(45, 391, 25)), woken=True)
        async with build_application(settings) as application:
            reads = application.reads
            assert {position.quantity for position in reads.find(Position)} <= {0}
            assert application.kill_switch.state().state is TradingState.ACTIVE
            assert reads.find(SymbolLock) == []
            fills = reads.find(Fill)
    with contextlib.closing(sqlite3.connect(tmp_path / "agent" / "finagent.db")) as store:
        kept = dict(store.execute("SELECT status, count(*) FROM job_queue WHERE type = 'trade_update' GROUP BY 1").fetchall())
    assert fills, "the day has to trade"
    assert trades(fills) == traded(tmp_path / "alpaca")
    assert kept.keys() <= {"DONE", "SCHEDULED"}
    assert bool(kept) is (faults == LOSSY)


async def test_a_folder_holds_one_account_and_no_replay(tmp_path: Path) -> None:
    there = simulator(tmp_path / "alpaca")
    async with build_alpaca_simulator(there, build_market(there)) as url:
        async with build_application(at_alpaca(tmp_path / "agent", url)) as application:
            assert application.kill_switch.gate is StartGate.STARTING
            assert application.kill_switch.state().state is TradingState.ACTIVE
        with pytest.raises(BadInput, match="PASIM-2"):
            async with build_application(at_alpaca(tmp_path / "agent", url, "broker.account_id=PASIM-2")):
                pass
        with pytest.raises(BadInput, match=r"storage\.directory"):
            async with build_application(load_settings(overrides=(*DAY, f"storage.directory={tmp_path / 'agent'}"))):
                pass
        with pytest.raises(BadInput, match="NOSUCH cannot be traded"):
            async with build_application(at_alpaca(tmp_path / "third", url, "market_data.symbols=[AAPL,NOSUCH]")):
                pass
        with pytest.raises(BadInput, match="the keys are of account PASIM-1"):
            async with build_application(at_alpaca(tmp_path / "other", url, "broker.account_id=PAOTHER")):
                pass


async def test_what_somebody_else_trades_locks_its_symbol_until_a_person_has_looked(tmp_path: Path) -> None:
    there = simulator(tmp_path / "alpaca", "broker.partial_fill_rate=0")
    async with build_alpaca_simulator(there, build_market(there)) as url:
        settings = at_alpaca(tmp_path / "agent", url)
        await lived(settings, url, (1, 2))
        by_hand = {"symbol": "MSFT", "qty": "3", "side": "buy", "type": "market", "time_in_force": "day"}
        keys = {"APCA-API-KEY-ID": "PKSIMULATOR", "APCA-API-SECRET-KEY": "simulator"}
        async with httpx.AsyncClient(base_url=url, headers=keys) as person:
            (await person.post("/v2/orders", json=by_hand)).raise_for_status()
        await lived(settings, url, (3,))
        async with build_application(settings) as application:
            assert locked_symbols(application.reads) == {"MSFT"}
            assert application.kill_switch.state().state is TradingState.ACTIVE
            looked_at = await application.reconcile(None)
            assert [difference["symbol"] for difference in looked_at["differences"]] == ["MSFT"]
            assert await application.reconcile("ann") == {"differences": [], "locked": [], "released": ["MSFT"]}
        await lived(settings, url, (4,))
        async with build_application(settings) as application:
            assert locked_symbols(application.reads) == set(), "what was seen locks no more, also after a start"
