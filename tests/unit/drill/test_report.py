"""A drill fails on a violation, and when it risked too little to prove anything."""

from dataclasses import replace

import pytest

from finagent.drill.labels import LABELS
from finagent.drill.plan import Aim
from finagent.drill.report import KILLS_A_LABEL_HIT, DrillReport, Kill, percentile

CLEAN = {"lost": 0, "duplicate": 0, "unequal": 0, "parked": 0, "candidates": 40, "orders": 20, "violations": []}


def report(at_risk: int, in_flight: int, kills: int = 10) -> DrillReport:
    drill = DrillReport(seed=7)
    drill.kills = [Kill(Aim.LABEL, "send.before", False, at_risk, number < in_flight) for number in range(kills)]
    return drill


@pytest.mark.parametrize(
    ("at_risk", "in_flight", "kills", "complaint"),
    [(2, 2, 10, "signals_at_risk"), (3, 1, 10, "kills_with_order_in_flight"), (3, 2, 9, "kills")],
)
def test_a_drill_that_risks_too_little_fails(at_risk: int, in_flight: int, kills: int, complaint: str) -> None:
    drill = report(at_risk, in_flight, kills)

    drill.require_proof(kills_wanted=10)

    assert drill.failed
    assert complaint in {violation["subject"] for violation in drill.violations}


def test_enough_at_risk_and_nothing_found_is_a_proof() -> None:
    drill = report(at_risk=3, in_flight=2)
    drill.take("folder", CLEAN)

    drill.require_proof(kills_wanted=10)

    assert not drill.failed


@pytest.mark.parametrize("count", ["lost", "duplicate", "unequal"])
def test_whatever_the_checker_counts_fails_the_drill(count: str) -> None:
    drill = report(at_risk=3, in_flight=2)

    drill.take("folder", {**CLEAN, count: 1})

    assert drill.failed


def test_the_document_has_every_promised_key_and_label() -> None:
    drill = report(at_risk=3, in_flight=2)
    drill.recovery_seconds = [0.1 * number for number in range(1, 101)]
    document = drill.as_json()

    promised = {
        "kills", "cold_starts", "lost", "duplicate", "violations", "unequal", "conflicts", "jitter_ms", "signals_at_risk",
        "kills_with_order_in_flight", "parked", "failpoints", "recovery_seconds", "seed",
    }  # fmt: skip
    assert promised <= set(document)
    assert set(document["failpoints"]) == set(LABELS)
    assert document["failpoints"]["send.before"] == 10
    assert document["recovery_seconds"] == {
        "p50": 5.0,
        "p99": 9.9,
        "forked": {"p50": 5.0, "p99": 9.9},
        "cold": {"p50": None, "p99": None},
    }


def test_a_label_that_was_hit_less_than_its_share_fails_the_drill() -> None:
    drill = report(at_risk=3, in_flight=400, kills=2 * KILLS_A_LABEL_HIT)
    drill.kills[0] = replace(drill.kills[0], label="send.after")
    drill.kills[1] = replace(drill.kills[1], label="send.after", aim=Aim.STOP)  # was stopped there and killed elsewhere

    drill.require_proof(2 * KILLS_A_LABEL_HIT, ("send.before", "send.after"))

    assert [violation["message"] for violation in drill.violations] == ["1 kills at it, not 2"]
    assert drill.violations[0]["subject"] == "send.after"


def test_wall_time_is_divided_as_cold_starts_and_the_rest_took_it_side_by_side() -> None:
    drill = report(at_risk=3, in_flight=2)
    drill.kills[0] = replace(drill.kills[0], cold=True)
    drill.seconds, drill.slot_seconds, drill.cold_slot_seconds = 10.0, 80.0, 8.0

    assert drill.as_json()["seconds_a_kill"] == {"forked": 1.0, "cold": 1.0}
    assert (drill.as_json()["kills_forked"], drill.as_json()["kills_cold"]) == (9, 1)
    assert report(3, 2).as_json()["seconds_a_kill"] == {"forked": None, "cold": None}


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.5) is None
    assert percentile([2.0], 0.99) == 2.0
