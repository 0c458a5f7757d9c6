"""F-64: what any release has stored, this one runs; and nobody changes a payload without a new version of it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.stores import START, SqliteStore
from tests.golden.job_payloads import Row, golden, replayed, shape

from finagent.domain.jobs import JOB_TYPES
from finagent.domain.payloads import THIS_RELEASE, UPCASTERS

CURRENT = {(kind.name, kind.version) for kind in JOB_TYPES.values()}
SHAPES_OF_TODAY = {
    (row["type"], shape(json.loads(row["payload"]))) for row in golden() if (row["type"], row["payload_version"]) in CURRENT
}


def test_every_type_and_version_has_a_golden_payload() -> None:
    ever = {(kind.name, version) for kind in JOB_TYPES.values() for version in range(1, kind.version + 1)}

    assert {(row["type"], row["payload_version"]) for row in golden()} == ever
    assert set(UPCASTERS) == ever - CURRENT


@pytest.mark.parametrize("row", golden(), ids=lambda row: f"{row['type']}.v{row['payload_version']}-{row['id']}")
async def test_a_stored_job_of_any_release_is_claimed_ready_for_its_handler(tmp_path: Path, row: Row) -> None:
    store = SqliteStore(tmp_path / "finagent.db")
    waits = row | {"status": "READY", "epoch": 0, "run_at": START.isoformat(), "started_at": None, "finished_at": None}
    with closing(sqlite3.connect(store.path)) as database, database:
        names = ", ".join(waits)
        database.execute(f"INSERT INTO job_queue ({names}) VALUES ({', '.join('?' * len(waits))})", tuple(waits.values()))
    store.open()
    await store.queue.recover()

    (job,) = await store.queue.claim(START, 1)

    assert (job.id, job.type, job.payload_version) == (row["id"], row["type"], THIS_RELEASE.types[row["type"]].version)
    assert (job.type, shape(job.payload)) in SHAPES_OF_TODAY
    await store.close()


def test_the_pipeline_publishes_the_golden_shapes_and_no_others() -> None:
    """A payload has changed? Raise `version` of its JobType, write an upcaster from the last version (`domain/payloads.py`), and
    run `python -m tests.golden.job_payloads`."""
    published = {(row["type"], shape(json.loads(row["payload"]))) for row in replayed()}

    assert published == SHAPES_OF_TODAY
