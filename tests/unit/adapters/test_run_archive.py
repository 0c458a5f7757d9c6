"""A folder is made free without losing anything."""

from pathlib import Path

import pytest

from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.run_archive import archive
from finagent.domain.errors import BadInput


def test_everything_moves_to_the_next_free_place_and_the_halt_stays(tmp_path: Path) -> None:
    """Twice archived, two places; a HALT file holds for the next replay too."""
    for content in ("one", "two"):
        for name in ("finagent.db", "finagent.db-wal", "broker-simulator.db", "HALT"):
            (tmp_path / name).write_text(content)
        (tmp_path / "reports").mkdir(exist_ok=True)
        archive(tmp_path / "finagent.db", tmp_path / "anchor")

    assert (tmp_path / "runs" / "0001" / "finagent.db").read_text() == "one"
    assert {one.name for one in (tmp_path / "runs" / "0002").iterdir()} == {
        "finagent.db",
        "finagent.db-wal",
        "broker-simulator.db",
        "reports",
    }
    assert {one.name for one in tmp_path.iterdir()} == {"runs", "HALT", "finagent.db.lock"}


def test_the_anchor_goes_along_wherever_it_lies(tmp_path: Path) -> None:
    """Also alone: a store deleted by hand leaves an anchor that would object to the next one."""
    (tmp_path / "var").mkdir()
    for content in ("one", "two"):
        (tmp_path / "anchor").write_text(content)
        archive(tmp_path / "var" / "finagent.db", tmp_path / "anchor")

    assert (tmp_path / "var" / "runs" / "0001" / "anchor").read_text() == "one"
    assert (tmp_path / "var" / "runs" / "0002" / "anchor").read_text() == "two"
    assert not (tmp_path / "anchor").exists()


def test_a_folder_without_a_store_is_left_alone(tmp_path: Path) -> None:
    """Nothing to archive is no error and makes nothing."""
    assert archive(tmp_path / "finagent.db", tmp_path / "anchor") is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Not from under a running agent."""
    (tmp_path / "finagent.db").touch()
    with DatabaseLock(tmp_path / "finagent.db"), pytest.raises(BadInput, match="in use"):
        archive(tmp_path / "finagent.db", tmp_path / "anchor")
