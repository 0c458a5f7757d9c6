"""New risk leaves only while three things allow it: no HALT file, an open start gate, an ACTIVE state that a person can move."""

from pathlib import Path
from typing import Any

import pytest

from finagent.adapters.database.reader import SqliteReads
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.trading_state import LockState, StartGate, StrategyLock, TradingState
from finagent.services.kill_switch import KillSwitch, state_change, strategy_lock


async def test_new_risk_may_leave_while_everything_allows_it(desk: Any) -> None:
    assert desk.kill_switch.objection() == ""
    assert desk.kill_switch.effective_state() is TradingState.ACTIVE


async def test_the_halt_file_binds_at_once_and_only_while_it_stands(desk: Any) -> None:
    desk.halt_file.append("HALT")
    standing = desk.kill_switch.objection(), desk.kill_switch.effective_state()
    desk.halt_file.clear()

    assert standing == ("HALT file", TradingState.HALTED)
    assert desk.kill_switch.objection() == ""


@pytest.mark.parametrize("gate", [StartGate.STARTING, StartGate.RECONCILING])
async def test_a_gate_that_is_not_open_binds(desk: Any, gate: StartGate) -> None:
    desk.kill_switch.gate = gate

    assert desk.kill_switch.objection() == f"start gate {gate.value}"
    assert desk.kill_switch.effective_state() is TradingState.HALTED


async def test_a_halt_is_persisted_with_who_and_why_until_a_person_arms(desk: Any) -> None:
    await desk.kill_switch.halt("smoke", "risk")
    another_process = KillSwitch(desk.reads, desk.queue, desk.clock, lambda: False, StartGate.OPEN)
    halted = another_process.objection(), another_process.state().by
    await desk.kill_switch.arm("looked at it", "a person")

    assert halted == ("HALTED: smoke", "risk")
    assert another_process.objection() == ""
    assert desk.told("trading_state_changed") == 2


async def test_reducing_takes_no_new_risk_either(desk: Any) -> None:
    await desk.commit(state_change(desk.reads, TradingState.REDUCING, "drawdown", "risk", desk.clock.now()))

    assert desk.kill_switch.objection() == "REDUCING: drawdown"
    assert desk.kill_switch.effective_state() is TradingState.REDUCING


async def test_a_store_without_a_trading_state_allows_nothing(database: Any, desk: Any, tmp_path_factory: Any) -> None:
    from finagent.adapters.database.engine import WriterPolicy
    from finagent.adapters.database.migrate import upgrade
    from finagent.services.failpoints import unarmed

    empty = tmp_path_factory.mktemp("empty") / "finagent.db"
    upgrade(empty, WriterPolicy(1, 1000, 500, 0, 4096), unarmed)
    reads = SqliteReads(empty)
    bare = KillSwitch(reads, desk.queue, desk.clock, lambda: False, StartGate.OPEN)

    with pytest.raises(InvariantViolated, match="no trading state"):
        bare.objection()
    with pytest.raises(InvariantViolated, match="no trading state"):
        state_change(reads, TradingState.HALTED, "", "", desk.clock.now())
    reads.close()


async def test_one_strategy_is_locked_until_a_person_releases_it(desk: Any, database: Path) -> None:
    """Who and why are kept; the other strategies and the trading state are as they were, in another process too."""
    first, second = await desk.run(entry="first"), await desk.run(entry="second")
    await desk.kill_switch.lock_strategy("first", "fills look wrong", "ann")
    other_reads = SqliteReads(database)
    locked = strategy_lock(first, other_reads), strategy_lock(second, other_reads), desk.kill_switch.objection()
    await desk.kill_switch.lock_strategy("first", "still", "ann")
    again = strategy_lock(first, other_reads)
    await desk.kill_switch.release_strategy("first", "looked at them", "bob")

    assert locked == ("first is locked: fills look wrong", "", "")
    assert again == "first is locked: still"
    assert strategy_lock(first, other_reads) == ""
    assert other_reads.get(StrategyLock, "first") == StrategyLock(
        "first", LockState.RELEASED, "looked at them", "bob", desk.clock.now()
    )
    assert (desk.told("strategy_locked"), desk.told("strategy_released")) == (2, 1)
    other_reads.close()


async def test_a_strategy_that_is_not_locked_cannot_be_released(desk: Any) -> None:
    with pytest.raises(BadInput, match="first is not locked"):
        await desk.kill_switch.release_strategy("first", "why not", "ann")


async def test_a_run_that_is_not_stored_has_no_locked_strategy(desk: Any) -> None:
    await desk.kill_switch.lock_strategy("first", "a test", "ann")

    assert strategy_lock("run-unknown", desk.reads) == ""
