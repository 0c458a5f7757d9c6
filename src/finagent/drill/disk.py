"""A disk that loses its power: what it is sure to hold, and what it may hold of the rest.

The rules are those of POSIX and of disks, not of a kind file system: data are sure from the moment on that a sync of their file
has returned, names from the moment on that a sync of the folder has. Of everything else each 512-byte sector is there or not,
whatever came before or after it; a file that was to grow may have its new size and not its new bytes. A sector is old or new.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from finagent.drill.recording import Event, Name, Resize, Sync, Write

SECTOR_BYTES = 512

Draw = Callable[..., float]  # a number in [0, 1) by purpose and key
_SHARES = (0.1, 0.5, 0.9)  # of the changes that no sync covers: how many survive an image that is not all or nothing


class Damage(Enum):
    """What becomes of the writes that no sync covers: none is there, all are, some are in whatever order, some are torn."""

    DROPPED = "DROPPED"
    KEPT = "KEPT"
    REORDERED = "REORDERED"
    TORN = "TORN"


@dataclass(slots=True)
class _File:
    """The bytes that a sync covers, and the changes since, each with its number."""

    sure: bytearray = field(default_factory=bytearray)
    unsure: list[tuple[int, Write | Resize]] = field(default_factory=list)

    def sync(self, began: int) -> None:
        while self.unsure and self.unsure[0][0] < began:
            _apply(self.sure, self.unsure.pop(0)[1])


@dataclass(slots=True)
class Disk:
    """One folder. `apply` its events in turn, each under its number in the recording; `cut` says what a cut now would leave."""

    _files: dict[str, _File] = field(default_factory=dict)  # as the processes see them
    _sure_names: dict[str, _File] = field(default_factory=dict)
    _unsure_names: list[tuple[int, Name, _File]] = field(default_factory=list)

    def apply(self, number: int, event: Event) -> None:
        """The next thing that the processes did."""
        match event:
            case Write(file=name) | Resize(file=name):
                if name in self._files:  # else it was removed while it was open
                    self._files[name].unsure.append((number, event))
            case Sync(file=name, began=began):
                if name in self._files:
                    self._files[name].sync(began)
                else:
                    self._sync_names(name, began)
            case Name(old=old):
                file = self._files[old] if old is not None else _File()
                _rename(self._files, event, file)
                self._unsure_names.append((number, event, file))

    def _sync_names(self, folder: str, began: int) -> None:
        still_unsure = []
        for number, change, file in self._unsure_names:
            if number < began and (change.new or change.old or "").rpartition("/")[0] == folder:
                _rename(self._sure_names, change, file)
            else:
                still_unsure.append((number, change, file))
        self._unsure_names = still_unsure

    @property
    def unsure(self) -> dict[str, int]:
        """How many changes of each file no sync covers yet."""
        return {name: len(file.unsure) for name, file in self._files.items() if file.unsure}

    def now(self) -> dict[str, bytes]:
        """What the processes themselves would read."""
        return {name: _contents(file, [change for _, change in file.unsure]) for name, file in self._files.items()}

    def cut(self, damage: Damage, draw: Draw) -> tuple[dict[str, bytes], Counter[str]]:
        """The files as they are found afterwards, and how often each kind of damage was dealt."""
        dealt: Counter[str] = Counter()
        names = dict(self._sure_names)
        for number, change, file in self._unsure_names:
            if _happens(damage, draw("name", number), 0.5):
                _rename(names, change, file)
            else:
                dealt["names_dropped"] += 1
        share = _SHARES[int(draw("share") * len(_SHARES))]
        return {name: _contents(file, _survivors(file, damage, share, draw, dealt)) for name, file in names.items()}, dealt


def _rename(names: dict[str, _File], change: Name, file: _File) -> None:
    if change.old is not None and names.get(change.old) is file:
        del names[change.old]
    if change.new is not None:
        names[change.new] = file


def _happens(damage: Damage, drawn: float, share: float) -> bool:
    return damage is Damage.KEPT or (damage is not Damage.DROPPED and drawn < share)


def _survivors(file: _File, damage: Damage, share: float, draw: Draw, dealt: Counter[str]) -> Iterator[Write | Resize]:
    """What is left of the changes that no sync covers. A sector that two of them write holds either, or what was there before."""
    for number, change in file.unsure:
        if damage is Damage.TORN and isinstance(change, Write):
            dealt["torn"] += 1
            yield from _torn(number, change, share, draw)
        elif _happens(damage, draw("change", number), share):
            dealt["kept"] += 1
            yield change
        else:
            dealt["dropped"] += 1
            if isinstance(change, Write) and _happens(damage, draw("size", number), 0.5):
                dealt["hollow"] += 1
                yield Write(change.file, change.offset + len(change.data), b"")  # the size is there, the bytes are not


def _torn(number: int, write: Write, share: float, draw: Draw) -> Iterator[Write]:
    """The sectors of one write that reached the disk, cut where the disk's sectors end."""
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if draw("sector", number, start) < share:
            yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])
        start = stop


def _contents(file: _File, changes: Iterable[Write | Resize]) -> bytes:
    contents = bytearray(file.sure)
    for change in changes:
        _apply(contents, change)
    return bytes(contents)


def _apply(contents: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        del contents[change.size :]
        contents.extend(bytes(change.size - len(contents)))
        return
    contents.extend(bytes(max(0, change.offset - len(contents))))
    contents[change.offset : change.offset + len(change.data)] = change.data
