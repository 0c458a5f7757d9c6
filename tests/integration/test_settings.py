"""Settings decide what the agent is built of; the limits in force are those that were written."""

from decimal import Decimal
from pathlib import Path

import pytest

from finagent.bootstrap import build_application
from finagent.domain.errors import BadInput
from finagent.domain.orders import Leg, OrderIntent
from finagent.domain.risk import RiskDecision, RiskSnapshot
from finagent.policies import check
from finagent.settings import load_settings

DAYS = ("http.enabled=false", "market_data.first_session=2008-10-08", "market_data.last_session=2008-10-10")


async def intents(folder: Path, *more: str) -> tuple[list[OrderIntent], list[RiskDecision], list[RiskSnapshot]]:
    settings = load_settings(overrides=(f"storage.directory={folder}", *DAYS, *more))
    async with build_application(settings) as application:
        await application.run()
        reads = application.reads
        return reads.find(OrderIntent, leg=Leg.ENTRY), reads.find(RiskDecision), reads.find(RiskSnapshot)


async def test_a_position_limit_in_force_cuts_every_order(tmp_path: Path) -> None:
    wide, _, _ = await intents(tmp_path / "wide")
    narrow, _, snapshots = await intents(tmp_path / "narrow", "risk.position_fraction_max=0.01")
    equity = {snapshot.run_id: snapshot.equity for snapshot in snapshots}

    assert len(wide) >= 2
    assert max(i.quantity * (i.limit_price or 0) for i in wide) > Decimal(2_000)
    assert narrow
    assert all(i.quantity * (i.limit_price or 0) <= max(equity.values()) * Decimal("0.01") for i in narrow)


async def test_limits_of_zero_allow_nothing(tmp_path: Path) -> None:
    sent, verdicts, _ = await intents(tmp_path / "none", "risk.positions_max=0")

    assert sent == []
    assert {verdict.code.value for verdict in verdicts} == {"POSITION_COUNT"}


async def test_the_schedule_in_force_is_the_one_that_was_written(tmp_path: Path) -> None:
    _, _, snapshots = await intents(tmp_path / "one", 'schedule=[{"name": "only", "expression": "0 10 * * *"}]')

    assert {snapshot.at.strftime("%H:%M") for snapshot in snapshots} == {"14:00"}


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = ("risk.gross_leverage_max=-1", "plan.risk_fraction=nan", "queue.capacity=0", "no.such_key=1")
    with pytest.raises(BadInput) as refused:
        load_settings(overrides=wrong)

    assert all(key.split("=")[0].split(".")[-1] in str(refused.value) for key in wrong[:3])


def test_how_risk_is_split_is_of_a_replay_only_where_it_is_split() -> None:
    """With equal parts a replay keeps the name that it had before there was a choice."""

    def decisive(*overrides: str) -> dict[str, object]:
        found: dict[str, object] = load_settings(overrides=overrides).decisive()["risk"]
        return found

    chosen = decisive("risk.allocation=hrp", "risk.allocation_rules.days=300")

    assert decisive() == decisive("risk.allocation_rules.days=300", "report.risk_window_sessions=100")
    assert not {"allocation", "allocation_rules", "breakers"} & decisive().keys()
    assert chosen["allocation"] == "hrp"
    assert "breakers" not in chosen
    assert chosen != decisive("risk.allocation=hrp")


def test_rules_that_leave_no_history_to_split_risk_by_are_refused() -> None:
    with pytest.raises(BadInput, match=r"risk.allocation_rules: days_min 300 must be 2 or more and at most days 250"):
        check(load_settings(overrides=("risk.allocation_rules.days_min=300",)))


def test_a_history_that_nobody_could_have_is_refused() -> None:
    """Else nothing new would ever pass, each time for want of history."""
    with pytest.raises(BadInput, match=r"risk.portfolio: history_days_min 40 must be at most history_days 30"):
        check(load_settings(overrides=("risk.portfolio.history_days=30",)))
