"""Move a store, or take the move back.

The copy goes batch by batch, each a transaction of the target; the highest key there says where to go on after a kill. Only when
all of it has been compared is the source marked MOVED, in the transaction in which it was read, and then the target's mark
UNFINISHED is taken away. So at every instant at most one of the two can be used, and until the source's mark it is the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from sqlalchemy import Table

from finagent.adapters.database.move_mark import MoveMark, MoveState
from finagent.adapters.database.tables import metadata
from finagent.adapters.store_move.ends import End
from finagent.adapters.store_move.plan import levels, moved_tables, quoted
from finagent.adapters.store_move.verification import (
    Compared,
    Difference,
    broken_references,
    broken_story,
    compare,
    pages,
    unfit_values,
)
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.time import to_text
from finagent.services.failpoints import Failpoints

_LEDGER = "SELECT ledger_id FROM ledger_identity"
_EPOCH = "SELECT value FROM meta WHERE key = 'epoch'"


class Progress(Protocol):
    """Told how far the work on a table has come."""

    def __call__(self, what: str, rows: int, of: int) -> None: ...


@dataclass(slots=True)
class Moved:
    """What a move has done. With `differences` the source stays the store to use, and the target stays unfinished."""

    ledger_id: str
    already: bool = False
    copied: int = 0
    tables: dict[str, Compared] = field(default_factory=dict)
    events: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Move:
    """One move between two open ends; `at` is the time that the marks tell."""

    source: End
    target: End
    batch_rows: int
    at: datetime
    failpoints: Failpoints
    progress: Progress

    def run(self) -> Moved:
        """Raises BadInput for stores that do not fit each other or are in use, Unavailable where one is not there: run again, it
        goes on where it was."""
        source, target, moved = self.source, self.target, moved_tables(metadata)
        with source.transaction():
            ledger, epoch = _ledger_and_epoch(source)
            done = Moved(ledger, already=self._arrived(ledger))
            if done.already:
                return done
            self._look_through(moved, done.differences)
            if not done.differences:
                self._claim_target(moved, ledger, epoch)
                done.copied = sum(self._copy(table) for table in moved)
                self._verify(moved, done)
            if done.differences:
                return done
            source.set_mark(MoveMark(MoveState.MOVED, target.where, ledger, epoch, to_text(self.at)))
        self.failpoints("move.source_marked")
        with target.transaction():
            target.set_mark(None)
        return done

    def undo(self, *, drop_copy: bool) -> str:
        """The source is the store to use again, the target an unfinished copy, or empty; answers with the ledger. Raises BadInput
        where an agent has used the target since."""
        source, target, moved = self.source, self.target, moved_tables(metadata)
        with source.transaction():
            ledger, epoch = _ledger_and_epoch(source)
            with target.transaction():
                if not self._unfinished(ledger, epoch):
                    target.set_mark(MoveMark(MoveState.UNFINISHED, source.where, ledger, epoch, to_text(self.at)))
            self.failpoints("move.target_marked")
            source.set_mark(None)
        if drop_copy:
            with target.transaction():
                target.empty(moved)
                target.set_mark(None)
        return ledger

    # -- what the two ends are to each other ---------------------------------------------------------------------------------

    def _arrived(self, ledger: str) -> bool:
        """Whether all has been done before; raises BadInput for a source that is not the store to use."""
        mark, there = self.source.mark(), self.target.mark()
        if mark is None:
            return False
        if mark.state is MoveState.UNFINISHED:
            raise BadInput(f"{self.source.where} is itself an unfinished copy of {mark.address}")
        if mark.address != self.target.where:
            raise BadInput(f"{self.source.where} was moved to {mark.address} at {mark.at}: that is the store to move")
        if there is None and self.target.rows(_LEDGER) != [(ledger,)]:
            raise BadInput(f"{self.source.where} was moved to {mark.address}, which no longer holds it: see the runbook")
        return there is None

    def _claim_target(self, moved: Sequence[Table], ledger: str, epoch: int) -> None:
        """Mark the target as an unfinished copy; what it holds of another state of the source is dropped."""
        target = self.target
        with target.transaction():
            mark = target.mark()
            if mark is None:
                self._require_empty(moved, ledger)
            elif mark.state is MoveState.MOVED:
                raise BadInput(f"{target.where} was itself moved to {mark.address}: choose another one, or put it away first")
            elif mark.ledger_id != ledger:
                raise BadInput(f"{target.where} is an unfinished copy of ledger {mark.ledger_id}; this one is {ledger}")
            elif mark.epoch != epoch:  # an agent has run on the source since
                target.empty(moved)
            target.set_mark(MoveMark(MoveState.UNFINISHED, self.source.where, ledger, epoch, to_text(self.at)))

    def _require_empty(self, moved: Sequence[Table], ledger: str) -> None:
        held = self.target.rows(_LEDGER)
        if held:
            whose = "the same ledger" if held == [(ledger,)] else f"ledger {held[0][0]}, and this one is {ledger}"
            raise BadInput(f"{self.target.where} holds {whose}: choose an empty one")
        for table in moved:
            if self.target.rows(f"SELECT 1 FROM {quoted(table.name)} LIMIT 1"):  # noqa: S608 - a table's own name
                raise BadInput(f"{self.target.where} holds rows in {table.name} that no move put there: choose an empty one")

    def _unfinished(self, ledger: str, epoch: int) -> bool:
        """Whether the target is an unfinished copy already; raises BadInput where it is neither that nor as the move left it."""
        source, target = self.source.where, self.target
        mark, there = self.source.mark(), target.mark()
        if mark is not None and (mark.state, mark.address) != (MoveState.MOVED, target.where):
            was = "was moved to" if mark.state is MoveState.MOVED else "is an unfinished copy of"
            raise BadInput(f"{source} {was} {mark.address}: there is nothing to take back from {target.where}")
        if there is not None and (there.state, there.ledger_id) == (MoveState.UNFINISHED, ledger):
            return True
        if there is not None or mark is None or target.rows(_LEDGER) != [(ledger,)]:
            raise BadInput(f"there is nothing to take back: {target.where} is not where {source} was moved to")
        used = target.rows(_EPOCH)[0][0] - epoch
        if used:
            raise BadInput(
                f"{used} starts have written to {target.where} since the move, and it alone has what they did: "
                f"move it back with `finagent db move --from {target.where} --to` an empty store"
            )
        return False

    # -- copy and proof ------------------------------------------------------------------------------------------------------

    def _look_through(self, moved: Sequence[Table], found: list[Difference]) -> None:
        """What would stop the copy half-way stops it before the target is touched."""
        if self.source.takes_any_text and not self.target.takes_any_text:
            unfit_values(moved, self.source, found)
        broken_references(moved, self.source, found)

    def _copy(self, table: Table) -> int:
        copied = 0
        total, there = _count(self.source, table), _count(self.target, table)
        for level in levels(table):
            if not self.source.rows(*level.first(1)):
                break
            highest = self.target.rows(level.highest())
            for rows in pages(level, self.source, self.batch_rows, highest[0] if highest else None):
                with self.target.transaction():
                    self.target.insert(table, rows)
                copied += len(rows)
                self.progress(table.name, there + copied, total)
                self.failpoints("move.batch")
        return copied

    def _verify(self, moved: Sequence[Table], done: Moved) -> None:
        for table in moved:
            told = partial(self.progress, f"{table.name} compared", of=_count(self.target, table))
            done.tables[table.name] = compare(table, self.source, self.target, self.batch_rows, done.differences, told)
        broken_references(moved, self.target, done.differences)
        done.events = broken_story(self.target, done.differences)


def _ledger_and_epoch(end: End) -> tuple[str, int]:
    ledger, epoch = end.rows(_LEDGER), end.rows(_EPOCH)
    if not ledger or not epoch:
        raise Unavailable(f"{end.where} holds no ledger: nothing has run on it yet")
    return ledger[0][0], epoch[0][0]


def _count(end: End, table: Table) -> int:
    count: int = end.rows(f"SELECT count(*) FROM {quoted(table.name)}")[0][0]  # noqa: S608 - a table's own name
    return count
