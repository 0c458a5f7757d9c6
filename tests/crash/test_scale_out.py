"""Several processes on one store: four workers, and leaders that follow each other. Nothing is lost, nothing is sent twice."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.contract.stores import POSTGRES, postgres_database
from tests.contract.wire import Wire

from finagent.adapters.database.postgres import PostgresReads
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.job_queue.shared import LEADER
from finagent.domain.errors import Unavailable
from finagent.domain.trading_state import MarketClock
from finagent.drill.scenario import DAY, Scenario

WORKERS = 4
LEASE_SECONDS = 10  # twenty heartbeats: a machine with eight processes on two cores lets one of them wait for seconds
OPEN = datetime.fromisoformat(f"{DAY}T13:30:00+00:00").astimezone(UTC)
SHARED = (
    "queue.backend=postgres",
    f"queue.lease_seconds={LEASE_SECONDS}",
    "queue.heartbeat_seconds=0.5",
    "broker.call_seconds=3",
)
BROKER = """
import sys
from pathlib import Path
from finagent.adapters.broker.simulated.server import serve
from finagent.bootstrap import build_market, build_simulated_broker
from finagent.settings import load_settings
settings = load_settings(overrides=sys.argv[1:])
serve(build_simulated_broker(settings, build_market(settings)), settings.broker.address)
"""


@dataclass
class Floor:
    """Everything that runs, over one store and one broker."""

    folder: Path
    scenario: Scenario
    store: str | None
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def sets(self, place: str) -> list[str]:
        shared = [*SHARED, f"storage.url={self.store}"] if self.store else ["broker.call_seconds=3"]
        return [*self.scenario.overrides(self.folder / "broker" / "storage"), f"storage.directory={self.folder / place}", *shared]

    def start(self, name: str, *command: str) -> subprocess.Popen[str]:
        sets = [part for override in self.sets(name) for part in ("--set", override)]
        return self._popen(name, "-m", "finagent.cli", *command, "--json", *sets)

    def start_broker(self) -> None:
        (self.folder / "broker" / "storage").mkdir(parents=True)
        self._popen("broker", "-c", BROKER, *self.sets("broker/storage"))
        wait(lambda: self.scenario.broker_socket(self.folder / "broker" / "storage").exists(), self)

    def ended(self, name: str) -> tuple[int, str]:
        """Exit code and answer of a process that has come, or comes now, to its end."""
        process = self.processes[name]
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _popen(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes[name] = process
        return process


@contextmanager
def floor(folder: Path, store: str | None) -> Iterator[Floor]:
    folder.mkdir()
    with TemporaryDirectory(prefix="scale-") as sockets:
        made = Floor(folder, Scenario(1, Path(sockets), None), store)
        try:
            made.start_broker()
            yield made
        finally:
            for process in made.processes.values():
                process.kill()
                process.communicate()


def wait(happens: Any, made: Floor, seconds: float = 90) -> None:
    """Until it happens; shows what the processes said when it does not."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            said = "\n".join(
                f"== {name} ({process.poll()})\n{made.log(name)[-2000:]}" for name, process in made.processes.items()
            )
            pytest.fail(f"nothing happened for {seconds} s\n{said}")
        time.sleep(0.01)  # other processes move it


def leader(reads: StoreReads) -> str:
    found = reads.rows("SELECT worker_id FROM lease WHERE name = ?", (LEADER,))
    return found[0][0].rpartition("-")[2] if found else ""


def instant(reads: StoreReads) -> datetime:
    try:
        clock = reads.get(MarketClock, 1)
    except Unavailable:
        return OPEN
    return clock.at if clock else OPEN


def sent(made: Floor) -> list[tuple[Any, ...]]:
    """Every order in the broker's own ledger."""
    ledger = made.folder / "broker" / "storage" / "broker-simulator.db"
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT client_order_id, symbol, side, quantity, filled_quantity, status FROM ledger_order ORDER BY 1, 2"
        ).fetchall()


@dataclass(frozen=True)
class Reference:
    """The same day in one process on a file."""

    outcome_hash: str
    orders: list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    with floor(tmp_path_factory.mktemp("reference") / "alone", None) as alone:
        alone.start("agent", "orchestrate")
        ended, said = alone.ended("agent")
        assert ended == 0, alone.log("agent")[-3000:]
        return Reference(json.loads(said)["outcome_hash"], sent(alone))


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_a_store_that_is_away_stops_the_day_and_nothing_else(postgres_url: str, reference: Reference, tmp_path: Path) -> None:
    """F-23: without the store nothing is decided or sent; the agent ends with 4, and its next start goes on where it was."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres_database(postgres_url, f"finagent_away_{os.getpid()}"))
        wire = Wire(url)
        stack.callback(wire.close)
        made = stack.enter_context(floor(tmp_path / "shared", wire.url))
        reads = PostgresReads(url, POSTGRES)
        stack.callback(reads.close)

        made.start("agent", "orchestrate")
        wait(lambda: instant(reads) >= OPEN + timedelta(minutes=15), made)
        wire.cut()
        ended, _ = made.ended("agent")
        orders = len(sent(made))
        refused = made.start("refused", "orchestrate")
        without_store, _ = made.ended("refused")
        assert len(sent(made)) == orders, "nothing is sent that is not stored before"
        wire.mend()
        made.start("again", "orchestrate")
        finished, said = made.ended("again")

    assert refused.returncode == without_store == 4
    assert "cannot write the database" in made.log("refused") or "cannot reach the database" in made.log("refused")
    assert ended == 4, made.log("agent")[-3000:]
    assert finished == 0, made.log("again")[-3000:]
    assert json.loads(said)["outcome_hash"] == reference.outcome_hash
    assert sent(made) == reference.orders


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_leaders_fall_and_workers_die_and_the_day_ends_the_same(postgres_url: str, reference: Reference, tmp_path: Path) -> None:
    """Killed, and stopped past its lease and let go again: the next leader goes on, the old one ends by itself (F-06, F-21)."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres_database(postgres_url, f"finagent_scale_{os.getpid()}"))
        made = stack.enter_context(floor(tmp_path / "shared", url))
        reads = PostgresReads(url, POSTGRES)
        stack.callback(reads.close)
        first = made.start("first", "orchestrate")
        wait(lambda: leader(reads) == str(first.pid) and instant(reads) > OPEN - timedelta(days=1), made)
        workers = [made.start(f"worker-{number}", "worker") for number in range(WORKERS)]
        second = made.start("second", "orchestrate")

        wait(lambda: instant(reads) >= OPEN + timedelta(minutes=5), made)
        first.kill()
        workers[0].kill()
        wait(lambda: leader(reads) == str(second.pid), made)
        wait(lambda: instant(reads) >= OPEN + timedelta(minutes=15), made)
        second.send_signal(signal.SIGSTOP)
        third = made.start("third", "orchestrate")
        wait(lambda: leader(reads) == str(third.pid), made)
        second.send_signal(signal.SIGCONT)
        stopped, _ = made.ended("second")
        finished, said = made.ended("third")
        for worker in workers[1:]:
            worker.send_signal(signal.SIGTERM)
        ends = {name: made.ended(name) for name in (f"worker-{number}" for number in range(1, WORKERS))}

    for name, (code, _) in ends.items():
        assert code == 0, made.log(name)[-3000:]
    taken = [json.loads(told)["jobs"] for _, told in ends.values()]
    assert finished == 0, made.log("third")[-3000:]
    assert json.loads(said)["outcome_hash"] == reference.outcome_hash
    assert sent(made) == reference.orders
    assert stopped == 4
    assert "fenced" in made.log("second"), made.log("second")[-3000:]
    assert sum(sum(jobs.values()) for jobs in taken) > 0, taken
