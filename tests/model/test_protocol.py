"""The protocol of queue and orders, all interleavings: safe and live as it is, found wrong without any one of its rules."""

from dataclasses import replace

import pytest
from tests.model.__main__ import SECONDS_MAX, report
from tests.model.protocol import (
    AFTER_HALT,
    ALONE,
    DUPLICATE,
    FALSE_END,
    FENCED,
    LOST,
    PROTOCOLS,
    STUCK,
    UNINTENDED,
    VARIANTS,
    WINDOWS,
    Protocol,
)
from tests.model.search import Search, Trace
from tests.model.state import ACCEPTED, CANCELLED, DENIED, DOUBT, EXPIRED, FILLED, NONE, PARKED, PENDING, REJECTED

BREAKS = {
    "no fencing at commit": FENCED,
    "send before intent commit": UNINTENDED,
    "acknowledgement before effect": LOST,
    "new id after a time-out": DUPLICATE,
    "sent again where only open orders are deduplicated": DUPLICATE,
    "job parked while the broker is silent": STUCK,
    "objection asked before the look-up": AFTER_HALT,
}


def told(trace: Trace) -> str:
    lines = "\n".join(f"{number:4d} {line}" for number, line in enumerate(trace.steps, 1))
    return f"{trace.wrong}, after {len(trace.steps)} steps:\n{lines}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_protocol_is_safe_and_every_candidate_gets_its_outcome(name: str) -> None:
    finding = Search(PROTOCOLS[name]).run()

    assert finding.unsafe is None, told(finding.unsafe)
    assert finding.stuck is None, told(finding.stuck)
    print(f"{name}: {finding.states} states, {finding.transitions} transitions, {finding.seconds:.1f} s")
    assert finding.seconds < SECONDS_MAX


def test_the_search_sees_every_row_and_enough_states() -> None:
    """A search that goes nowhere finds nothing either."""
    finding = Search(ALONE).run()

    rows = {NONE, PENDING, DOUBT, PARKED, ACCEPTED, FILLED, CANCELLED, REJECTED, DENIED, EXPIRED}
    assert set(finding.rows) == rows
    assert sum(finding.rows.values()) == finding.states > 2_000


@pytest.mark.parametrize("name", VARIANTS)
def test_without_one_of_its_rules_the_protocol_is_found_wrong(name: str) -> None:
    finding = Search(VARIANTS[name]).run()
    trace = finding.unsafe or finding.stuck

    assert trace is not None
    print(f"{name}: {told(trace)}")
    assert trace.wrong.split(":")[0] == BREAKS.get(name, FALSE_END), told(trace)


@pytest.mark.parametrize("name", WINDOWS)
def test_the_windows_that_remain_are_ends_that_are_false_and_never_a_duplicate(name: str) -> None:
    trace = Search(WINDOWS[name]).run().unsafe

    assert trace is not None
    print(f"{name}: {told(trace)}")
    assert trace.wrong.startswith(FALSE_END)
    assert Search(replace(WINDOWS[name], workers=1, never=frozenset({DUPLICATE, UNINTENDED}))).run().unsafe is None


@pytest.mark.parametrize(
    ("protocol", "held"),
    [(ALONE, True), (replace(ALONE, intent_before_send=False), False)],
)
def test_the_command_says_whether_it_held(protocol: Protocol, held: bool) -> None:
    wrong = {"new id": replace(ALONE, same_id_again=False)}
    document = report({"protocol": protocol}, wrong, {})

    assert document["held"] is held
    assert document["variants"]["new id"]["steps"] == len(document["variants"]["new id"]["trace"]) > 10
    assert not report({"protocol": ALONE}, {"no variant": ALONE}, {})["held"]
