"""`finagent db move` between real stores: equal at the end, resumed after any kill, and never two stores to use."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.contract.stores import POSTGRES, PostgresStore, blocking, postgres_database

from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.migrate import upgrade_postgres
from finagent.adapters.database.postgres import PostgresReads
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.database.tables import metadata
from finagent.adapters.store_move.plan import OF_THE_STORE_ITSELF
from finagent.cli.app import run
from finagent.domain.errors import BadInput
from finagent.services.failpoints import unarmed
from finagent.services.reporting.canonical import outcome_hash
from finagent_checker.check import check_folder

WINDOW = ("--set", "market_data.first_session=2008-10-13", "--set", "market_data.last_session=2008-10-14")
SMALL_BATCHES = ("--set", "database.move_batch_rows=7")
Rows = dict[str, list[tuple[Any, ...]]]


def of(folder: Path) -> tuple[str, ...]:
    return ("--set", f"storage.directory={folder}", "--set", "http.port=0")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished replay of two sessions."""
    folder = tmp_path_factory.mktemp("replayed")
    assert run(["orchestrate", "--json", *WINDOW, *of(folder)]) == 0
    return folder


@pytest.fixture
def folder(replayed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(replayed, tmp_path / "var", ignore=shutil.ignore_patterns("*.sock")))


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """A database of this module alone."""
    with postgres_database(postgres_url, f"finagent_move_{os.getpid()}") as url:
        yield url


@pytest.fixture
def server(database: str) -> str:
    """It, without a table."""
    on_server(database, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return database


def on_server(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run the statements as a person with a shell would; the rows of the last one."""

    async def work() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return [tuple(row) for row in await connection.fetch(statements[-1])]
        finally:
            await connection.close()

    found: list[tuple[Any, ...]] = blocking(work())
    return found


def on_file(folder: Path, *statements: str) -> list[tuple[Any, ...]]:
    """The same on a file."""
    connection = sqlite3.connect(folder / "finagent.db")
    for statement in statements:
        rows = connection.execute(statement).fetchall()
    connection.commit()
    connection.close()
    return rows


def everything(ask: Callable[[str], list[tuple[Any, ...]]]) -> Rows:
    """Every row of every table, sorted."""
    return {name: sorted(ask(f'SELECT * FROM "{name}"'), key=repr) for name in metadata.tables.keys() - OF_THE_STORE_ITSELF}


def in_file(folder: Path) -> Rows:
    return everything(lambda sql: on_file(folder, sql))


def in_database(url: str) -> Rows:
    return everything(lambda sql: on_server(url, sql))


def move(capsys: pytest.CaptureFixture[str], code: int, to: str, *more: str) -> Any:
    """The JSON document of a move that ends with that code."""
    capsys.readouterr()
    assert run(["db", "move", "--json", "--to", to, *more]) == code
    return json.loads(capsys.readouterr().out)


def test_to_a_server_and_back_every_row_is_the_same(
    folder: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both copies equal the first store row by row and in their outcome; the checker finds nothing in the one that came back."""
    before, back = in_file(folder), tmp_path / "back"
    there = move(capsys, 0, server, *of(folder))
    home = move(capsys, 0, f"sqlite:///{back}/finagent.db", "--from", server, *SMALL_BATCHES)

    assert in_database(server) == in_file(back) == before
    assert there["copied"] == home["copied"] == sum(map(len, before.values()))
    assert there["tables"] == home["tables"]
    assert there["tables"].keys() == before.keys()
    assert there["events"] == len(before["decision_event"]) > 50
    assert there["settings"] == {"storage.url": server, "queue.backend": "postgres"}
    assert home["settings"] == {"storage.url": None, "queue.backend": "sqlite", "storage.directory": str(back)}
    hashes = []
    for reads in (SqliteReads(folder / "finagent.db"), PostgresReads(server, POSTGRES), SqliteReads(back / "finagent.db")):
        hashes.append(outcome_hash(reads))
        reads.close()
    assert len(set(hashes)) == 1
    for name in ("broker-simulator.db", "anchor"):
        shutil.copy(folder / name, back)
    assert check_folder(back).violations == []


def test_after_the_move_no_process_starts_on_the_old_store(folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither an agent nor a writing command; they and the doctor say where the story goes on. Moving again says that it is
    done."""
    move(capsys, 0, server, *of(folder))

    for code, *command in ((2, "orchestrate", *WINDOW), (2, "arm", "--reason", "by mistake"), (3, "doctor")):
        assert run([*command, *of(folder)]) == code
        told = capsys.readouterr()
        assert f"moved to {server}" in told.err + told.out
        assert "db move --undo" in told.err + told.out
    for reader in ("status", "report"):  # they still show it, and say what it is
        assert run([reader, *of(folder)]) == 0
        told = capsys.readouterr()
        assert f"moved to {server}" in told.err + told.out
    assert move(capsys, 0, server, *of(folder))["already"] is True


def test_the_doctor_looks_for_the_mark_of_a_server_too(folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    move(capsys, 0, server, *of(folder))
    move(capsys, 0, server, "--undo", *of(folder))

    assert run(["doctor", "--set", f"storage.url={server}", "--set", "queue.backend=postgres", *of(folder)]) == 3
    assert "this store is an unfinished copy of" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "report", "jobs"])
def test_a_reading_command_refuses_a_backend_without_its_store(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, "list"] if command == "jobs" else [command]

    assert run([*words, "--set", "queue.backend=postgres", *of(folder)]) == 2
    assert "they go together" in capsys.readouterr().err


def test_taken_back_the_old_store_is_used_again_and_the_copy_is_not(
    folder: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--undo marks the copy, --drop-copy empties it; then the move can be made again."""
    move(capsys, 0, server, *of(folder))
    move(capsys, 0, server, "--undo", *of(folder))
    assert on_server(server, "SELECT state FROM store_move") == [("UNFINISHED",)]
    assert run(["orchestrate", "--json", *WINDOW, *of(folder)]) == 0

    assert move(capsys, 0, server, "--undo", "--drop-copy", *of(folder))["copy_dropped"] is True
    assert not any(in_database(server).values())
    assert move(capsys, 0, server, *of(folder))["copied"] > 200
    assert in_database(server) == in_file(folder)


KILLED = """
import os, signal, sys
from finagent.cli.app import run

left = int(sys.argv[1])
def dying(label):
    global left
    left -= label == sys.argv[2]
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
import finagent.services.failpoints
finagent.services.failpoints.unarmed = dying
sys.exit(run(sys.argv[3:]))
"""


def killed_at(label: str, passage: int, *arguments: str) -> int:
    """The exit code of a command whose process is killed at that passage of a failpoint."""
    child = subprocess.run([sys.executable, "-c", KILLED, str(passage), label, *arguments], capture_output=True, check=False)
    assert child.returncode in (0, -signal.SIGKILL), child.stderr.decode()
    return child.returncode


def test_a_day_that_was_killed_on_the_file_ends_on_the_server(
    replayed: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A send that the broker has and the store does not know: the agent on the copy takes it over and ends with the outcome of a
    day without a kill, and the checker judges that in a file again."""
    folder, back = tmp_path / "var", tmp_path / "back"
    assert killed_at("send.after", 2, "orchestrate", "--json", *WINDOW, *of(folder)) == -signal.SIGKILL
    assert on_file(folder, "SELECT count(*) FROM job_queue WHERE status = 'RUNNING'")[0][0] > 0
    settings = move(capsys, 0, server, *of(folder))["settings"]

    there = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    assert run(["orchestrate", "--json", *WINDOW, *of(folder), *there]) == 0
    final = json.loads(capsys.readouterr().out)
    assert final["recovered"]["finished"] is False
    move(capsys, 0, f"sqlite:///{back}/finagent.db", *of(folder), *there)

    reads = SqliteReads(replayed / "finagent.db")
    assert final["outcome_hash"] == outcome_hash(reads)
    reads.close()
    for name in ("broker-simulator.db", "anchor"):
        shutil.copy(folder / name, back)
    report = check_folder(back, replayed, complete=True)
    assert (report.violations, report.lost, report.duplicate, report.unequal) == ([], 0, 0, 0)


def test_killed_again_and_again_it_goes_on_to_the_same_end(folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed every 25 batches, it never copies a row twice; until the end the old store is the one to use."""
    before, lives = in_file(folder), 1
    while killed_at("move.batch", 25, "db", "move", "--to", server, *of(folder), *SMALL_BATCHES):
        lives += 1
        assert on_file(folder, "SELECT count(*) FROM store_move") == [(0,)]
        assert on_server(server, "SELECT state FROM store_move") == [("UNFINISHED",)]

    assert lives > 1
    assert in_database(server) == in_file(folder) == before
    assert move(capsys, 0, server, *of(folder))["already"] is True


def test_killed_between_the_two_marks_neither_store_is_used_until_it_is_run_again(
    folder: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both marks stand; the same command finishes, and --undo would take it back. So does a killed --undo."""
    assert killed_at("move.source_marked", 1, "db", "move", "--to", server, *of(folder)) == -signal.SIGKILL
    assert on_file(folder, "SELECT state FROM store_move") == [("MOVED",)]
    assert on_server(server, "SELECT state FROM store_move") == [("UNFINISHED",)]
    assert move(capsys, 0, server, *of(folder))["copied"] == 0
    assert on_server(server, "SELECT state FROM store_move") == []

    assert killed_at("move.target_marked", 1, "db", "move", "--to", server, "--undo", *of(folder)) == -signal.SIGKILL
    assert on_file(folder, "SELECT state FROM store_move") == [("MOVED",)]
    assert on_server(server, "SELECT state FROM store_move") == [("UNFINISHED",)]
    move(capsys, 0, server, "--undo", *of(folder))
    assert on_file(folder, "SELECT state FROM store_move") == []


def test_a_source_that_was_used_meanwhile_is_copied_anew(folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A half-made copy of an earlier state is dropped: what changed lies before the highest key too."""
    assert killed_at("move.batch", 20, "db", "move", "--to", server, *of(folder), *SMALL_BATCHES) == -signal.SIGKILL
    assert run(["arm", "--reason", "meanwhile", "--json", *of(folder)]) == 0

    done = move(capsys, 0, server, *of(folder))

    assert done["copied"] == sum(table["rows"] for table in done["tables"].values())
    assert in_database(server) == in_file(folder)


def test_every_planted_difference_is_named(folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed text, a float off by 1 %, a missing row, a row too many, a counter, a body under an old hash: exit 3, table and
    key. A float off by a millionth is not a difference. The source stays the one to use, and the copy is mended by a new one."""
    move(capsys, 0, server, *of(folder))
    move(capsys, 0, server, "--undo", *of(folder))
    (decision, near), (symbol,) = (
        sorted(on_server(server, "SELECT decision_id FROM prediction LIMIT 2")),
        on_server(server, "SELECT symbol FROM position LIMIT 1"),
    )
    ((execution,),) = on_server(server, "SELECT execution_id FROM fill ORDER BY execution_id LIMIT 1")
    on_server(
        server,
        f"UPDATE prediction SET score = score * 1.01 WHERE decision_id = '{decision[0]}'",
        f"UPDATE prediction SET score = score * 1.000001 WHERE decision_id = '{near[0]}'",
        f"UPDATE position SET cash_flow = '1' WHERE symbol = '{symbol[0]}'",
        f"DELETE FROM fill WHERE execution_id = '{execution}'",
        "UPDATE meta SET value = value - 1 WHERE key = 'next_job_id'",
        "INSERT INTO consumer_offset VALUES ('stranger', 1)",
        "UPDATE decision_event SET body = replace(body, '{', '{ ') WHERE event_id = 3",
    )

    found = move(capsys, 3, server, *of(folder))

    named = {(each["table"], each["key"]): each["message"] for each in found["differences"]}
    assert named.keys() == {
        ("prediction", decision[0]),
        ("position", symbol[0]),
        ("fill", execution),
        ("meta", "next_job_id"),
        ("consumer_offset", "stranger"),
        ("decision_event", "3"),
    }
    assert named["prediction", decision[0]].startswith("score differs: ")
    assert sum(each["message"].endswith("hash does not fit the row") for each in found["differences"]) == 1
    assert (found["moved"], found["settings"]) == (False, {})
    assert on_file(folder, "SELECT count(*) FROM store_move") == [(0,)]
    assert on_server(server, "SELECT state FROM store_move") == [("UNFINISHED",)]
    assert run(["db", "move", "--to", server, *of(folder)]) == 3
    assert f"fill {execution}: is missing in the copy" in capsys.readouterr().out

    move(capsys, 0, server, "--undo", "--drop-copy", *of(folder))
    move(capsys, 0, server, *of(folder))


def refused(capsys: pytest.CaptureFixture[str], code: int, to: str, *more: str) -> str:
    """What a move says that ends with that code before it has done anything."""
    capsys.readouterr()
    assert run(["db", "move", "--to", to, *more]) == code
    return capsys.readouterr().err


def test_a_target_that_holds_something_else_is_refused(
    folder: Path, replayed: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another ledger, an unfinished copy of one, rows that no move put there, the store itself; none of them is touched."""
    other = Path(shutil.copytree(replayed, tmp_path / "other", ignore=shutil.ignore_patterns("*.sock")))
    on_file(other, "UPDATE ledger_identity SET ledger_id = 'another'")
    move(capsys, 0, server, *of(folder))
    before = in_database(server)

    assert "holds ledger led-" in refused(capsys, 2, server, *of(other))
    assert "is not where" in refused(capsys, 2, server, "--undo", *of(other))
    move(capsys, 0, server, "--undo", *of(folder))
    assert "is an unfinished copy of ledger led-" in refused(capsys, 2, server, *of(other))
    assert "is itself an unfinished copy" in refused(capsys, 2, f"sqlite:///{tmp_path}/new/finagent.db", "--from", server)
    assert in_database(server) == before
    assert on_file(other, "SELECT count(*) FROM store_move") == [(0,)]

    move(capsys, 0, server, "--undo", "--drop-copy", *of(folder))
    on_server(server, "INSERT INTO meta VALUES ('epoch', 1)")
    assert "holds rows in meta that no move put there" in refused(capsys, 2, server, *of(folder))
    assert on_server(server, "SELECT * FROM meta") == [("epoch", 1)]
    on_file(folder, "DELETE FROM ledger_identity")
    assert "holds no ledger" in refused(capsys, 4, server, *of(folder))


def test_a_store_in_use_is_not_moved(folder: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A held lock and a living lease, at either end, name who it is."""
    with DatabaseLock(folder / "finagent.db"):
        assert f"process {os.getpid()}" in refused(capsys, 2, server, *of(folder))
    move(capsys, 0, server, *of(folder))
    on_server(server, "INSERT INTO lease VALUES ('leader', 9, 'agent-7', '', extract(epoch FROM clock_timestamp()) + 60)")
    assert "in use by agent-7" in refused(capsys, 2, f"sqlite:///{tmp_path}/new/finagent.db", "--from", server)
    assert "in use by agent-7" in refused(capsys, 2, server, "--undo", *of(folder))
    on_server(server, "UPDATE lease SET until = 0")
    impatient = ("--set", "database.connect_seconds=0.2")
    assert "both ends of this move" in refused(capsys, 2, server, "--from", server, *impatient)
    move(capsys, 0, f"sqlite:///{tmp_path}/new/finagent.db", "--from", server)


def test_what_a_process_did_on_the_copy_is_not_thrown_away(
    folder: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once something has started on the copy, the move is not taken back; the copy can be moved, not onto the old store."""
    move(capsys, 0, server, *of(folder))
    on_server(server, "UPDATE meta SET value = value + 2 WHERE key = 'epoch'")

    assert "2 starts have written" in refused(capsys, 2, server, "--undo", *of(folder))
    old = f"sqlite:///{folder}/finagent.db"
    assert "was itself moved to" in refused(capsys, 2, old, "--from", server)
    new = f"sqlite:///{tmp_path}/new/finagent.db"
    move(capsys, 0, new, "--from", server)
    move(capsys, 0, new, "--from", server, "--undo", "--drop-copy")
    assert not any(in_file(tmp_path / "new").values())
    move(capsys, 0, new, "--from", server)
    assert "there is nothing to take back" in refused(
        capsys, 2, server, "--undo", "--from", f"sqlite:///{tmp_path}/new/finagent.db"
    )


def test_what_the_other_database_cannot_hold_is_named_before_anything_is_copied(
    folder: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A NUL in a text, a value of another kind and a reference to nothing; the target gets no mark."""
    ((job,),) = on_file(folder, "SELECT min(id) FROM job_queue")
    ((order,),) = on_file(folder, "SELECT client_order_id FROM fill LIMIT 1")
    on_file(
        folder,
        f"UPDATE job_queue SET last_error = 'a' || char(0) || 'b' WHERE id = {job}",
        "UPDATE position SET quantity = 'many' WHERE symbol = (SELECT min(symbol) FROM position)",
        f"UPDATE fill SET client_order_id = 'nowhere' WHERE client_order_id = '{order}'",
    )

    found = {(each["table"], each["message"]) for each in move(capsys, 3, server, *of(folder))["differences"]}

    assert {table for table, _ in found} == {"job_queue", "position", "fill"}
    assert any(message.startswith("last_error holds a NUL") for _, message in found)
    assert ("fill", "client_order_id points to a row of order_intent that is not there") in found
    assert not any(in_database(server).values())
    assert on_server(server, "SELECT count(*) FROM store_move") == [(0,)]


async def test_no_queue_begins_a_life_on_an_unfinished_copy(database: str) -> None:
    """Refused in the transaction that would begin it: the epoch stays as it is."""
    upgrade_postgres(database, unarmed)
    store = PostgresStore(database)
    on_server(database, "INSERT INTO store_move VALUES (1, 'UNFINISHED', 'sqlite:////old/finagent.db', 'led', 1, 'now')")
    store.open()

    with pytest.raises(BadInput, match="unfinished copy of sqlite:////old/"):
        await store.queue.recover()

    await store.close()
    assert on_server(database, "SELECT (SELECT count(*) FROM meta), (SELECT count(*) FROM lease)") == [(0, 0)]


@pytest.mark.parametrize(
    ("to", "code", "told"),
    [
        ("mysql://somewhere/finagent", 2, "is no address of a store"),
        ("sqlite:///{tmp}/other.db", 2, "must be named finagent.db"),
        ("sqlite:///{tmp}/var/finagent.db", 2, "in use"),
        ("postgresql://postgres@127.0.0.1:1/none", 4, "cannot reach the database"),
    ],
)
def test_an_address_of_no_use_is_refused(
    to: str, code: int, told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, code, to.format(tmp=tmp_path), *of(folder))
    assert on_file(folder, "SELECT count(*) FROM store_move") == [(0,)]


def test_dropping_a_copy_is_part_of_taking_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--drop-copy goes with --undo" in refused(capsys, 2, "postgresql://x/y", "--drop-copy", *of(folder))
