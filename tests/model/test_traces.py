"""What the agent does with every order of a faulted day is a path of the model, undisturbed and killed; what a planted bug does
is none."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.model.acceptance import Acceptor
from tests.model.observation import Crash, Observer
from tests.planted_bugs import acknowledge_before_effect, new_id_on_timeout, send_before_commit

from finagent.bootstrap import Application, build_application
from finagent.drill.scenario import Scenario
from finagent.settings import Settings, load_settings

Build = Callable[..., AbstractAsyncContextManager[Application]]
FEWER = (  # symbols and candidates, and more that gets no answer
    "broker.address=null",
    "market_data.simulated.symbols=150",
    "scan.candidates_max=30",
    "broker.faults.dropped=0.3",
    "broker.faults.refused=0.1",
    "broker.faults.look_up_withheld=0.4",
)
NOWHERE = ("", 0)
CRASHES = (
    ("before the commit of execute", 2),
    ("after the commit of execute", 3),
    ("before a send", 1),
    ("before an answer", 1),
    ("before an answer", 3),
    ("before the commit of send", 2),
    ("after the commit of send", 3),
    ("looked up", 2),
    ("before the commit of resolve", 1),
    ("after the commit of resolve", 1),
)


@pytest.fixture(scope="module")
def acceptor() -> Acceptor:
    return Acceptor()


def faulted_day(folder: Path) -> Settings:
    """The day of the drill with fewer symbols, its broker in this process."""
    scenario = Scenario(1, folder, None)
    return load_settings(overrides=(*scenario.overrides(folder / "storage"), *FEWER))


async def replay(settings: Settings, observer: Observer, build: Build = build_application) -> bool:
    """One process: to the end of the day, or to its crash (False)."""
    observer.passages.clear()
    ended = False
    try:
        async with build(settings, wraps=observer.wraps()) as application:
            ended = await application.run()
    except* Crash:
        observer.crashed()
    return ended


def refusals(observer: Observer, acceptor: Acceptor, *, ended: bool = True) -> list[str]:
    return [f"{name}: {refusal}" for name, trace in observer.traces.items() if (refusal := acceptor.refusal(trace, ended=ended))]


def test_every_order_of_a_faulted_day_is_a_path_of_the_model(tmp_path: Path, acceptor: Acceptor) -> None:
    observer = Observer()
    assert asyncio.run(replay(faulted_day(tmp_path), observer))
    lines = {line for trace in observer.traces.values() for line in trace}

    assert refusals(observer, acceptor) == []
    assert len(observer.traces) >= 20
    assert {"answer: CONFIRMED", "answer: REFUSED", "answer: UNRESOLVED", "look-up: UNKNOWN", "look-up: NO"} <= lines
    assert {"commits: sent again", "commits: again", "observes: FILLED", "observes: CANCELLED"} <= lines
    assert set(observer.traces) == asked_for(tmp_path / "storage")


def asked_for(storage: Path) -> set[str]:
    """The ids that stand in the broker's own ledger: the observer missed none."""
    connection = sqlite3.connect(f"file:{storage / 'broker-simulator.db'}?mode=ro", uri=True)
    asked = {name for (name,) in connection.execute("SELECT client_order_id FROM ledger_request WHERE method = 'POST'")}
    connection.close()
    return asked


def test_a_day_of_crashes_is_a_path_of_the_model(tmp_path: Path, acceptor: Acceptor) -> None:
    """One crash after the other on one store, at every place of the protocol, then to the end."""
    settings, observer = faulted_day(tmp_path), Observer()
    ended = []
    for observer.crash_at in (*CRASHES, NOWHERE):
        ended.append(asyncio.run(replay(settings, observer)))
    lines = {line for trace in observer.traces.values() for line in trace}

    assert refusals(observer, acceptor) == []
    assert ended == [False] * len(CRASHES) + [True]
    assert {"look-up: YES", "look-up: NO", "look-up: UNKNOWN"} <= lines


@asynccontextmanager
async def halted(settings: Settings, **overrides: Any) -> AsyncIterator[Application]:
    """The agent, with a person who halts it as it starts."""
    async with build_application(settings, **overrides) as application:
        await application.kill_switch.halt("by hand", "person")
        yield application


def test_a_day_halted_while_orders_are_sent_is_a_path_of_the_model(tmp_path: Path, acceptor: Acceptor) -> None:
    settings, observer = faulted_day(tmp_path), Observer(crash_at=("before an answer", 3))
    assert not asyncio.run(replay(settings, observer))
    observer.crash_at = NOWHERE
    assert asyncio.run(replay(settings, observer, halted))
    entries = [observer.traces[name] for name in observer.entries]

    assert refusals(observer, acceptor) == []
    assert sum("hands over" in trace for trace in entries) == 3
    assert sum("commits: DENIED" in trace for trace in entries) >= 3


PLANTED = {
    "send before commit": (send_before_commit.application, "hands over"),
    "new id on time-out": (new_id_on_timeout.application, "hands over"),
    "acknowledgement before effect": (acknowledge_before_effect.application, "commits: nothing"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_leaves_the_model(tmp_path: Path, acceptor: Acceptor, bug: str) -> None:
    build, where = PLANTED[bug]
    observer = Observer()
    with contextlib.suppress(Exception):
        asyncio.run(replay(faulted_day(tmp_path), observer, build))
    found = refusals(observer, acceptor, ended=False)

    assert found
    assert any(f"{where}: the model has no such step here" in refusal for refusal in found), found[:3]
