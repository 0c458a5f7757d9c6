"""The sums of a power-loss drill, and when they prove nothing; what the recording says of the commits in it."""

import json
import struct
from collections import Counter
from pathlib import Path

import pytest

from finagent.drill.disk import Damage
from finagent.drill.image import DATABASE, LOG, CrashImage, CrashImages, MadeImage, Verdict
from finagent.drill.power_loss import PowerLossReport
from finagent.drill.recording import Event, Name, Noted, Sync, Write

ENOUGH = {"acknowledgements": 300, "checkpoints": 20, "synchronous": "FULL"}


def image(number: int, *, unsure: bool = True) -> MadeImage:
    return MadeImage(CrashImage(5, number, Damage.TORN, 3), unsure, False, Counter(torn=2))


def report(images: int = 10, unsure: int = 10, **survey: int) -> PowerLossReport:
    made = PowerLossReport(seed=7, survey={**ENOUGH, **survey})
    for number in range(images):
        made.take(image(number, unsure=number < unsure), Verdict([], [], []))
    return made


def test_clean_images_are_a_proof() -> None:
    drill = report()

    drill.require_proof(10)

    assert not drill.failed
    document = json.loads(json.dumps(drill.as_json()))
    assert (document["images"], document["lost"], document["corrupt"], document["synchronous"]) == (10, 0, 0, "FULL")
    assert document["dealt"] == {"torn": 20}


@pytest.mark.parametrize(
    ("drill", "complaint"),
    [
        (report(acknowledgements=199), "acknowledgements"),
        (report(checkpoints=9), "checkpoints"),
        (report(images=9, unsure=9), "images"),
        (report(unsure=1), "unsure"),
    ],
)
def test_a_drill_that_risks_too_little_fails(drill: PowerLossReport, complaint: str) -> None:
    drill.require_proof(10)

    assert drill.failed
    assert [violation["subject"] for violation in drill.violations] == [complaint]


@pytest.mark.parametrize(
    ("verdict", "invariant", "lost", "corrupt"),
    [
        (Verdict(["one", "two"], [], []), "I9", 2, 0),
        (Verdict([], ["the start failed"], []), "I7", 0, 1),
        (Verdict([], [], [{"invariant": "I2", "subject": "s", "message": "m"}]), "I2", 0, 0),
    ],
)
def test_whatever_is_wrong_with_an_image_fails_the_drill(verdict: Verdict, invariant: str, lost: int, corrupt: int) -> None:
    drill = report()

    faults = drill.take(image(10), verdict)

    assert faults[0].startswith(invariant)
    assert drill.failed
    assert drill.violations[0]["invariant"] == invariant
    assert (drill.lost, drill.images_lost, drill.corrupt) == (lost, int(lost > 0), corrupt)


def frame(number: int, *, commit: bool) -> tuple[Event, Event]:
    """One page in SQLite's log: its header, in which the file's size marks the end of a commit, and the page."""
    offset = 32 + number * (24 + 4096)
    return Write(LOG, offset, struct.pack(">6I", 1, 5 if commit else 0, 0, 0, 0, 0)), Write(LOG, offset + 24, bytes(4096))


def recording(*events: Event) -> CrashImages:
    brokers = (Name(None, "broker-simulator.db"), Write("broker-simulator.db", 0, b"b"))
    begin = (Name(None, DATABASE), Name(None, LOG), Sync("", 4), Write(LOG, 0, bytes(32)))
    return CrashImages((*brokers, *begin, *events))


def test_a_commit_that_the_log_goes_on_after_without_a_sync_is_unsynced() -> None:
    first, second, third = frame(0, commit=False), frame(1, commit=True), frame(2, commit=True)
    told = Noted(b'{"effect": 1, "rows": [], "events": []}')

    full = recording(*first, *second, Sync(LOG, 10), told, *third, Sync(LOG, 14), Sync(DATABASE, 15)).survey()
    normal = recording(*first, *second, told, *third, Sync(LOG, 13), Sync(DATABASE, 14)).survey()

    assert (full["synchronous"], full["commits"], full["commits_unsynced"], full["checkpoints"]) == ("FULL", 2, 0, 1)
    assert (normal["synchronous"], normal["commits"], normal["commits_unsynced"]) == ("NORMAL", 2, 1)


def test_an_image_is_what_its_instant_left(tmp_path: Path) -> None:
    images = recording(
        Write("broker-simulator.db", 0, b"c"), *frame(0, commit=True), Noted(b'{"effect": 1, "rows": [], "events": []}')
    )
    dealt = [images.deal(1, number) for number in range(50)]

    assert {image.instant for image in dealt} == {2, 3, 4, 5, 7, 8, 9}
    assert {image.lines for image in dealt if image.instant < 9} == {0}
    assert {image.lines for image in dealt if image.instant == 9} == {1}
    for made in images.make(1, dealt, lambda image: tmp_path / str(image.number)):
        folder = tmp_path / str(made.image.number)
        assert (folder / "broker-simulator.db").read_bytes() == (b"c" if made.image.instant > 6 else b"b")
        if made.image.damage is Damage.DROPPED:
            sure = {DATABASE, LOG} if made.image.instant >= 4 else set()
            assert {path.name for path in folder.iterdir() if not path.name.startswith("broker")} == sure
            assert all((folder / name).read_bytes() == b"" for name in sure)
