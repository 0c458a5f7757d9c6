"""A page of memory that a replay's processes share through a file, so that it outlives every one of them.

It counts how often each label was passed, says when the agent was last recovered, and carries the broker's orders to kill:
the broker's process must know which agent is alive and at which passage it has to die.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from finagent.drill.labels import LABELS

_WORD = struct.Struct("<q")
_MOMENT = struct.Struct("<d")
_INDEX = {label: index for index, label in enumerate(LABELS)}
_RECOVERED_AT = len(LABELS) * _WORD.size
_CONFLICTS = _RECOVERED_AT + _MOMENT.size
_ORDER = _CONFLICTS + _WORD.size  # label index, passages left, agent pid
_SIZE = _ORDER + 3 * _WORD.size
_ANY_LABEL = -1


@dataclass(frozen=True, slots=True)
class BrokerOrderToKill:
    """What the broker's process must do: end `pid` at its `passages_left`-th further passage of the label (None: of any)."""

    label: str | None
    passages_left: int
    pid: int


class Control:
    """The shared page. Each label belongs to one process, so no counter has two writers at a time."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._page.close()

    def passed(self, label: str) -> int:
        """How often all processes of the replay passed the label."""
        return self._read(_INDEX[label] * _WORD.size)

    def passed_all(self) -> dict[str, int]:
        """The passages of every label."""
        return {label: self.passed(label) for label in LABELS}

    def count(self, label: str) -> None:
        """One more passage; an unknown label is ignored."""
        index = _INDEX.get(label)
        if index is not None:
            self._write(index * _WORD.size, self._read(index * _WORD.size) + 1)

    @property
    def conflicts(self) -> int:
        """Compare-and-set conflicts that the agents of the replay met."""
        return self._read(_CONFLICTS)

    def count_conflict(self) -> None:
        self._write(_CONFLICTS, self._read(_CONFLICTS) + 1)

    @property
    def recovered_at(self) -> float:
        """`time.monotonic()` of the last recovery; 0.0 when the present process has not recovered yet."""
        moment: float = _MOMENT.unpack_from(self._page, _RECOVERED_AT)[0]
        return moment

    @recovered_at.setter
    def recovered_at(self, moment: float) -> None:
        _MOMENT.pack_into(self._page, _RECOVERED_AT, moment)

    def order_broker(self, order: BrokerOrderToKill | None) -> None:
        """Arm the broker's process, or disarm it. The pid is written last: without one nothing happens."""
        self._write(_ORDER + 2 * _WORD.size, 0)
        if order is not None:
            self._write(_ORDER, _ANY_LABEL if order.label is None else _INDEX[order.label])
            self._write(_ORDER + _WORD.size, order.passages_left)
            self._write(_ORDER + 2 * _WORD.size, order.pid)

    def victim_of(self, label: str) -> int | None:
        """Called by the broker at a passage: the pid to end now, at most once an order."""
        pid = self._read(_ORDER + 2 * _WORD.size)
        if not pid or self._read(_ORDER) not in (_ANY_LABEL, _INDEX[label]):
            return None
        left = self._read(_ORDER + _WORD.size) - 1
        self._write(_ORDER + _WORD.size, left)
        if left > 0:
            return None
        self._write(_ORDER + 2 * _WORD.size, 0)
        return pid

    def _read(self, offset: int) -> int:
        word: int = _WORD.unpack_from(self._page, offset)[0]
        return word

    def _write(self, offset: int, word: int) -> None:
        _WORD.pack_into(self._page, offset, word)
