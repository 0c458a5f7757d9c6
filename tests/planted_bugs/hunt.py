"""Hunts planted bugs with the parts of the kill drill: one killed replay a bug, beside a sound reference."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.crash.lab import Lab, laboratory

from finagent.drill.plan import Aim, PlannedKill

AT_ONCE = 6
PLACES = (0.2, 0.45, 0.7)  # of a label's passages: where a bug's replay is killed


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted factory, the rules that may name it, and where its replay is killed (None: it shows in an undisturbed one)."""

    application: str
    rules: frozenset[str]
    label: str | None = None


def hunt(bugs: Mapping[str, Bug], folder: Path) -> dict[str, list[dict[str, str]]]:
    """What the checker and the drill find in a replay of each bug."""

    async def all_of_them() -> dict[str, list[dict[str, str]]]:
        turns = asyncio.Semaphore(AT_ONCE)
        async with laboratory(folder) as lab:
            found = await asyncio.gather(*(_one(lab, name, bug, turns) for name, bug in bugs.items()))
        return dict(zip(bugs, found, strict=True))

    return asyncio.run(all_of_them())


async def _one(lab: Lab, name: str, bug: Bug, turns: asyncio.Semaphore) -> list[dict[str, str]]:
    async with turns:
        record = await lab.suffered(name, kills_at(lab, bug.label), f"tests.planted_bugs.{bug.application}")
        found = list(record.violations)
        if record.failure:
            found.append({"invariant": "DRILL", "subject": name, "message": record.failure})
        if (record.folder / "broker-simulator.db").exists():
            found += (await lab.found(name))["violations"]
        return found


def kills_at(lab: Lab, label: str | None) -> tuple[PlannedKill, ...]:
    """Along the course, at the label."""
    index_of = lab.pace.course.index_of
    return tuple(PlannedKill(Aim.LABEL, label, place, 0.0, index_of(label, place)) for place in PLACES if label)
