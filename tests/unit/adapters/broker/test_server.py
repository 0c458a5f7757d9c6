"""The broker as a process: killed, started again, and left alone in the middle of a frame."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.broker.scripted_day import ScriptedDay, ledger_rows
from tests.unit.adapters.broker.scripted_market import SESSIONS, make_broker

from finagent.adapters.broker.simulated.server import BrokerServer, main
from finagent.adapters.broker.simulated.transport import LENGTH, parse_address, to_frame
from finagent.adapters.broker.simulated.wire import request_to_json
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.time import to_text

ROOT = Path(__file__).parents[4]
FAULTS = {"dropped": 0.1, "reply_lost": 0.15, "late": 0.1, "late_minutes_max": 4}


class BrokerProcess:
    """The server's command in a process of its own, and a plain client of it."""

    def __init__(self, folder: Path, walk: int, kill_at: int = 0, label: str = "") -> None:
        self.path = folder / "b.sock"
        arguments = {"folder": str(folder), "walk": walk, "kill_at": kill_at, "label": label, **FAULTS}
        command = [sys.executable, "-m", "finagent.adapters.broker.simulated.server", "--address", f"unix:{self.path}"]
        command += ["--broker", "tests.unit.adapters.broker.scripted_market:broker_of", "--arguments", json.dumps(arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        self.connection: socket.socket | None = None
        assert self.process.stdout is not None
        assert self.process.stdout.readline().decode().strip() == f"unix:{self.path}"

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(self.path))
        return connection

    def handle(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Raises OSError or EOFError when the process died."""
        if self.connection is None:
            self.connection = self.connect()
        self.connection.sendall(to_frame(frame))
        return answer_from(self.connection)

    def end(self) -> None:
        if self.connection is not None:
            self.connection.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def answer_from(connection: socket.socket) -> dict[str, Any]:
    with connection.makefile("rb") as stream:
        head = stream.read(LENGTH.size)
        if len(head) < LENGTH.size:
            raise EOFError("the broker is gone")
        answer: dict[str, Any] = json.loads(stream.read(LENGTH.unpack(head)[0]))
        return answer


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    processes: list[BrokerProcess] = []

    def start(*arguments: Any, **named: Any) -> BrokerProcess:
        processes.append(BrokerProcess(*arguments, **named))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.mark.drill
@pytest.mark.parametrize(("kill_at", "label"), [(3, "broker_commit.before"), (17, "broker_commit.after")])
def test_a_killed_broker_starts_again_where_it_was(tmp_path: Path, started: Any, kill_at: int, label: str) -> None:
    day = ScriptedDay(31, ("AAPL", "IBM"), minutes=60)
    ends, kills = [], 0
    for kill in (0, kill_at):
        folder = tmp_path / str(kill)
        folder.mkdir()
        broker = started(folder, 31, kill, label)
        for at in day.instants():
            try:
                day.play(at, broker.handle)
            except (OSError, EOFError):
                assert broker.process.wait(30) == -signal.SIGKILL
                kills += 1
                broker = started(folder, 31)
                day.play(at, broker.handle, again=True)
        broker.end()
        assert broker.process.returncode == 0
        ends.append(ledger_rows(folder))
    assert kills == 1
    assert len(ends[0]["ledger_execution"]) > 5
    assert ends[0] == ends[1]


@pytest.mark.drill
def test_whole_frames_of_a_dead_client_count_half_ones_do_not_and_the_next_client_waits(tmp_path: Path, started: Any) -> None:
    broker = started(tmp_path, 1)
    day = ScriptedDay(2, ("AAPL", "IBM"), minutes=60)
    at = to_text(SESSIONS[0].instant_of(1))
    first, second = [request for submits in day.submits.values() for request in submits][:2]
    with broker.connect() as dying:
        frames = to_frame({"method": "advance", "at": at}) + to_frame(
            {"method": "submit", "at": at, "request": request_to_json(first)}
        )
        half = to_frame({"method": "submit", "at": at, "request": request_to_json(second)})
        dying.sendall(frames + half[:-1])
    for request, status in ((first, 1), (second, 0)):
        broker.handle({"method": "look_up", "at": at, "client_order_id": request.client_order_id})
        logged = ledger_requests(tmp_path, request.client_order_id)
        assert [method for method, _ in logged].count("POST") == status


def ledger_requests(folder: Path, name: str) -> list[tuple[str, int]]:
    connection = sqlite3.connect(f"file:{folder / 'broker-simulator.db'}?mode=ro", uri=True)
    rows = connection.execute("SELECT method, status FROM ledger_request WHERE client_order_id = ?", (name,)).fetchall()
    connection.close()
    return rows


@pytest.mark.drill
def test_a_frame_that_is_not_json_or_too_long_ends_its_connection_only(tmp_path: Path, started: Any) -> None:
    broker = started(tmp_path, 1)
    for junk in (LENGTH.pack(3) + b"{]}", LENGTH.pack(2) + b"[]", LENGTH.pack(1 << 31), b"\x00"):
        with broker.connect() as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    assert broker.handle({"method": "barrier", "at": to_text(SESSIONS[0].opens_at)})["status"] == 200


def test_two_brokers_on_one_ledger_are_refused(tmp_path: Path) -> None:
    broker = make_broker(tmp_path)
    with pytest.raises(Unavailable, match="another broker"):
        make_broker(tmp_path)
    broker.close()
    make_broker(tmp_path).close()


def test_an_address_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="shorter folder"):
        parse_address(f"unix:{'x' * 120}")
    for address in ("pipe:x", "tcp:localhost", "tcp::", "unix:"):
        with pytest.raises(BadInput, match="not unix:PATH or tcp:HOST:PORT"):
            parse_address(address)
    broker = make_broker(tmp_path)
    with pytest.raises(Unavailable, match="cannot listen"):
        BrokerServer(broker, f"unix:{tmp_path}/absent/b.sock")
    broker.close()


def test_the_command_refuses_what_is_not_a_broker(tmp_path: Path) -> None:
    name = "tests.unit.adapters.broker.scripted_market:ScriptedMarket"
    with pytest.raises(BadInput, match="made a ScriptedMarket, not a SimulatedBroker"):
        main(["--broker", name, "--address", f"unix:{tmp_path}/b.sock"])
