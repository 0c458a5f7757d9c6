"""Does a value depend on what was not known yet? Everything unknown at a decision is replaced, and the value computed again.

Cutting history off at the decision is not enough: it sees neither what is taken from columns of the same row that are known only
later, nor holes that are filled from behind.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

Columns = Mapping[str, Floats]  # name -> [rows, symbols], oldest first
Compute = Callable[[Columns], Floats]  # -> [rows, symbols, features]

TOLERANCE = 1e-7  # relative: sums of other numbers before and after round otherwise
NOISE, EXTREME = 0.3, 2.0  # deviations of the logarithm of the factor that a number is replaced with


class Corruption(Enum):
    """What the unknown is replaced with."""

    NOISE = "NOISE"  # numbers nearby
    EXTREME = "EXTREME"  # numbers far away
    HOLES = "HOLES"  # nothing where there was something, and the other way round


@dataclass(frozen=True, slots=True)
class Leak:
    """Feature `feature` of the decision in row `row` changes with column `column`, from `before` to `after`, when what was not
    known is replaced."""

    feature: str
    column: str
    row: int
    corruption: Corruption
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.feature} reads {self.column} before it is known: row {self.row} is {self.before:.6g}, and {self.after:.6g} "
            f"with other data ({self.corruption.value.lower()}) from then on"
        )


def find_leaks(
    compute: Compute,
    columns: Columns,
    names: Sequence[str],
    rows: Sequence[int],
    known: frozenset[str],
    seed: int = 0,
    tested: Callable[[], None] = lambda: None,
) -> tuple[Leak, ...]:
    """The first leak of each feature of `names` that leaks, for decisions in `rows`. Columns in `known` are known in the row of
    the decision, all others in the row after it. `tested` is called after each decision."""
    if unknown := known - columns.keys():
        raise BadInput(f"columns {', '.join(sorted(unknown))} are not there")
    told = compute(columns)
    if told.shape[2] != len(names):
        raise BadInput(f"{told.shape[2]} features are computed, {len(names)} are named")
    found: dict[str, Leak] = {}
    for row in rows:
        for corruption in Corruption:
            again = compute(_corrupted(columns, row, known, corruption, seed, columns.keys()))
            for place in changed(told[row], again[row]):
                if names[place] not in found:
                    column = _guilty(compute, columns, row, known, corruption, seed, told, place)
                    symbol = int(np.argmax(differs(told[row, :, place], again[row, :, place])))
                    before, after = float(told[row, symbol, place]), float(again[row, symbol, place])
                    found[names[place]] = Leak(names[place], column, row, corruption, before, after)
        tested()
    return tuple(found.values())


def decision_rows(columns: Columns, first: int, count: int, seed: int = 0) -> tuple[int, ...]:
    """Rows from `first` on to test: `count` at random, the last two, and those after a hole."""
    total = len(next(iter(columns.values())))
    if first >= total:
        raise BadInput(f"{total} rows are too few: features are known from row {first} on")
    chance = np.random.Generator(np.random.Philox(key=seed))
    rows = set(chance.choice(np.arange(first, total), size=min(count, total - first), replace=False).tolist())
    holes = np.logical_or.reduce([np.isnan(column).any(axis=1) for column in columns.values()])
    after = np.flatnonzero(holes[:-1] & ~holes[1:]) + 1
    return tuple(sorted(rows | {total - 2, total - 1} | set(after[after >= first][:count].tolist())))


def _corrupted(
    columns: Columns, row: int, known: frozenset[str], corruption: Corruption, seed: int, which: Collection[str]
) -> Columns:
    """Copies of the columns in which those of `which` are replaced from where they are not known."""
    replaced = {}
    for number, (name, column) in enumerate(columns.items()):
        replaced[name] = column
        start = row + 1 if name in known else row
        if name not in which or start >= len(column):
            continue
        chance = np.random.Generator(np.random.Philox(key=[seed, number]))
        later = column[start:].copy()
        if corruption is Corruption.HOLES:
            holes = np.isnan(later)
            chosen = chance.random(later.shape) < 0.5
            later[chosen & ~holes] = np.nan
            later[holes] = np.nanmean(column) if np.isfinite(column).any() else 1.0
        else:
            spread = NOISE if corruption is Corruption.NOISE else EXTREME
            later *= np.exp(spread * chance.standard_normal(later.shape))
        replaced[name] = np.concatenate([column[:start], later])
    return replaced


def _guilty(
    compute: Compute,
    columns: Columns,
    row: int,
    known: frozenset[str],
    corruption: Corruption,
    seed: int,
    told: Floats,
    place: int,
) -> str:
    """The columns that change the value when they alone are replaced."""
    alone = [
        name
        for name in columns
        if place in changed(told[row], compute(_corrupted(columns, row, known, corruption, seed, (name,)))[row])
    ]
    return ", ".join(alone) or "several columns together"


def differs(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Where two values are not the same but for rounding; unknown is a value as any other."""
    with np.errstate(invalid="ignore"):
        near = np.abs(before - after) <= TOLERANCE * np.maximum(np.abs(before), np.abs(after))
    return np.asarray(~(near | (before == after) | (np.isnan(before) & np.isnan(after))))


def changed(before: Floats, after: Floats) -> list[int]:
    """Places of the features that differ in any symbol, of [symbols, features]."""
    found: list[int] = np.flatnonzero(differs(before, after).any(axis=0)).tolist()
    return found
