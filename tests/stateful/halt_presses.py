"""The kill switch, pressed in the middle of sends again and again: the real gateway, Alpaca's SDK, a simulated Alpaca that fails.

`python -m tests.stateful.halt_presses 1000` presses so often and ends with 3 where new risk left that should not have.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI
from tests.contract.alpaca_api import alpaca
from tests.stateful.ambiguous_outcomes import approved
from tests.unit.adapters.broker.alpaca.scripted_alpaca import POLICY, REST
from tests.unit.services.conftest import WRITER, Desk, opened
from tests.unit.services.execution.conftest import Floor, working

from finagent.adapters.broker.alpaca.client import AlpacaClient
from finagent.adapters.broker.alpaca.policy import HttpPolicy, Keys
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.broker.alpaca_simulator.faults import FaultKind
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.halt_file import write_halt_file
from finagent.api.app import add_halt_route
from finagent.api.resident import halting_on_signal
from finagent.domain.errors import Transient
from finagent.domain.ports.order_execution import Objection, OrderRequest, SendResult, no_objection
from finagent.domain.trading_state import TradingState
from finagent.services.failpoints import unarmed

FOUND_SOMETHING_WRONG = 3
ENTRIES = 6  # a press
PRESSES_A_DAY = 300  # one a minute of the market
GRACE_SECONDS = 0.1
STALL_SECONDS = 0.3
PRESS_SECONDS = 0.3  # after the first entry wants to leave, at most
PATIENCE_SECONDS = 20
TOKEN = "a token of thirty-two characters."
HTTP = HttpPolicy(connect_seconds=1, read_seconds=0.25, deadline_seconds=0.3, answer_bytes_max=1_000_000)
FATES = {
    FaultKind.RESET_BEFORE: 0.05,
    FaultKind.RESET_AFTER: 0.05,
    FaultKind.RESET_AT_BYTE: 0.05,
    FaultKind.TRUNCATED: 0.05,
    FaultKind.HTML_AFTER: 0.05,
    FaultKind.DELAY: 0.4,
}


class Way(Enum):
    """How somebody halts."""

    COMMAND = "a command that the agent records"
    FILE = "the HALT file"
    SIGNAL = "SIGUSR1"
    HTTP = "POST /api/v1/trading-state/halt"


@dataclass
class Tally:
    """What came of it. `begun_after`: sends whose last look at the switch was after the halt, and which left all the same;
    `applied_late`: entries in the broker's ledger that were not there 100 ms after the halt."""

    presses: int = 0
    stalled: int = 0
    sent: int = 0
    kept_back: int = 0
    between: int = 0
    begun_after: int = 0
    applied_late: int = 0

    @property
    def wrong(self) -> int:
        return self.begun_after + self.applied_late

    def __iadd__(self, other: "Tally") -> "Tally":
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@dataclass
class TimedBroker:
    """Notes when a send last asked whether it may leave."""

    client: AlpacaClient
    left_at: dict[str, float] = field(default_factory=dict)
    asked: threading.Event = field(default_factory=threading.Event)

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        def asked() -> str:
            began, said = time.monotonic(), objection()
            if not said:
                self.left_at[request.client_order_id] = began
            return said

        self.asked.set()
        return await self.client.submit(request, asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@contextmanager
def on_a_thread(opened_: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[Any]:
    """A server that lives on a loop of its own: ours may stall."""
    ready, done = threading.Event(), threading.Event()
    there: list[Any] = []

    async def live() -> None:
        async with opened_() as server:
            there.append(server)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(live()), name="simulated alpaca")
    thread.start()
    ready.wait()
    yield there[0]
    done.set()
    thread.join()


@dataclass
class Room:
    """An agent's sender at work at a simulated Alpaca, and the buttons that stop it."""

    desk: Desk
    floor: Floor
    broker: TimedBroker
    ledger: Path
    halt_file: Path
    http: httpx.AsyncClient
    exchange: httpx.AsyncClient
    chance: random.Random
    number: int = 0
    halted: asyncio.Event = field(default_factory=asyncio.Event)

    async def press(self, way: Way, stall: bool) -> Tally:
        """Entries begin to leave, somebody halts; then everything is armed again."""
        self.number += 1
        plans = [await approved(self.desk, 2 * (self.number * ENTRIES + n)) for n in range(ENTRIES)]
        hung = {"method": "GET", "path": "/v2/account", "kind": "hang_before", "nth": self.chance.randint(1, 5), "times": 2}
        (await self.exchange.post("/control/faults", json={"script": [hung]})).raise_for_status()
        before, halted_at = self.entries(), asyncio.get_running_loop().create_future()
        self.floor.processor.offer([job for plan in plans for job in await self.desk.commit(self.floor.execute(plan))])
        person = threading.Thread(target=self._person, args=(way, stall, asyncio.get_running_loop(), halted_at))
        person.start()
        at = await halted_at
        there = await asyncio.to_thread(self._after, at + GRACE_SECONDS)
        await self.floor.processor.quiet.wait()
        await asyncio.to_thread(person.join)
        await asyncio.sleep(HTTP.deadline_seconds)  # whatever waits for a thread or an answer has it by now
        now = self.entries()
        tally = Tally(
            presses=1,
            stalled=int(stall),
            sent=len(now - before),
            kept_back=sum(1 for plan in plans if self.floor.outcome(plan) == "RISK_DENIED"),
            between=int(0 < len(now - before) < ENTRIES),
            begun_after=sum(began > at for began in self.broker.left_at.values()),
            applied_late=len(now - there),
        )
        await self._armed_again()
        return tally

    def entries(self) -> set[str]:
        """The entries in the broker's ledger."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            return {name for (name,) in ledger.execute("SELECT client_order_id FROM ledger_order")}

    def _after(self, at: float) -> set[str]:
        time.sleep(max(0.0, at - time.monotonic()))
        return self.entries()

    def _person(self, way: Way, stall: bool, loop: asyncio.AbstractEventLoop, halted_at: "asyncio.Future[float]") -> None:
        """On a thread of their own: they do not wait for our loop."""
        self.broker.asked.wait(PATIENCE_SECONDS)
        time.sleep(self.chance.uniform(0, PRESS_SECONDS))
        if stall:
            loop.call_soon_threadsafe(time.sleep, STALL_SECONDS)
            time.sleep(0.01)
        if way is Way.FILE:
            write_halt_file(self.halt_file, json.dumps({"reason": "drill", "by": "file"}))
        elif way is Way.SIGNAL:
            os.kill(os.getpid(), signal.SIGUSR1)
            while not self.halt_file.exists():
                time.sleep(0.0001)
        else:
            halt = self._by_http() if way is Way.HTTP else self.desk.kill_switch.halt("drill", "command")
            asyncio.run_coroutine_threadsafe(halt, loop).result()
        at = time.monotonic()
        loop.call_soon_threadsafe(halted_at.set_result, at)

    async def _by_http(self) -> None:
        order = {"reason": "drill", "by": "somebody"}
        answer = await self.http.post("/api/v1/trading-state/halt", json=order, headers={"Authorization": f"Bearer {TOKEN}"})
        answer.raise_for_status()

    async def _armed_again(self) -> None:
        """The next minute: cancels take effect, and what is in doubt is looked up."""
        self.halt_file.unlink(missing_ok=True)
        await self.floor.processor.quiet.wait()
        self.desk.clock.set(self.desk.minute(5 + self.number))
        (await self.exchange.post("/control/advance", json={"at": self.desk.clock.now().isoformat()})).raise_for_status()
        with suppress(Transient):  # an instant has one fate: the next one will hear of it all
            await self.floor.activity.apply(self.desk.minute(0), self.desk.clock.now())
        await self.floor.processor.poll()
        await self.floor.processor.quiet.wait()
        self.broker.left_at.clear()
        self.broker.asked.clear()
        if self.desk.kill_switch.state().state is not TradingState.ACTIVE:
            await self.desk.kill_switch.arm("the next press", "drill")


@asynccontextmanager
async def room(folder: Path, seed: int) -> AsyncIterator[Room]:
    """One day's desk at a fresh exchange."""
    policy = AlpacaSimulatorPolicy(fault_rates=FATES, seed=seed)
    upgrade(folder / "finagent.db", WRITER, unarmed)

    def exchange() -> AbstractAsyncContextManager[Any]:
        return alpaca(folder, None, policy, judged=False, account_id="PA1", leverage=Decimal(10_000), stop_entry_brackets=False)

    with on_a_thread(exchange) as venue:
        async with opened(folder / "finagent.db") as desk, httpx.AsyncClient(base_url=venue.url, timeout=20) as control:
            rest = AlpacaRest(
                replace(
                    REST, url=venue.url, http=HTTP, threads=1, read_attempts=1, breaker_failures=1000, requests_per_minute=10**6
                ),
                Keys("PKSIMULATOR", "simulator"),
                time.monotonic,
            )
            broker = TimedBroker(AlpacaClient(rest, desk.clock, replace(POLICY, settle_seconds=60)))
            halt_file = folder / "HALT"
            desk.kill_switch.halt_requested = halt_file.exists
            app = FastAPI()
            add_halt_route(app, desk.kill_switch, TOKEN)
            await _named(broker, desk, control)
            agent: Any = SimpleNamespace(kill_switch=desk.kill_switch)
            port: Any = broker
            async with asyncio.TaskGroup() as tasks:
                floor = Floor.on_wall_time(desk, port)
                reading = tasks.create_task(_readers(broker))
                with halting_on_signal(halt_file, tasks, agent):
                    async with (
                        working(floor),
                        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as http,
                    ):
                        yield Room(
                            desk, floor, broker, folder / "broker-simulator.db", halt_file, http, control, random.Random(seed)
                        )
                reading.cancel()
            await broker.close()


async def _named(broker: TimedBroker, desk: Desk, exchange: httpx.AsyncClient) -> None:
    """The broker has told its account: before that nothing is sent. An instant has one fate, so each try has its own."""
    while True:
        (await exchange.post("/control/advance", json={"at": desk.clock.now().isoformat()})).raise_for_status()
        try:
            await broker.account()
        except Transient:
            desk.clock.set(desk.clock.now() + timedelta(seconds=1))
        else:
            return


async def _readers(broker: TimedBroker) -> None:
    """Others want the threads too: an order may have to wait for one."""
    while True:
        with suppress(Transient):
            await broker.account()
        await asyncio.sleep(0)


async def pressed(folder: Path, presses: int, seed: int) -> Tally:
    """So many presses, in all ways, half of them while the loop stalls."""
    total, ways = Tally(), list(Way)
    async with room(folder, seed) as there:
        for number in range(presses):
            total += await there.press(ways[number % len(ways)], stall=number // len(ways) % 2 == 1)
    return total


def main(presses: int) -> int:
    """Days of presses until it were so many."""
    total, seed = Tally(), 0
    while total.presses < presses:
        seed += 1
        with tempfile.TemporaryDirectory() as folder:
            total += asyncio.run(pressed(Path(folder), min(PRESSES_A_DAY, presses - total.presses), seed))
        sys.stderr.write(f"{total}\n")
    sys.stdout.write(json.dumps(asdict(total), indent=2) + "\n")
    return FOUND_SOMETHING_WRONG if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
