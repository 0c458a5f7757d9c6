"""The fork server: children start from what it holds, their ends are told, and nobody outlives it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

PROGRAM = """
import os, signal, socket, sys
from finagent.drill.fork_server import serve
HELD = [os.getpid()]
def child(request):
    if request["do"] == "pause":
        signal.pause()
    if request["do"] == "raise":
        raise ValueError("the child's last words")
    if request["do"] == "look":
        print(HELD[0], os.getppid(), len(os.listdir("/proc/self/fd")), flush=True)
    return request.get("status", 0)
connection = socket.socket(fileno=int(sys.argv[1]))
serve(connection, child)
"""


class Server:
    def __init__(self, folder: Path) -> None:
        self.log = folder / "child.log"
        self.connection, theirs = socket.socketpair()
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(theirs.fileno())], pass_fds=(theirs.fileno(),))
        theirs.close()
        self.connection.settimeout(30)
        self.lines: IO[bytes] = self.connection.makefile("rb")
        self.answer("ready")

    def spawn(self, do: str, **more: Any) -> int:
        request = {"spawn": 1, "do": do, "log": str(self.log), **more}
        self.connection.sendall(json.dumps(request).encode() + b"\n")
        return int(self.answer("pid")["pid"])

    def answer(self, key: str) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.lines.readline())
        assert key in message
        return message


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.lines.close()
    running.connection.close()
    assert running.process.wait(30) == 0


def test_a_childs_end_is_told_with_its_exit_code(server: Server) -> None:
    pid = server.spawn("end", status=7)

    assert server.answer("ended") == {"ended": pid, "status": 7}


def test_a_killed_child_is_told_by_its_signal(server: Server) -> None:
    pid = server.spawn("pause")
    os.kill(pid, signal.SIGKILL)

    assert server.answer("ended") == {"ended": pid, "status": -signal.SIGKILL}


def test_an_error_of_a_child_stays_in_the_child_and_stands_in_its_log(server: Server) -> None:
    pid = server.spawn("raise")

    assert server.answer("ended") == {"ended": pid, "status": 1}
    assert "the child's last words" in server.log.read_text()
    server.spawn("end")
    server.answer("ended")


def test_a_child_shares_the_servers_memory_and_holds_none_of_its_descriptors(server: Server) -> None:
    server.spawn("look")
    server.answer("ended")

    held, parent, descriptors = map(int, server.log.read_text().split())
    assert held == parent == server.process.pid
    assert descriptors <= 4  # input, output, errors, and the one that counts


def test_children_end_with_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path)
    pid = server.spawn("pause")

    server.lines.close()
    server.connection.close()

    assert server.process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_with_threads_is_not_fit_to_be_forked() -> None:
    from finagent.drill.fork_server import serve

    ours, theirs = socket.socketpair()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="holds"):
            serve(theirs, lambda _: 0)
    finally:
        done.set()
        thread.join()
        ours.close()
        theirs.close()
