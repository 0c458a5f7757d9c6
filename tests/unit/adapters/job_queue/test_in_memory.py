"""The queue in memory beside the one on disk: the same story leaves the same rows, to the last hash."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database import tables
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.job_queue.in_memory import InMemoryJobQueue
from finagent.adapters.job_queue.in_memory_records import InMemoryReads, InMemoryRecords
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, Conflict, FinagentError, InvariantViolated
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.jobs import Job, Next, RunSettled
from finagent.domain.portfolio import Position
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.trading_state import MarketClock
from finagent.services.failpoints import unarmed

START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
POLICY = DurableQueuePolicy(
    memory_limit=3,
    max_solo_crashes=1,
    attempts_max=5,
    id_block_size=1,
    done_retention_days=1,
    prune_batch_rows=1,
    error_length_max=20,
    errors_kept=3,
)
WRITER = WriterPolicy(1, 1000, group_operations_max=500, database_bytes_max=0, probe_bytes=4096)
WHO: dict[str, Any] = {"build_hash": "build", "settings_hash": "settings", "worker_id": "worker", "carries_market_clock": True}
Queue = SqliteJobQueue | InMemoryJobQueue


def in_memory(records: InMemoryRecords, clock: VirtualClock) -> InMemoryJobQueue:
    return InMemoryJobQueue(records, clock=clock, policy=POLICY, **WHO)


@pytest.fixture
def records() -> InMemoryRecords:
    return InMemoryRecords()


@pytest.fixture
async def queue(records: InMemoryRecords) -> InMemoryJobQueue:
    opened = in_memory(records, VirtualClock(START))
    await opened.recover()
    return opened


def a_position(symbol: str, quantity: int = 0) -> Position:
    return Position(symbol, quantity, Decimal(1), Decimal(0), START)


def a_run(state: RunState = RunState.RUNNING) -> PipelineRun:
    return PipelineRun("run", "open", date(2008, 10, 1), START, state, 4, 1, 0, {}, "", None)


def a_candidate(name: str) -> GapCandidate:
    facts = GapFacts(0.03, 100, 103, 104, 102, 103.5, 1e6, 2.0, 1e8, 5)
    return GapCandidate(name, "run", name.upper(), date(2008, 10, 1), Direction.UP, "trace", START, facts)


# -- the same story ----------------------------------------------------------------------------------------------------------


async def the_first_process(queue: Queue, clock: VirtualClock) -> None:
    """Publishes, claims, acknowledges, fails in every way, is refused; ends with two jobs RUNNING."""
    await queue.recover()
    await queue.submit(Effect(records=(MarketClock(1, "source", START, "OPEN"), a_run(), a_position("IBM", 1))))
    scored = DecisionEvent(SubjectType.DECISION, "a", "scored", START, "trace", "a", {"score": 0.5})
    published = tuple(Next("score", f"score:{name}", {"decision_id": name}, trace_id="trace") for name in "abcd")
    jobs = await queue.submit(Effect((a_candidate("a"), a_candidate("b")), published, (scored, scored)))
    clock.set(START + timedelta(seconds=1))
    await queue.submit(Effect(next=(Next("session", "later", run_at=START + timedelta(hours=1)), *published)), jobs[0])
    await queue.fail(jobs[1], "a long story of what went wrong", None)
    await queue.fail(jobs[2], "again", START + timedelta(seconds=3))
    clock.set(START + timedelta(seconds=2))
    sent = (Next("send", "send:a", {"decision_id": "a"}), Next("scan", "scan", {"run_id": "run"}, when=RunSettled("run")))
    outcome = DecisionOutcome("a", SignalOutcome.NO_TRADE, "score", START)
    parking, scanning = await queue.submit(Effect((outcome, Set(Position, ("IBM",), {"quantity": 2}, {"quantity": 1})), sent))
    for refused in (a_position("IBM"), Set(Position, ("IBM",), {"quantity": 3}, {"quantity": 1})):
        with pytest.raises(FinagentError):
            await queue.submit(Effect((a_position("AAPL"), refused), (Next("report", "never"),), (scored,)), scanning)
    await queue.fail(parking, "no answer", None)
    clock.set(START + timedelta(seconds=4))
    (claimed, *_) = await queue.claim(clock.now(), 10)
    await queue.release([claimed])
    await queue.claim(clock.now(), 1)
    await queue.close()


async def a_process_that_dies(queue: Queue, clock: VirtualClock) -> None:
    """Takes what it finds and ends."""
    await queue.recover()
    clock.set(clock.now() + timedelta(seconds=1))
    await queue.claim(clock.now(), 10)
    await queue.close()


async def the_last_process(queue: Queue, clock: VirtualClock) -> None:
    """Finds a killer or none, finishes one job, forgets an old one."""
    await queue.recover()
    clock.set(START + timedelta(days=2))
    for job in await queue.claim(clock.now(), 1):
        await queue.submit(Effect(next=(Next("report", "report", priority=3),)), job)
    assert await queue.prune() == 1
    await queue.close()


PROCESSES = (the_first_process, *[a_process_that_dies] * 6, the_last_process)


async def test_the_same_story_leaves_the_same_rows(tmp_path: Path, records: InMemoryRecords) -> None:
    path = tmp_path / "finagent.db"
    upgrade(path, WRITER, unarmed)
    reads = SqliteReads(path)
    on_disk, here = VirtualClock(START), VirtualClock(START)

    for number, process in enumerate(PROCESSES):
        durable = SqliteJobQueue(path, reads=reads, clock=on_disk, policy=POLICY, writer_policy=WRITER, failpoints=unarmed, **WHO)
        await process(durable, on_disk)
        volatile = in_memory(records, here)
        await process(volatile, here)

        for name, table in tables.metadata.tables.items():
            columns = [column.name for column in table.columns]
            quoted = ", ".join(f'"{column}"' for column in columns)
            kept = reads.rows(f'SELECT {quoted} FROM "{name}"')
            rows = [tuple([row[column] for column in columns]) for row in records.table(name).rows.values()]
            assert sorted(rows, key=repr) == sorted(kept, key=repr), f"{name} after process {number}"
        assert (volatile.counts(), volatile.next_due()) == (durable.counts(), durable.next_due())
    kinds = [event.kind for event in InMemoryReads(records).find(DecisionEvent)]
    assert kinds.count("job_dead") >= 2, "one failed, one killed its processes"
    assert "job_parked" in kinds
    clock = InMemoryReads(records).get(MarketClock, 1)
    assert clock is not None
    assert clock.at == START + timedelta(days=2), "the instant of the last commit"
    reads.close()


# -- what is the memory's own ------------------------------------------------------------------------------------------------


async def test_futures_resolve_on_the_next_turn_in_the_order_of_the_calls(queue: InMemoryJobQueue) -> None:
    resolved: list[asyncio.Future[list[Job]]] = []
    futures = [queue.submit(Effect(records=(a_position(symbol),))) for symbol in ("IBM", "IBM", "AAPL")]
    for future in futures:
        future.add_done_callback(resolved.append)

    assert not any(future.done() for future in futures)
    await asyncio.sleep(0)
    assert all(future.done() for future in futures)
    assert isinstance(futures[1].exception(), InvariantViolated)
    await asyncio.sleep(0)
    assert resolved == futures


async def test_a_queue_that_was_left_behind_is_fenced_off(queue: InMemoryJobQueue, records: InMemoryRecords) -> None:
    (job,) = await queue.submit(Effect(next=(Next("score", "a"),)))
    successor = in_memory(records, VirtualClock(START))
    (rescued,) = await successor.recover()

    for late in (queue.submit(Effect(), job), queue.claim(START, 1), queue.submit(Effect(records=(a_position("IBM"),)))):
        with pytest.raises(InvariantViolated, match="fenced"):
            await late
    assert rescued.id == job.id
    assert [each.id for each in await successor.claim(START, 1)] == [job.id]
    assert InMemoryReads(records).count(Position) == 0


async def test_a_cancelled_caller_of_a_refused_effect_is_let_go(queue: InMemoryJobQueue, records: InMemoryRecords) -> None:
    await queue.submit(Effect(records=(a_position("IBM"),)))
    queue.submit(Effect(records=(a_position("IBM"),))).cancel()
    queue.submit(Effect(records=(a_position("AAPL"),))).cancel()
    await queue.submit(Effect())

    assert InMemoryReads(records).count(Position) == 2


async def test_reads_give_fresh_objects_and_know_none_lists_and_order(queue: InMemoryJobQueue, records: InMemoryRecords) -> None:
    reads = InMemoryReads(records)
    await queue.submit(Effect(records=(a_run(), *map(a_position, ("MSFT", "AAPL", "IBM")))))
    await queue.submit(Effect(records=(a_candidate("b"), a_candidate("a")), next=(Next("score", "a", {"x": 1}),)))

    assert [each.symbol for each in reads.find(Position)] == ["AAPL", "IBM", "MSFT"]
    assert [each.symbol for each in reads.find(Position, symbol=["MSFT", "IBM", "GOOG"], quantity=0)] == ["IBM", "MSFT"]
    assert [each.decision_id for each in reads.find(GapCandidate, run_id="run")] == ["a", "b"]
    assert reads.count(GapCandidate, run_id="run", decision_id=("a", "c")) == 1
    assert reads.count(PipelineRun, finished_at=None) == 1
    assert reads.count(PipelineRun, finished_at=[None]) == 0
    assert reads.find(Position, symbol=[]) == []
    first, second = reads.find(Job)[0], reads.find(Job)[0]
    first.payload["x"] = 2
    assert second.payload == {"x": 1} == reads.find(Job)[0].payload
    with pytest.raises(BadInput, match="no column"):
        reads.find(Position, colour="red")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Set(Position, ("IBM",), {"quantity": None}), "NOT NULL constraint failed: position.quantity"),
        (Set(Position, ("IBM",), {"symbol": "AAPL"}), "cannot change"),
        (Set(GapCandidate, ("a",), {"run_id": "nowhere"}), "FOREIGN KEY constraint failed: candidate.run_id"),
        (Set(GapCandidate, ("a",), {"symbol": 7}), "candidate.symbol cannot hold 7"),
        (Set(Job, (1,), {"dedup_key": "second"}), "UNIQUE constraint failed: job_queue.dedup_key"),
    ],
)
async def test_a_change_that_breaks_a_constraint_is_undone(
    queue: InMemoryJobQueue, records: InMemoryRecords, change: Set, reason: str
) -> None:
    ready = (Next("score", "first"), Next("score", "second"))
    await queue.submit(Effect(records=(a_run(), a_candidate("a"), a_position("IBM")), next=ready))
    before = {name: dict(records.table(name).rows) for name in tables.metadata.tables}

    with pytest.raises(InvariantViolated, match=reason):
        await queue.submit(Effect(records=(a_position("MSFT"), change), next=(Next("score", "third"),)))

    assert {name: records.table(name).rows for name in tables.metadata.tables} == before
    await queue.submit(Effect(records=(Set(Position, ("IBM",), {"quantity": 5}, {"quantity": 0}),)))
    with pytest.raises(Conflict):
        await queue.submit(Effect(records=(Set(Position, ("GOOG",), {"quantity": 5}),)))


async def test_a_rollback_takes_back_events_and_orders(queue: InMemoryJobQueue, records: InMemoryRecords) -> None:
    event = DecisionEvent(SubjectType.RUN, "run", "done", START)
    later = Next("score", "later", run_at=START + timedelta(seconds=1))

    naive = Next("score", "naive", run_at=datetime(2008, 10, 2))  # noqa: DTZ001  the point of the case

    with pytest.raises(TypeError, match="naive"):  # met when the event and both jobs before it are written
        await queue.submit(Effect(next=(later, Next("score", "due"), naive), events=(event,)))
    await queue.submit(Effect(next=(later,), events=(event,)))

    assert records.number("next_job_id") == 2
    assert len(records.events.rows) == 1
    assert records.events.rows[1,]["number"] == 1
    assert queue.next_due() == START + timedelta(seconds=1)
    assert sum(queue.counts().values()) == 1
