"""What befalls a process, by the numbers of the fault catalogue: stopped, asked to end, starved, poisoned, killed anywhere."""

import asyncio
import signal
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.crash.lab import Lab, laboratory

from finagent.drill.arming import Arm
from finagent.drill.plan import Aim, PlannedKill
from finagent.drill.replay import TERM_IN_START_SHARE, TERM_TWICE_SHARE

pytestmark = [pytest.mark.drill, pytest.mark.timeout(300)]
AT_ONCE = 4
ODD_PLACES = ("migration_step.after", "migration.after", "checkpoint.before", "checkpoint.after")
STARTS_MAX = 12
START_PASSAGES = 40
NO_MEMORY_STARTS_MAX, NO_MEMORY_WITHIN = 100, 640  # passages: quiet instants leave no mark, a start must get across them


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one folder: the checker's document, how the processes ended, what went wrong beside that."""

    found: dict[str, Any]
    codes: list[int] = field(default_factory=list)
    violations: list[dict[str, str]] = field(default_factory=list)
    failure: str = ""
    kills: int = 0


def label_kills(lab: Lab, aim: Aim, *labels: str, place: float = 0.4) -> tuple[PlannedKill, ...]:
    return tuple(PlannedKill(aim, label, place, 0.5, lab.pace.course.index_of(label, place)) for label in labels)


def requests_to_end(lab: Lab) -> tuple[PlannedKill, ...]:
    """While it starts, in the middle of its day, and twice at once."""
    shares = (TERM_IN_START_SHARE / 2, 0.5, 1 - TERM_TWICE_SHARE / 2)
    return tuple(PlannedKill(Aim.TERM, None, 0.5, share, 0, cold=True) for share in shares)


async def under(lab: Lab, name: str, kills: tuple[PlannedKill, ...]) -> Seen:
    record = await lab.suffered(name, kills)
    return Seen(await lab.found(name), [], record.violations, record.failure, len(record.kills))


async def poisoned(lab: Lab, kind: str) -> Seen:
    codes = await lab.started(kind, (None,) * STARTS_MAX, f"tests.crash.in_trouble:{kind}")
    return Seen(await lab.found(kind), codes)


async def starved(lab: Lab) -> Seen:
    """One start without memory, then one with."""
    codes = await lab.started("starved", (None,), "tests.crash.in_trouble:starved")
    codes += await lab.started("starved", (None,))
    return Seen(await lab.found("starved"), codes)


async def without_memory(lab: Lab) -> Seen:
    """One process after the other, in one folder: each finds no memory at a later passage than the one before, goes on for a
    while if it can, and is killed; until the day is done, at the latest by one that finds enough. Every passage of a start has
    its turn."""
    passages = (*range(1, START_PASSAGES), *(1 + 13 * n % NO_MEMORY_WITHIN for n in range(NO_MEMORY_STARTS_MAX)))
    arms = (Arm(None, n, fault="no memory", passages_on=40) for n in passages)
    codes = await lab.started("no-memory", (*arms, None))
    return Seen(await lab.found("no-memory"), codes)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    async def all_of_it() -> dict[str, Seen]:
        async with laboratory(tmp_path_factory.mktemp("faults")) as lab:
            turns = asyncio.Semaphore(AT_ONCE)
            trials = {
                "F-04": under(
                    lab,
                    "F-04",
                    label_kills(
                        lab, Aim.LABEL, "migration_step.after", "migration.after", "checkpoint.before", "checkpoint.after"
                    ),
                ),
                "F-06": under(lab, "F-06", label_kills(lab, Aim.STOP, "handler.send.before", "send.before", "send.after")),
                "F-07": under(lab, "F-07", requests_to_end(lab)),
                "F-08": starved(lab),
                "F-09": without_memory(lab),
                **{f"F-63 {kind}": poisoned(lab, kind) for kind in ("raises", "kills", "hangs")},
            }

            async def one(trial: Any) -> Seen:
                async with turns:
                    result: Seen = await trial
                    return result

            return dict(zip(trials, await asyncio.gather(*map(one, trials.values())), strict=True))

    return asyncio.run(all_of_it())


def test_f_04_kills_in_the_migration_and_in_the_checkpoint(seen: dict[str, Seen]) -> None:
    """F-04: the schema is the old or the new one, the log is folded by the next end."""
    trial = seen["F-04"]

    assert (trial.failure, trial.kills, trial.violations, trial.found["violations"]) == ("", 4, [], [])


def test_f_06_a_process_that_is_stopped_between_claim_and_answer_goes_on_as_if_nothing_had_been(seen: dict[str, Seen]) -> None:
    """F-06: wall time decides nothing in lock-step."""
    trial = seen["F-06"]

    assert (trial.failure, trial.kills, trial.violations, trial.found["violations"]) == ("", 3, [], [])


def test_f_07_asked_to_end_it_is_gone_in_time_and_the_next_start_ends_the_same(seen: dict[str, Seen]) -> None:
    """F-07: asked while it starts, in the middle of its work, and twice; a process that stays too long is a violation."""
    trial = seen["F-07"]

    assert (trial.failure, trial.kills, trial.violations, trial.found["violations"]) == ("", 3, [], [])


def test_f_08_a_process_that_runs_out_of_memory_ends_and_the_next_one_ends_the_same(seen: dict[str, Seen]) -> None:
    """F-08: as a kill."""
    trial = seen["F-08"]

    assert trial.codes[0] != 0
    assert (trial.codes[1:], trial.found["violations"]) == ([0], [])


def test_f_09_no_memory_at_any_place_fails_closed(seen: dict[str, Seen]) -> None:
    """F-09: jobs may be tried again later, so decisions may differ; what must hold holds."""
    trial = seen["F-09"]

    assert trial.codes[-1] == 0
    assert set(trial.codes) <= {0, 1, 4, -signal.SIGKILL}
    assert {v["invariant"] for v in trial.found["violations"]} <= {"EQUALITY"}, trial.found["violations"]
    assert (trial.found["lost"], trial.found["duplicate"]) == (0, 0)


@pytest.mark.parametrize(("kind", "starts"), [("raises", 1), ("kills", 5), ("hangs", 5)])
def test_f_63_a_poison_job_is_given_up_and_the_others_proceed(seen: dict[str, Seen], kind: str, starts: int) -> None:
    """F-63: it always raises, it kills its process, it never returns."""
    trial = seen[f"F-63 {kind}"]

    assert trial.codes[-1] == 0, trial.codes
    assert len(trial.codes) <= starts
    assert trial.found["lost"] == 0
    assert trial.found["dead_jobs"] == 1
    assert trial.found["orders"] > 10
    assert {v["invariant"] for v in trial.found["violations"]} <= {"EQUALITY", "JOBS"}
