"""One process a store."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from finagent.adapters.database.lock import DatabaseLock
from finagent.domain.errors import BadInput, Unavailable

HOLDER = """
import sys, time
from pathlib import Path
from finagent.adapters.database.lock import DatabaseLock
DatabaseLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_is_there_and_a_kill_frees_the_lock(tmp_path: Path) -> None:
    database = tmp_path / "finagent.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(BadInput, match=f"process {holder.pid} on {socket.gethostname()}"):
            DatabaseLock(database).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)

    with DatabaseLock(database):
        assert (tmp_path / "finagent.db.lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_the_lock_is_free_again_after_its_release(tmp_path: Path) -> None:
    first, second = DatabaseLock(tmp_path / "finagent.db"), DatabaseLock(tmp_path / "finagent.db")
    first.acquire()
    with pytest.raises(BadInput):
        second.acquire()

    first.release()
    first.release()

    second.acquire()
    second.release()


def test_a_program_that_is_started_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = DatabaseLock(tmp_path / "finagent.db")
    lock.acquire()
    program = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        lock.release()
        with DatabaseLock(tmp_path / "finagent.db"):
            pass
        child.kill()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nowhere/finagent\.db\.lock"):
        DatabaseLock(tmp_path / "nowhere" / "finagent.db").acquire()
