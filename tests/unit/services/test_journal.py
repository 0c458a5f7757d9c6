"""The log tells a decision under one trace id, whichever process committed which part."""

from typing import Any

from structlog.testing import capture_logs

from finagent.domain.decision import DecisionEvent
from finagent.domain.effect import Effect
from finagent.domain.gap import GapCandidate
from finagent.services.journal import Journal


def test_each_event_is_a_line_with_the_ids_of_its_story(ledger_records: list[Any]) -> None:
    """Trace, run, decision and symbol are on every line of a decision; its facts stay under their own name."""
    candidate = next(one for one in ledger_records if isinstance(one, GapCandidate))
    events = tuple(one for one in ledger_records if isinstance(one, DecisionEvent) and one.decision_id == candidate.decision_id)
    with capture_logs() as lines:
        Journal().committed(Effect(records=(candidate,), events=events))

    assert [line["event"] for line in lines] == ["candidate_found", "score_committed"]
    for line in lines:
        assert (line["trace_id"], line["run_id"]) == (candidate.trace_id, candidate.run_id)
        assert (line["decision_id"], line["symbol"]) == (candidate.decision_id, "AAPL")
    assert lines[1]["facts"] == {"score": 0.71}
    assert lines[0]["market_time"] == "2008-10-01T13:35:00.000000Z"


def test_a_candidate_of_an_earlier_process_is_looked_up(ledger: Any, ledger_records: list[Any]) -> None:
    """After a restart the symbol is still on the line."""
    event = next(one for one in ledger_records if isinstance(one, DecisionEvent))
    journal = Journal()
    journal.reads = ledger
    with capture_logs() as lines:
        journal.committed(Effect(events=(event,)))

    assert lines[0]["symbol"] == "AAPL"


def test_a_commit_without_events_is_silent(ledger_records: list[Any]) -> None:
    """Bulk rows make no noise."""
    with capture_logs() as lines:
        Journal().committed(Effect(records=tuple(ledger_records)))

    assert lines == []
