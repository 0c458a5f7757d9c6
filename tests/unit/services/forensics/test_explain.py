"""Any id leads to the whole story, in order."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from finagent.domain.errors import BadInput
from finagent.domain.gap import GapCandidate
from finagent.domain.identity import trace_id
from finagent.domain.jobs import JOB_TYPES, JobStatus
from finagent.domain.orders import BrokerOrder, Leg
from finagent.services.forensics.explain import Explanation, explain
from finagent.services.forensics.job_history import JobCount, JobFilter, JobRecord


class ListedJobs:
    """The JobHistory port over a list."""

    def __init__(self, records: list[JobRecord]) -> None:
        self.records = records

    def job(self, job_id: int) -> JobRecord | None:
        return next((one for one in self.records if one.id == job_id), None)

    def of_trace(self, trace_id: str) -> list[JobRecord]:
        return [one for one in self.records if one.trace_id == trace_id]

    def listed(self, wanted: JobFilter, limit: int) -> list[JobRecord]:
        return self.records[:limit]

    def counts(self, now: datetime) -> list[JobCount]:
        return []

    def known(self) -> tuple[set[str], set[str]]:
        return set(), set()


@pytest.fixture
def candidates(ledger: Any) -> dict[str, GapCandidate]:
    """The first candidate of each symbol."""
    found: dict[str, GapCandidate] = {}
    for one in ledger.records:
        if isinstance(one, GapCandidate):
            found.setdefault(one.symbol, one)
    return found


@pytest.fixture
def jobs(candidates: dict[str, GapCandidate]) -> ListedJobs:
    def job(number: int, kind: str, payload: dict[str, Any], trace: str) -> JobRecord:
        at = candidates["AAPL"].as_of
        what = (number, kind, JOB_TYPES[kind].queue, JobStatus.DONE, f"{kind}:{number}", payload, 1, 50)
        return JobRecord(*what, at, 0, 0, trace, None, "", (), at, at, at)

    aapl = candidates["AAPL"]
    return ListedJobs(
        [
            job(1, "scan", {"entry": "scan"}, ""),
            job(2, "score", {"decision_id": aapl.decision_id}, aapl.trace_id),
            job(3, "gather", {"run_id": aapl.run_id}, trace_id(aapl.run_id)),
        ]
    )


def test_a_filled_decision_is_told_from_scan_to_exit(ledger: Any, jobs: ListedJobs, candidates: dict[str, GapCandidate]) -> None:
    """Every stage is a step, in order of time, with the jobs and events beside."""
    told = explain(ledger, jobs, candidates["AAPL"].decision_id)

    kinds = [step.kind for step in told.steps]
    for earlier, later in (
        ("scan", "candidate"),
        ("candidate", "prediction"),
        ("prediction", "plan"),
        ("plan", "verdict"),
        ("verdict", "intent"),
        ("intent", "send"),
        ("send", "fill"),
        ("fill", "exit"),
    ):
        assert kinds.index(earlier) < kinds.index(later)
    times = [step.at for step in told.steps if step.at]
    assert times == sorted(times)
    assert told.ending.startswith("FILLED")
    assert "+398.75" in told.ending
    assert [job.type for job in told.jobs] == ["score"]
    assert [event.kind for event in told.events] == ["candidate_found", "score_committed"]


def test_every_id_of_a_story_leads_to_it(ledger: Any, jobs: ListedJobs, candidates: dict[str, GapCandidate]) -> None:
    """Our order id, the broker's, a job, the trace, and the beginning of an id."""
    aapl = candidates["AAPL"]
    order = next(one for one in ledger.find(BrokerOrder, decision_id=aapl.decision_id) if one.leg is Leg.ENTRY)
    whole = explain(ledger, jobs, aapl.decision_id)

    def story(asked: str) -> Explanation:
        return explain(ledger, jobs, asked)

    for asked in (order.client_order_id, order.broker_order_id, "2", aapl.trace_id, aapl.decision_id[:12]):
        assert story(asked).steps == whole.steps, asked
    assert story(order.client_order_id).focus == f"order {order.client_order_id}"
    assert story("2").focus == "job 2"


def test_a_run_names_its_candidates_and_what_it_turned_away(
    ledger: Any, jobs: ListedJobs, candidates: dict[str, GapCandidate]
) -> None:
    """The run's own trace and its jobs lead to it as well."""
    run = candidates["FB"].run_id
    told = explain(ledger, jobs, run)

    texts = [step.text for step in told.steps]
    assert told.subject == "RUN"
    assert any(text.startswith("GE: RELATIVE_VOLUME") for text in texts)
    assert any(text.startswith("BAD: BAD_BAR") for text in texts)
    assert any(text.startswith("FB: NO_TRADE") for text in texts)
    assert explain(ledger, jobs, trace_id(run)).steps == told.steps
    assert explain(ledger, jobs, "3").subject_id == candidates["AAPL"].run_id


def test_a_job_of_no_story_stands_alone(ledger: Any, jobs: ListedJobs) -> None:
    """A job that belongs to no decision or run is shown by itself."""
    told = explain(ledger, jobs, "1")

    assert (told.subject, told.jobs[0].type, told.steps) == ("JOB", "scan", ())


@pytest.mark.parametrize("asked", ["", "dec-nothing", "999", "fa-0", "run-", "\x1b[31m", "9" * 30])
def test_an_unknown_id_says_what_may_stand_there(ledger: Any, jobs: ListedJobs, asked: str) -> None:
    """The message names the kinds of id and an example."""
    with pytest.raises(BadInput, match=r"ask for a decision such as dec-"):
        explain(ledger, jobs, asked)


def test_a_beginning_of_several_ids_is_refused(ledger: Any, jobs: ListedJobs, candidates: dict[str, GapCandidate]) -> None:
    """Two decisions that share the beginning are both named."""
    decision = candidates["AAPL"].decision_id
    twin = replace(candidates["AAPL"], decision_id=decision[:-1] + "x")
    more = type(ledger)([*ledger.records, twin])

    with pytest.raises(BadInput, match="begins 2 decision ids"):
        explain(more, jobs, decision[:-1])
