"""STORY: what was decided is told. No intent without the event that says so, in the commit that stored it."""

from collections.abc import Iterator

from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import Book

TOLD = "intent_committed"


def check_story(agent: Book, report: Report) -> None:
    """List the entries of which their decision's chain says nothing."""
    report.add(_untold_entries(agent))


def _untold_entries(agent: Book) -> Iterator[Violation]:
    told = {row["subject_id"] for row in agent.rows("SELECT subject_id FROM decision_event WHERE kind = ?", TOLD)}
    for row in agent.rows("SELECT client_order_id, decision_id FROM order_intent WHERE leg = 'ENTRY' ORDER BY client_order_id"):
        if row["decision_id"] not in told:
            yield Violation(Invariant.STORY, row["client_order_id"], f"no event {TOLD} on the chain of {row['decision_id']}")
