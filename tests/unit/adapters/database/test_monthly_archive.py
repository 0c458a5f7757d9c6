"""The story by month: written once, verified ever after, readable with nothing of ours."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.database.story import Story

from finagent.adapters.database.events import EventChains
from finagent.adapters.database.monthly_archive import archive_month, closed_months
from finagent.adapters.database.seals import seal_next
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import Unavailable

FIRST = datetime(2008, 10, 30, 15, 0, tzinfo=UTC)


@pytest.fixture
def days(tmp_path: Path, empty_store: Path) -> Iterator[Story]:
    """An event a day from the 30th of October to the 3rd of January, a candidate with features and prediction in December; all
    sealed, fifteen events a seal."""
    told = Story(tmp_path, empty_store)
    events = [DecisionEvent(SubjectType.RUN, f"run-{day % 3}", "step", FIRST + timedelta(days=day)) for day in range(66)]
    chains = EventChains("build", "settings")
    told.events = chains.append(told.connection, [chains.encode(event) for event in events], 0)
    told.connection.executescript("""
        INSERT INTO pipeline_run VALUES
          ('run-0', 'first', '2008-12-01', '2008-12-01T14:35:00Z', 'SUCCESS', 1, 1, 0, '{}', '', NULL);
        INSERT INTO candidate VALUES ('dec-1', 'run-0', 'IBM', '2008-12-01', 'UP', 't', '2008-12-01T14:35:00Z', '{}');
        INSERT INTO feature_vector VALUES
          ('dec-1', '2008-12-01T14:35:00.000000Z', '2008-12-01T14:35:00.000000Z', 'spec', '[0.1]', 'GOOD');
        INSERT INTO prediction VALUES ('dec-1', 'model', 'spec', 0.1, '2008-12-01T14:35:00.000000Z');
    """)
    told.seal(15)
    yield told
    told.close()


def lines(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file) as packed:
        return [json.loads(line) for line in packed]


def test_closed_months_are_those_before_the_newest_event(days: Story, tmp_path: Path, empty_store: Path) -> None:
    assert closed_months(days, None) == ["2008-10", "2008-11", "2008-12"]
    assert closed_months(days, "2008-12") == ["2008-10", "2008-11"]
    assert closed_months(days, "2030-01") == ["2008-10", "2008-11", "2008-12", "2009-01"]
    (tmp_path / "new").mkdir()
    new = Story(tmp_path / "new", empty_store)
    assert closed_months(new, None) == []
    new.close()


def test_a_month_can_be_verified_with_nothing_of_ours(days: Story, tmp_path: Path) -> None:
    """Every row of the retained tables, the seals over the events, and a manifest that fits; the hashes fit the lines."""
    done = archive_month(days, tmp_path / "archive", "2008-12")

    assert (done.outcome, done.reason) == ("WRITTEN", "")
    file = tmp_path / "archive" / "2008-12.jsonl.gz"
    manifest = json.loads(file.with_name("2008-12.json").read_text())
    told = lines(file)
    assert manifest["rows"] == {"decision_event": 31, "feature_vector": 1, "prediction": 1, "audit_seal": 3} == done.rows
    assert manifest["sha256"] == hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
    assert (manifest["first_event"], manifest["last_event"]) == (33, 63)
    for line in told[:31]:
        row = line["row"]
        said = row.pop("hash")
        assert said == hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    seals = [line["row"] for line in told if line["table"] == "audit_seal"]
    assert [one["hash"] for one in manifest["seals"]] == [
        hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest() for row in seals
    ]


def test_a_second_time_it_is_verified_and_written_to_the_same_bytes(days: Story, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert archive_month(days, tmp_path / folder, "2008-11").outcome == "WRITTEN"
    assert archive_month(days, tmp_path / "one", "2008-11").outcome == "VERIFIED"
    for name in ("2008-11.jsonl.gz", "2008-11.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert days.rows("SELECT count(*) FROM decision_event") == [(66,)]


def test_a_month_without_its_last_seal_waits(days: Story, tmp_path: Path) -> None:
    days.connection.execute("DELETE FROM audit_seal WHERE number >= 5")
    assert archive_month(days, tmp_path / "archive", "2008-12").outcome == "UNSEALED"
    assert list((tmp_path / "archive").iterdir()) == []
    seal_next(FIRST, 100, days.connection, whole=False)
    assert archive_month(days, tmp_path / "archive", "2008-12").outcome == "WRITTEN"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("UPDATE prediction SET score = 0.2", "the store says otherwise"),
        ("UPDATE decision_event SET kind = 'other' WHERE event_id = 40", "the store says otherwise"),
        ("UPDATE audit_seal SET root_hash = '0' WHERE number = 4", "the store says otherwise"),
        ("lines", "is not what was written"),
        ("torn", "cannot be read"),
        ("gone", "cannot be read"),
        ("manifest", "is not a manifest"),
    ],
)
def test_a_difference_is_named(days: Story, tmp_path: Path, spoil: str, said: str) -> None:
    folder = tmp_path / "archive"
    file = folder / "2008-12.jsonl.gz"
    archive_month(days, folder, "2008-12")
    match spoil:
        case "lines":
            file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).split(b"\n", 1)[1]))
        case "torn":
            file.write_bytes(file.read_bytes()[:-20])
        case "gone":
            file.unlink()
        case "manifest":
            (folder / "2008-12.json").write_text("torn")
        case _:
            days.connection.execute(spoil)

    found = archive_month(days, folder, "2008-12")
    assert found.outcome == "DIFFERS"
    assert said in found.reason


def test_an_event_that_does_not_fit_its_hash_is_not_archived(days: Story, tmp_path: Path) -> None:
    days.connection.execute("UPDATE decision_event SET kind = 'other' WHERE event_id = 40")

    found = archive_month(days, tmp_path / "archive", "2008-12")
    assert (found.outcome, found.reason) == ("DIFFERS", "event 40 does not fit its hash")
    assert not (tmp_path / "archive" / "2008-12.json").exists()


def test_a_folder_that_cannot_be_written_is_named(days: Story, tmp_path: Path) -> None:
    (tmp_path / "archive").touch()
    with pytest.raises(Unavailable, match="cannot be written"):
        archive_month(days, tmp_path / "archive", "2008-12")
