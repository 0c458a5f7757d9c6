"""The whole agent on real days: what it leaves, that it can be stopped anywhere and go on, and that it ends as if it had not."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finagent.bootstrap import Application, build_application
from finagent.domain.decision import DecisionEvent, DecisionExit, DecisionOutcome
from finagent.domain.errors import BadInput
from finagent.domain.gap import FeatureVector, GapCandidate
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.risk import RiskDecision, Verdict
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState
from finagent.services.reporting.canonical import outcome_hash
from finagent.settings import Settings, load_settings
from finagent.telemetry.metrics import FEATURES_FOUND, Metrics

WEEK = (
    "http.enabled=false",
    "market_data.first_session=2008-10-07",
    "market_data.last_session=2008-10-10",
    "broker.partial_fill_rate=0.4",
    "broker.faults.dropped=0.15",
    "broker.faults.reply_lost=0.15",
    "broker.faults.late=0.1",
    "broker.faults.look_up_withheld=0.2",
    "broker.faults.cancel_dropped=0.2",
    "broker.faults.execution_repeated=0.3",
    "broker.faults.activity_shuffled=0.3",
)
DAY = ("market_data.last_session=2008-10-07",)


def settings_of(folder: Path, *more: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", *WEEK, *more))


async def replayed(folder: Path, *more: str) -> str:
    async with build_application(settings_of(folder, *more)) as application:
        assert await application.run()
        return outcome_hash(application.reads)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The outcome of an undisturbed replay."""
    return asyncio.run(replayed(tmp_path_factory.mktemp("undisturbed")))


async def test_a_week_leaves_every_story_told_to_its_end(tmp_path: Path) -> None:
    metrics = Metrics()
    async with build_application(settings_of(tmp_path / "week"), metrics=metrics) as application:
        ended = await application.run()
        reads, jobs = application.reads, application.queue.counts()
        outcomes = Counter(outcome.outcome.value for outcome in reads.find(DecisionOutcome))

        assert ended
        assert application.finished
        assert application.kill_switch.state().state is TradingState.ACTIVE
        assert {status: count for status, count in jobs.items() if count} == {"DONE": jobs["DONE"]}
        assert sum(outcomes.values()) == reads.count(GapCandidate) >= 8
        assert outcomes["FILLED"] == reads.count(DecisionExit) >= 2
        assert all(order.state.terminal for order in reads.find(BrokerOrder))
        found = {place: metrics.feature_reads.labels(place)._value.get() for place in FEATURES_FOUND}
        assert (found["COMPUTED"], found["STORE"]) == (4, 0), "once a session"
        assert found["MEMORY"] > found["COMPUTED"]
        assert len(list((tmp_path / "week" / "features").rglob("*.features"))) == 4
        assert all(vector.simulated for vector in reads.find(FeatureVector)), "the sample's minutes are made up"
        assert reads.count(BrokerOrder) == reads.count(OrderIntent)
        assert reads.count(Fill) >= 4
        assert [snapshot.kind for snapshot in reads.find(AccountSnapshot)].count("CLOSE") == 4
        for outcome in reads.find(DecisionOutcome):
            kinds = [event.kind for event in reads.find(DecisionEvent, subject_id=outcome.decision_id)]
            assert kinds[0] == "gap_found"
            assert kinds.count("signal_ended") == 1


async def test_scans_all_day_long_find_what_the_first_has_computed(tmp_path: Path) -> None:
    metrics = Metrics()
    each_quarter = 'schedule=[{"name": "quarter", "expression": "*/15 10-15 * * *"}]'
    async with build_application(settings_of(tmp_path / "day", *DAY, each_quarter), metrics=metrics) as application:
        assert await application.run()
    found = {place: metrics.feature_reads.labels(place)._value.get() for place in FEATURES_FOUND}
    assert found["COMPUTED"] == 1
    assert 0.9 <= found["MEMORY"] / sum(found.values()) < 1.0


def stop_after(application: Application, commits: int) -> None:
    """Ask for the end at that many commits of this process."""
    left = iter(range(commits - 1, -1, -1))

    def count(_effects: Any, _jobs: Any) -> None:
        if next(left, None) == 0:
            application.stop()

    application.queue.on_commit.append(count)  # type: ignore[attr-defined]  # the SQLite queue tells who asks


async def test_stopped_anywhere_and_started_again_it_ends_the_same(tmp_path: Path, reference: str) -> None:
    """Stopped after ever more commits; each start repeats the instant at which it was left."""
    folder, starts, found = tmp_path / "stopped", 0, ""
    while not found:
        starts += 1
        async with build_application(settings_of(folder)) as application:
            stop_after(application, 40 * starts)
            if await application.run():
                found = outcome_hash(application.reads)

    assert starts >= 3
    assert found == reference


CHILD = """
import asyncio, os, signal, sys
from finagent.bootstrap import build_application
from finagent.settings import load_settings

label, passage, *overrides = sys.argv[1:]
passed = 0

def failpoint(reached):
    global passed
    passed += reached == label
    if reached == label and passed == int(passage):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with build_application(load_settings(overrides=overrides), failpoints=failpoint) as application:
        await application.run()

asyncio.run(main())
"""
SERIAL = ("intent_commit.after", "send.before", "send.after", "fill_apply.before")
EFFECT = ("effect_commit.before", "effect_commit.after")


def test_killed_at_random_effects_and_started_again_it_ends_the_same(tmp_path: Path, reference: str) -> None:
    folder, dice = tmp_path / "killed", random.Random(2)
    for label in (*dice.sample(SERIAL, 2), dice.choice(EFFECT)):
        passage = dice.randint(5, 20) if label in EFFECT else 1
        overrides = (f"storage.directory={folder}", *WEEK)
        child = subprocess.run(
            [sys.executable, "-c", CHILD, label, str(passage), *overrides],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert child.returncode == -signal.SIGKILL, child.stderr[-2000:]

    assert asyncio.run(replayed(folder)) == reference


async def test_a_finished_replay_is_not_run_again(tmp_path: Path) -> None:
    first = await replayed(tmp_path / "once", *DAY)
    async with build_application(settings_of(tmp_path / "once", *DAY)) as application:
        before = application.queue.counts()
        assert application.finished
        assert application.recovered is not None
        assert await application.run()
        assert application.queue.counts() == before
        assert outcome_hash(application.reads) == first


async def test_a_folder_keeps_to_its_replay(tmp_path: Path) -> None:
    await replayed(tmp_path / "once", *DAY)

    with pytest.raises(BadInput, match=r"risk.positions_max"):
        async with build_application(settings_of(tmp_path / "once", *DAY, "risk.positions_max=4")):
            pass


async def test_a_halt_file_stops_new_risk_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "halted"
    folder.mkdir()
    (folder / "HALT").touch()
    async with build_application(settings_of(folder, "market_data.last_session=2008-10-08")) as application:
        assert await application.run()
        reads = application.reads
        outcomes = Counter(outcome.outcome.value for outcome in reads.find(DecisionOutcome))

        assert reads.count(OrderIntent) == 0
        assert outcomes["FILLED"] == 0
        assert outcomes["RISK_DENIED"] >= 1
        assert sum(outcomes.values()) == reads.count(GapCandidate)


async def test_a_reduced_plan_is_ordered_filled_and_closed_at_the_size_that_the_gate_left(tmp_path: Path) -> None:
    narrow = ("risk.position_fraction_max=0.03", "broker.partial_fill_rate=0")
    async with build_application(settings_of(tmp_path / "narrow", *narrow)) as application:
        assert await application.run()
        reads = application.reads
        reduced = [verdict for verdict in reads.find(RiskDecision) if verdict.verdict is Verdict.REDUCED]
        held = 0
        for verdict in reduced:
            plan = reads.get(TradePlan, verdict.decision_id)
            assert plan is not None
            assert 0 < verdict.quantity < plan.quantity
            legs = {intent.leg: intent.quantity for intent in reads.find(OrderIntent, decision_id=verdict.decision_id)}
            assert legs.get(Leg.ENTRY, verdict.quantity) == verdict.quantity
            assert all(quantity <= verdict.quantity for quantity in legs.values())
            fills = [(fill.side.sign * fill.quantity) for fill in reads.find(Fill, decision_id=verdict.decision_id)]
            bought = sum(quantity for quantity in fills if quantity * plan.side.sign > 0)
            assert abs(bought) in (0, verdict.quantity)
            assert sum(fills) == 0
            held += bool(bought)

        assert held >= 2
