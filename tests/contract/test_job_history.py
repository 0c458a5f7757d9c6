"""What a person sees of the queue, on every store that has a history: the JobHistory port."""

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract.stores import (
    POSTGRES,
    START,
    WRITER,
    DurableStore,
    SqlStore,
    blocking,
    postgres_database,
    run_statements,
)

from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.postgres import PostgresReads
from finagent.adapters.database.reader import SqliteReads, StoreReads
from finagent.adapters.job_queue.history import StoredJobHistory
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput
from finagent.domain.jobs import JobStatus, Next
from finagent.services.failpoints import unarmed
from finagent.services.forensics.job_history import JobCount, JobFilter

both = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
async def history(store: DurableStore) -> StoredJobHistory:
    """Three scores of two decisions, one of them dead, one discarded; a send that is parked; a scan of tomorrow."""
    assert isinstance(store, SqlStore)
    of_d, of_e, given_up, send, _ = await store.queue.submit(
        Effect(
            next=(
                Next("score", "score:d_1", {"decision_id": "d_1"}, trace_id="trace-1"),
                Next("score", "score:dx1", {"decision_id": "dx1"}, trace_id="trace-2"),
                Next("score", "score:f", {"decision_id": "f%"}),
                Next("send", "send:d_1", {"decision_id": "d_1", "client_order_id": "fa-1"}),
                Next("plan", "plan:d_1", {"decision_id": "d_1"}),
                Next("scan", "scan:tomorrow", run_at=START + timedelta(days=1)),
            )
        )
    )
    await store.queue.release([of_e])
    await store.queue.fail(of_d, "TimeoutError: 100% of the Budget", None)
    await store.queue.fail(given_up, "TimeoutError: 100 of the budget", None)
    await store.queue.discard(given_up.id, "known fault", "ann")
    await store.queue.fail(send, "no answer", None)
    store.clock.set(START + timedelta(hours=1))
    await store.queue.submit(Effect(next=(Next("report", "report:late"),)))
    return StoredJobHistory(store.reads)


@both
@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (JobFilter(status=JobStatus.DEAD), ["score:f", "score:d_1"]),
        (JobFilter(type="score"), ["score:f", "score:dx1", "score:d_1"]),
        (JobFilter(type="score", status=JobStatus.READY), ["score:dx1"]),
        (JobFilter(queue="sender"), ["send:d_1"]),
        (JobFilter(about="d_1"), ["plan:d_1", "send:d_1", "score:d_1"]),
        (JobFilter(about="fa-1"), ["send:d_1"]),
        (JobFilter(about="f%"), ["score:f"]),
        (JobFilter(about="trace-2"), ["score:dx1"]),
        (JobFilter(about="d"), []),
        (JobFilter(key="score:d_"), ["score:d_1"]),
        (JobFilter(key="SCORE"), []),
        (JobFilter(created_before=START), []),
        (JobFilter(created_before=START + timedelta(seconds=1), queue="scheduler"), []),
        (JobFilter(created_before=START + timedelta(hours=2), queue="scheduler"), ["report:late"]),
        (JobFilter(error="timeouterror: 100%"), ["score:d_1"]),
        (JobFilter(error="of the b"), ["score:f", "score:d_1"]),
        (JobFilter(waits_for_a_person=True), ["send:d_1", "score:d_1"]),
        (JobFilter(waits_for_a_person=True, status=JobStatus.DEAD), ["score:d_1"]),
    ],
)
def test_every_condition_must_be_met(history: StoredJobHistory, wanted: JobFilter, keys: list[str]) -> None:
    """Newest first; what LIKE takes for anything is taken as it stands."""
    assert [job.dedup_key for job in history.listed(wanted, 10)] == keys
    assert [job.dedup_key for job in history.listed(wanted, 1)] == keys[:1]


@both
def test_the_counts_say_how_long_work_waits(history: StoredJobHistory) -> None:
    """By type, service and state; a job of tomorrow is not due."""
    now = START + timedelta(hours=1)

    assert history.counts(now) == [
        JobCount("plan", "planner", JobStatus.RUNNING, 1, None),
        JobCount("report", "scheduler", JobStatus.RUNNING, 1, None),
        JobCount("scan", "scanner", JobStatus.SCHEDULED, 1, None),
        JobCount("score", "scoring", JobStatus.DEAD, 2, None),
        JobCount("score", "scoring", JobStatus.READY, 1, START),
        JobCount("send", "sender", JobStatus.PARKED, 1, None),
    ]
    assert history.counts(START + timedelta(days=1))[2].oldest_due == START + timedelta(days=1)
    assert history.known() == (
        {"plan", "report", "scan", "score", "send"},
        {"planner", "scheduler", "scanner", "scoring", "sender"},
    )


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_store_of_another_release_says_so(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Before an agent has brought it up to date, or after a downgrade: no error of the database's own."""
    if store == "sqlite":
        upgrade(tmp_path / "finagent.db", WRITER, unarmed)
        with closing(sqlite3.connect(tmp_path / "finagent.db")) as database:
            database.execute("ALTER TABLE job_queue DROP COLUMN errors")
        assert_named(SqliteReads(tmp_path / "finagent.db"))
        return
    server = request.getfixturevalue("postgres_url")
    with postgres_database(server, f"finagent_test_older_{os.getpid()}") as url:
        blocking(run_statements(url, "ALTER TABLE job_queue DROP COLUMN errors"))
        assert_named(PostgresReads(url, POSTGRES))


def assert_named(reads: StoreReads) -> None:
    with closing(reads), pytest.raises(BadInput, match="tables of another release"):
        StoredJobHistory(reads).job(1)
