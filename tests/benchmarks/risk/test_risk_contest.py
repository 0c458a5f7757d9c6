"""What is timed is the gate: every check is asked, and the plain check says the same."""

from finagent.bench.risk import Desk
from finagent.domain.risk import RiskCode, Verdict
from finagent.domain.risk_checks import CHECKS, PAST_CHECKS


def test_the_plan_of_the_contest_meets_every_check_and_passes_the_plain_one() -> None:
    desk = Desk()
    decision = desk.check()

    assert decision.verdict is Verdict.APPROVED
    assert len(decision.checks) == len(CHECKS) + len(PAST_CHECKS)
    assert desk.plain_check()


def test_both_say_no_where_value_at_risk_has_no_room() -> None:
    desk = Desk(value_at_risk_fraction=0.01)
    decision = desk.check()

    assert (decision.verdict, decision.code) == (Verdict.REFUSED, RiskCode.VALUE_AT_RISK)
    assert not desk.plain_check()
