"""The mark of a store that is not the one to use: no agent and no writing command starts on it."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import Enum
from typing import Any

from finagent.adapters.database.connection import Driver
from finagent.adapters.database.reader import StoreReads
from finagent.domain.errors import BadInput

_READ = "SELECT state, address, ledger_id, epoch, at FROM store_move"
_ERASE = "DELETE FROM store_move"
_WRITE = "INSERT INTO store_move (id, state, address, ledger_id, epoch, at) VALUES (1, ?, ?, ?, ?, ?)"


class MoveState(Enum):
    """Why a store is not to be used."""

    MOVED = "MOVED"
    UNFINISHED = "UNFINISHED"


@dataclass(frozen=True, slots=True)
class MoveMark:
    """`address` is the other store's; `ledger_id` and `epoch` are those of the store that was copied, as of the copy."""

    state: MoveState
    address: str
    ledger_id: str
    epoch: int
    at: str


def read_mark(driver: Driver) -> MoveMark | None:
    """The mark of a store, if it has one."""
    return _marked(driver.execute(_READ).fetchall())


def write_mark(driver: Driver, mark: MoveMark | None) -> None:
    """Replace the mark; None: the store is the one to use."""
    driver.execute(_ERASE)
    if mark is not None:
        driver.execute(_WRITE, (mark.state.value, *astuple(mark)[1:]))


def refuse_marked(driver: Driver) -> None:
    """Raises BadInput, saying where the story goes on, for a store that is not the one to use."""
    mark = read_mark(driver)
    if mark is not None:
        raise BadInput(_explained(mark))


def mark_objection(reads: StoreReads) -> str:
    """The same for who only reads: why the store is not the one to use; empty when it is."""
    mark = _marked(reads.rows(_READ))
    return "" if mark is None else _explained(mark)


def _explained(mark: MoveMark) -> str:
    """Where the story goes on, and how to take it back."""
    if mark.state is MoveState.MOVED:
        return (
            f"this store was moved to {mark.address} at {mark.at}: name that one in storage.url, or take the move back with "
            f"`finagent db move --undo --to {mark.address}`"
        )
    return (
        f"this store is an unfinished copy of {mark.address}, begun at {mark.at}: finish it with "
        f"`finagent db move --from {mark.address} --to` this one, or give it up with --undo"
    )


def _marked(rows: Sequence[tuple[Any, ...]]) -> MoveMark | None:
    return MoveMark(MoveState(rows[0][0]), *rows[0][1:]) if rows else None
