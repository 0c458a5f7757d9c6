"""Reading: by key on the loop, read-only for everybody but the writer."""

import os
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from finagent.adapters.database.engine import open_read_only, reading_engine
from finagent.adapters.database.reader import SqliteReads, StoreReads
from finagent.adapters.database.tables import position
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.runs import PipelineRun, RunState, Stage, SymbolRun, SymbolState

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)


@pytest.fixture
async def reads(open_queue: OpenQueue, database: Path) -> StoreReads:
    """Three positions, two snapshots, a run with two symbols."""
    queue = await open_queue()
    positions = [Position(symbol, size, Decimal("1.50"), Decimal(0), START) for symbol, size in (("B", 1), ("A", 0), ("C", 1))]
    day = date(2008, 10, 1)
    snapshots = [AccountSnapshot(day, kind, START, Decimal(100), Decimal(101), 1, 2) for kind in ("OPEN", "CLOSE")]
    run = PipelineRun("run", "open", day, START, RunState.RUNNING, 2, 0, 1, {"GAP": 1}, "", None)
    symbols = [
        SymbolRun("run", name, Stage.SCAN, state, "") for name, state in (("X", SymbolState.FAILED), ("Y", SymbolState.SUCCESS))
    ]
    await queue.submit(Effect(records=(*positions, *snapshots, run, *symbols)))
    return queue._reads


def test_a_record_by_its_key(reads: SqliteReads) -> None:
    assert reads.get(Position, "A") == Position("A", 0, Decimal("1.5"), Decimal(0), START)
    assert reads.get(Position, "Z") is None
    snapshot = reads.get(AccountSnapshot, date(2008, 10, 1), "CLOSE")
    assert snapshot is not None
    assert snapshot.kind == "CLOSE"


def test_records_by_their_columns_in_key_order(reads: SqliteReads) -> None:
    assert [each.symbol for each in reads.find(Position)] == ["A", "B", "C"]
    assert [each.symbol for each in reads.find(Position, quantity=1)] == ["B", "C"]
    assert [each.symbol for each in reads.find(Position, symbol=["C", "A", "Z"])] == ["A", "C"]
    assert reads.find(Position, symbol=()) == reads.find(Position, symbol=(), quantity=2) == []
    assert reads.count(Position, symbol=[], quantity=2) == 0
    assert [each.symbol for each in reads.find(SymbolRun, run_id="run", state=SymbolState.FAILED)] == ["X"]
    assert reads.find(PipelineRun, finished_at=None)[0].reasons == {"GAP": 1}
    assert reads.find(PipelineRun, finished_at=START) == []


def test_counts(reads: SqliteReads) -> None:
    assert reads.count(Position) == 3
    assert reads.count(Position, quantity=[1, 2]) == 2
    assert reads.count(Position, symbol=[]) == 0


def test_what_no_table_keeps_is_refused(reads: SqliteReads) -> None:
    with pytest.raises(BadInput, match="no table keeps str"):
        reads.get(str, "a")
    with pytest.raises(BadInput, match="Position has no column 'colour'"):
        reads.find(Position, colour="red")
    with pytest.raises(BadInput, match=r"Position\.quantity cannot hold 'many'"):
        reads.find(Position, quantity="many")


def test_a_reader_cannot_write(reads: SqliteReads) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reads.rows("DELETE FROM position")


async def test_reading_leaves_no_transaction_open(reads: SqliteReads, open_queue: OpenQueue, database: Path) -> None:
    """The log can be folded into the file right after a read: nobody holds an old snapshot."""
    reads.get(Position, "A")
    reads.find(Position)

    connection = sqlite3.connect(database)
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()

    assert busy == 0


async def test_the_asynchronous_engine_reads_and_cannot_write(reads: SqliteReads, database: Path) -> None:
    engine = reading_engine(database)
    async with engine.connect() as connection:
        assert (await connection.execute(select(func.count()).select_from(position))).scalar_one() == 3
        with pytest.raises(OperationalError, match="readonly"):
            await connection.execute(position.delete())
    await engine.dispose()


async def test_a_closed_store_can_be_read(open_queue: OpenQueue, database: Path) -> None:
    queue = await open_queue()
    await queue.submit(Effect(records=(Position("A", 0, Decimal(1), Decimal(0), START),)))
    queue._reads.close()
    await queue.close()
    assert os.listdir(database.parent) == ["finagent.db"]

    reads = SqliteReads(database)

    assert reads.count(Position) == 1
    reads.close()


def test_a_store_that_is_not_there_or_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no database at .*/finagent\.db"):
        open_read_only(tmp_path / "finagent.db")
    (tmp_path / "other.db").write_text("no database, but long enough to be looked at as one " * 10)
    with pytest.raises(Unavailable, match=r"cannot read the database .*/other\.db"):
        open_read_only(tmp_path / "other.db")
