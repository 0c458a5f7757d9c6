"""The anchor finds out a store that has lost its newest part, which is sound to everybody else."""

import json
import os
import stat
from pathlib import Path

import pytest
from tests.unit.adapters.database.story import Story

from finagent.adapters.database.anchor import Anchor, AnchorFile, head_of, objection
from finagent.domain.errors import BadInput, Unavailable


def found(story: Story) -> str:
    return objection(AnchorFile(story.file.path).read(), story)


def test_a_store_that_went_on_is_what_its_anchor_remembers(story: Story) -> None:
    assert found(story) == ""
    story.tell(5)
    story.seal(4)
    assert found(story) == ""


def test_the_head_is_the_last_event_the_last_seal_and_the_high_water_marks(story: Story) -> None:
    head = head_of(story, "now")

    assert head is not None
    assert (head.ledger_id, head.event_id, head.seal_number, head.epoch, head.next_job_id) == ("led-1", 60, 6, 3, 1001)
    assert [(head.event_hash,)] == story.rows("SELECT hash FROM decision_event WHERE event_id = 60")
    assert json.loads(story.file.path.read_text())["event_hash"] == head.event_hash


OLDER = {
    "a tail cut off": ("DELETE FROM decision_event WHERE event_id > 58", r"ends at event 58, the anchor remembers 60"),
    "another event in its place": (
        "UPDATE decision_event SET hash = printf('%064d', 7) WHERE event_id = 60",
        "event 60 is not the one",
    ),
    "a seal taken away": ("DELETE FROM audit_seal WHERE number = 6", "seal 6 is not the one"),
    "a seal rewritten": ("UPDATE audit_seal SET root_hash = printf('%064d', 7) WHERE number = 6", "seal 6 is not the one"),
    "fewer starts": ("UPDATE meta SET value = 2 WHERE key = 'epoch'", "epoch 2, the anchor remembers 3"),
    "fewer job ids": ("UPDATE meta SET value = 1 WHERE key = 'next_job_id'", "next_job_id 1, the anchor remembers 1001"),
    "another ledger": ("UPDATE ledger_identity SET ledger_id = 'led-2'", "remembers ledger led-1 .* holds ledger led-2"),
    "no ledger": ("DELETE FROM ledger_identity", "the database holds no ledger"),
    "a mark that nobody took away": ("INSERT INTO meta VALUES ('unaccepted', 1)", "nobody has accepted it yet"),
}


@pytest.mark.parametrize(("statement", "said"), OLDER.values(), ids=OLDER.keys())
def test_an_older_store_or_another_one_is_named(story: Story, statement: str, said: str) -> None:
    """F-15, F-18, F-83: whatever took the newest part away."""
    story.connection.execute(statement)

    with pytest.raises(AssertionError, match=said):
        assert not found(story), found(story)


def test_a_missing_anchor_is_an_objection_once_there_is_a_story(story: Story, tmp_path: Path, empty_store: Path) -> None:
    """F-83: removing the anchor is one of the ways to hide a cut tail."""
    story.file.path.unlink()
    assert found(story) == "there is no anchor, but the database holds 60 events"

    (tmp_path / "new").mkdir()
    new = Story(tmp_path / "new", empty_store)
    assert found(new) == ""
    new.close()


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json", '{"ledger_id": 7}', "\xff"])
def test_a_file_that_is_no_anchor_is_named(story: Story, text: str) -> None:
    story.file.path.write_text(text)
    with pytest.raises(BadInput, match="is not an anchor"):
        AnchorFile(story.file.path).read()


def test_an_anchor_with_a_value_of_another_type_is_named(story: Story) -> None:
    content = json.loads(story.file.path.read_text())
    story.file.path.write_text(json.dumps(content | {"event_id": "60"}))
    with pytest.raises(BadInput, match="is not an anchor"):
        AnchorFile(story.file.path).read()


ANCHOR = Anchor("led-1", 1, 1, 0, "0" * 64, 0, "0" * 64, "now")


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is durable under another name before it takes the place of the old one, and the old one is there until then."""
    file = AnchorFile(tmp_path / "anchor")
    file.write(ANCHOR)
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def watched_sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def watched_rename(path: Path, to: Path) -> Path:
        steps.append("rename")
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)

    def passed(label: str) -> None:
        steps.append(label)
        assert AnchorFile(file.path).read() == (ANCHOR if label == "anchor.before" else newer)

    newer = Anchor("led-1", 2, 1, 0, "0" * 64, 0, "0" * 64, "later")
    file.write(newer, passed)

    assert steps == ["file", "anchor.before", "rename", "anchor.after", "folder"]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_it_is_not_written_over_what_somebody_else_wrote(tmp_path: Path) -> None:
    """F-21: two agents on one ledger, each with a copy of the store, meet at the anchor."""
    one, other = AnchorFile(tmp_path / "anchor"), AnchorFile(tmp_path / "anchor")
    one.write(ANCHOR)
    other.read()
    other.write(Anchor("led-1", 2, 1, 0, "0" * 64, 0, "0" * 64, "later"))

    with pytest.raises(BadInput, match="written by another process"):
        one.write(ANCHOR)


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"anchor .*nowhere/anchor cannot be written"):
        AnchorFile(tmp_path / "nowhere" / "anchor").write(ANCHOR)
    (tmp_path / "anchor").mkdir()
    with pytest.raises(Unavailable, match="cannot be read"):
        AnchorFile(tmp_path / "anchor").read()
    (tmp_path / "anchor").rmdir()
    assert list(tmp_path.iterdir()) == []
