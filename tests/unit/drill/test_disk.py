"""A power cut: what a sync covers always survives, the rest may, sector by sector."""

from collections.abc import Iterator
from functools import partial

import pytest

from finagent.domain.chance import uniform
from finagent.drill.disk import SECTOR_BYTES, Damage, Disk, Draw
from finagent.drill.recording import Event, Name, Resize, Sync, Write

A, B, C = (letter * SECTOR_BYTES for letter in (b"a", b"b", b"c"))
UNSYNCED = [Damage.DROPPED, Damage.REORDERED, Damage.TORN]


def draw(seed: int) -> Draw:
    return partial(uniform, seed, "test")


def disk_after(*events: Event) -> Disk:
    disk = Disk()
    for number, event in enumerate(events):
        disk.apply(number, event)
    return disk


def cuts(disk: Disk, damage: Damage, times: int = 200) -> Iterator[dict[str, bytes]]:
    for seed in range(times):
        yield disk.cut(damage, draw(seed))[0]


def made(*events: Event) -> tuple[Event, ...]:
    """A file whose name is sure, then the events."""
    return (Name(None, "f"), Sync("", 1), *events)


@pytest.mark.parametrize("damage", Damage)
def test_what_a_sync_covers_survives(damage: Damage) -> None:
    disk = disk_after(*made(Write("f", 0, A + B), Resize("f", SECTOR_BYTES), Sync("f", 4), Write("f", SECTOR_BYTES, C)))

    assert all(found["f"].startswith(A) for found in cuts(disk, damage))


def test_what_no_sync_covers_survives_or_not() -> None:
    disk = disk_after(*made(Write("f", 0, A), Write("f", SECTOR_BYTES, B)))

    assert disk.cut(Damage.DROPPED, draw(1))[0] == {"f": b""}
    assert disk.cut(Damage.KEPT, draw(1))[0] == {"f": A + B} == disk.now()
    zeros = bytes(SECTOR_BYTES)
    found = {each["f"] for each in cuts(disk, Damage.REORDERED)}
    assert found == {b"", A, A + B, zeros, zeros + B, A + zeros, zeros + zeros}  # the later without the earlier; sizes alone


def test_a_write_is_torn_where_sectors_end_and_nowhere_else() -> None:
    disk = disk_after(*made(Write("f", 0, A + A + A), Sync("f", 3), Write("f", 100, B + B)))

    found = {each["f"] for each in cuts(disk, Damage.TORN)}

    head, middle, tail = A[:100] + B[100:], B, B[:100] + A[100:]
    assert found == {x + y + z for x in (A, head) for y in (A, middle) for z in (A, tail)}


def test_a_sector_written_twice_holds_any_of_its_versions() -> None:
    disk = disk_after(*made(Write("f", 0, A), Sync("f", 3), Write("f", 0, B), Write("f", 0, C)))

    assert {each["f"] for each in cuts(disk, Damage.REORDERED)} == {A, B, C}


def test_a_sync_covers_what_was_done_before_it_began() -> None:
    disk = disk_after(*made(Write("f", 0, A), Write("f", SECTOR_BYTES, B), Sync("f", 3)))

    assert disk.cut(Damage.DROPPED, draw(1))[0] == {"f": A}
    assert disk.unsure == {"f": 1}


@pytest.mark.parametrize("damage", UNSYNCED)
def test_a_name_is_sure_when_its_folder_is_synced(damage: Damage) -> None:
    unsure = disk_after(Name(None, "f"), Write("f", 0, A), Sync("f", 2))
    sure = disk_after(Name(None, "f"), Write("f", 0, A), Sync("f", 2), Sync("", 3))

    assert {} in list(cuts(unsure, damage))
    assert list(cuts(sure, damage, 20)) == [{"f": A}] * 20


def test_a_renamed_file_is_the_old_one_or_the_new_one() -> None:
    disk = disk_after(
        *made(Write("f", 0, A), Sync("f", 3), Name(None, "f.new"), Write("f.new", 0, B), Sync("f.new", 6), Name("f.new", "f"))
    )

    assert disk.now() == {"f": B}
    assert {each["f"] for each in cuts(disk, Damage.REORDERED)} == {A, B}
    assert disk.cut(Damage.DROPPED, draw(1))[0] == {"f": A}


def test_a_file_removed_without_a_sync_may_come_back() -> None:
    disk = disk_after(*made(Write("f", 0, A), Sync("f", 3), Name("f", None), Write("f", 0, B)))

    found = list(cuts(disk, Damage.REORDERED))

    assert {} in found
    assert {"f": A} in found
    assert disk.now() == {}


def test_folders_below_are_synced_by_themselves() -> None:
    disk = disk_after(Name(None, "deep/f"), Write("deep/f", 0, A), Sync("deep/f", 2), Sync("", 3))

    assert disk.cut(Damage.DROPPED, draw(1))[0] == {}
    disk.apply(4, Sync("deep", 4))
    assert disk.cut(Damage.DROPPED, draw(1))[0] == {"deep/f": A}
