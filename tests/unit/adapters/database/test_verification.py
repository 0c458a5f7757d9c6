"""Every single change of one row is found, and so is a byte changed behind SQLite's back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.database.story import Story

from finagent.adapters.database import tables
from finagent.adapters.database.anchor import AnchorFile
from finagent.adapters.database.verification import Part, Soundness, verify, verify_file
from finagent.domain.errors import Unavailable

EVENT_COLUMNS = [column.name for column in tables.decision_event.columns if column.name != "event_id"]
SEAL_COLUMNS = [column.name for column in tables.audit_seal.columns if column.name != "number"]


@contextmanager
def changed(story: Story, *statements: str) -> Iterator[Soundness]:
    """What is found while these changes are in force."""
    story.connection.execute("BEGIN")
    for statement in statements:
        assert story.connection.execute(statement).rowcount
    try:
        yield verify(story, AnchorFile(story.file.path))
    finally:
        story.connection.execute("ROLLBACK")


def test_a_sound_store_is_sound(story: Story) -> None:
    found = verify(story, AnchorFile(story.file.path))

    assert (found.faults, found.events, found.seals, found.first_bad_event) == ([], 60, 6, None)


@pytest.mark.parametrize("column", EVENT_COLUMNS)
def test_an_edit_of_any_column_of_any_event_is_found(story: Story, column: str) -> None:
    """F-83, edited: integers move by one, texts change one character, and NULL becomes a text."""
    changes = {
        "number": "number + 100",
        "subject_type": "'RUN'",
        "subject_id": "subject_id || 'x'",
        "previous_hash": "printf('%064d', 7)",
        "hash": "printf('%064d', 7)",
    }
    for event_id in range(1, story.events + 1):
        set_to = changes.get(column, f"coalesce({column}, '') || ' '")
        with changed(story, f"UPDATE decision_event SET {column} = {set_to} WHERE event_id = {event_id}") as found:
            assert Part.CHAIN in {fault.part for fault in found.faults}
            assert found.first_bad_event is not None
            assert found.first_bad_event <= event_id + 5  # of its own chain, or the next event of the chain that it left


def test_a_deleted_event_is_found(story: Story) -> None:
    """F-83, deleted: the hole is named; the last one is known to the anchor alone."""
    for event_id in range(1, story.events + 1):
        with changed(story, f"DELETE FROM decision_event WHERE event_id = {event_id}") as found:
            if event_id < story.events:
                assert found.first_bad_event == event_id
            else:
                assert [fault.part for fault in found.faults] == [Part.ANCHOR]


def test_two_events_in_each_others_place_are_found(story: Story) -> None:
    """F-83, reordered: of the same chain and of two chains."""
    swap = "UPDATE decision_event SET event_id = {to} WHERE event_id = {of}"
    for one, other in [(n, n + 1) for n in range(1, story.events)] + [(n, n + 5) for n in range(1, story.events - 4)]:
        moves = [(0, one), (one, other), (other, 0)]
        with changed(story, *(swap.format(to=to, of=of) for to, of in moves)) as found:
            assert found.first_bad_event == one


def test_a_tail_cut_off_is_found_by_the_anchor(story: Story) -> None:
    """F-83, cut: any number of the newest events, with the seals over them."""
    for last in range(story.events):
        cut = [f"DELETE FROM decision_event WHERE event_id > {last}"]
        if last < 54:
            cut.append(f"DELETE FROM audit_seal WHERE last_event > {last}")
        with changed(story, *cut) as found:
            assert Part.ANCHOR in {fault.part for fault in found.faults}


def test_a_story_told_anew_is_found_by_the_seals(story: Story) -> None:
    """Whoever rewrites an event, its hash and all hashes behind it has still not rewritten the seals; nor, with them, the
    anchor."""
    story.connection.execute("BEGIN")
    story.connection.execute("DELETE FROM decision_event")
    story.connection.execute("COMMIT")
    story.events = 0
    story.tell(60, subjects=4)

    found = verify(story, AnchorFile(story.file.path))
    assert {fault.part for fault in found.faults} == {Part.SEAL, Part.ANCHOR}
    story.connection.execute("DELETE FROM audit_seal")
    story.seal(9)
    assert {fault.part for fault in verify(story, AnchorFile(story.file.path)).faults} == {Part.ANCHOR}


@pytest.mark.parametrize("column", SEAL_COLUMNS)
def test_an_edit_of_a_seal_is_found(story: Story, column: str) -> None:
    changes: dict[str, Any] = {"first_event": "first_event + 1", "last_event": "last_event - 1", "at": "at || ' '"}
    for number in range(1, 7):
        set_to = changes.get(column, "printf('%064d', 7)")
        with changed(story, f"UPDATE audit_seal SET {column} = {set_to} WHERE number = {number}") as found:
            assert {fault.part for fault in found.faults} <= {Part.SEAL, Part.ANCHOR}
            assert found.faults


def test_a_seal_deleted_or_in_anothers_place_is_found(story: Story) -> None:
    for number in range(1, 7):
        with changed(story, f"DELETE FROM audit_seal WHERE number = {number}") as found:
            assert found.faults
    swap = "UPDATE audit_seal SET number = {to} WHERE number = {of}"
    with changed(story, *(swap.format(to=to, of=of) for to, of in [(0, 2), (2, 3), (3, 0)])) as found:
        assert Part.SEAL in {fault.part for fault in found.faults}


def test_a_value_that_no_event_has_is_a_fault_not_a_failure(story: Story) -> None:
    with changed(story, "UPDATE decision_event SET body = x'00ff' WHERE event_id = 4") as found:
        assert (found.first_bad_event, found.faults[0].part) == (4, Part.CHAIN)


def test_a_row_that_points_nowhere_is_named(story: Story) -> None:
    with changed(story, "INSERT INTO symbol_run VALUES ('run-0', 'IBM', 's', 's', '')") as found:
        assert [(fault.part, fault.message) for fault in found.faults] == [
            (Part.REFERENCE, "row 1 of symbol_run: no such pipeline_run")
        ]


def test_an_anchor_that_cannot_be_read_is_a_fault(story: Story) -> None:
    story.file.path.write_text("torn")
    assert [fault.part for fault in verify(story, AnchorFile(story.file.path)).faults] == [Part.ANCHOR]
    assert verify(story, None).faults == []


def test_a_changed_byte_in_the_story_is_found(story: Story) -> None:
    """F-16: one bit of one byte of any value of an event, in the page on the disk; SQLite's own check finds none of these."""
    story.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    sound = story.path.read_bytes()
    draw = random.Random(7)
    texts = [
        str(row[0]).encode() for row in story.rows("SELECT hash FROM decision_event UNION ALL SELECT body FROM decision_event")
    ]
    missed = 0
    for text in draw.sample(texts, 40):
        place = sound.index(text) + draw.randrange(len(text))
        spoiled = bytearray(sound)
        spoiled[place] ^= 1 << draw.randrange(7)
        copy = story.path.with_name("spoiled.db")
        copy.write_bytes(spoiled)
        found = verify_file(copy, AnchorFile(story.file.path))
        assert Part.CHAIN in {fault.part for fault in found.faults}
        missed += Part.FILE not in {fault.part for fault in found.faults}
    assert missed > 30


def test_a_file_that_is_no_database_is_a_fault_and_no_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database at all" * 100)

    assert [fault.part for fault in verify_file(tmp_path / "text.db", None).faults] == [Part.FILE]
    with pytest.raises(Unavailable, match="no database at"):
        verify_file(tmp_path / "none.db", None)


def test_a_page_that_cannot_be_read_is_a_fault(story: Story) -> None:
    story.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = story.path.read_bytes()
    copy = story.path.with_name("spoiled.db")
    (root,) = story.rows("SELECT rootpage FROM sqlite_master WHERE name = 'decision_event'")[0]
    copy.write_bytes(content[: (root - 1) * 4096] + b"\xff" * 4096 + content[root * 4096 :])

    assert Part.FILE in {fault.part for fault in verify_file(copy, None).faults}
