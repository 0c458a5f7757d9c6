"""Two replays are equal exactly when their canonical rows are."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.gap import GapCandidate
from finagent.domain.jobs import Job
from finagent.domain.orders import BrokerOrder, Fill, OrderIntent, OrderState
from finagent.domain.prediction import Prediction
from finagent.domain.risk import RiskCode, RiskDecision
from finagent.services.reporting.canonical import canonical_rows, canonical_text, outcome_hash


def changed(records: list[Any], record_type: type[Any], **values: Any) -> list[Any]:
    """The records with the first of that type changed."""
    index = next(number for number, record in enumerate(records) if type(record) is record_type)
    return [*records[:index], replace(records[index], **values), *records[index + 1 :]]


def test_every_kind_of_row_is_there(ledger: Any) -> None:
    """Candidate facts, prediction, plan, verdict with code, intent, order, fill, outcome, exit and account are all rows."""
    kinds = {row["row"] for row in canonical_rows(ledger)}

    assert kinds == {"candidate", "prediction", "plan", "verdict", "intent", "order", "fill", "outcome", "exit", "account"}


def test_order_of_storage_does_not_matter(ledger: Any, ledger_records: list[Any]) -> None:
    """The rows stand in market order, however the store returns them."""
    backwards = type(ledger)(reversed(ledger_records))

    assert canonical_rows(ledger) == canonical_rows(backwards)


@pytest.mark.parametrize(
    ("record_type", "values"),
    [
        (Fill, {"price": Decimal("104.03")}),
        (Fill, {"quantity": 61}),
        (OrderIntent, {"quantity": 99}),
        (BrokerOrder, {"state": OrderState.EXPIRED}),
        (Prediction, {"score": 0.72}),
        (RiskDecision, {"code": RiskCode.DAILY_LOSS}),
        (DecisionOutcome, {"outcome": SignalOutcome.DEAD}),
    ],
)
def test_a_changed_outcome_changes_the_hash(ledger: Any, ledger_records: list[Any], record_type: type[Any], values: Any) -> None:
    """One changed price, quantity, state, score, code or outcome is seen."""
    other = type(ledger)(changed(ledger_records, record_type, **values))

    assert outcome_hash(other) != outcome_hash(ledger)


def test_a_fill_counted_twice_changes_the_hash(ledger: Any, ledger_records: list[Any]) -> None:
    """A duplicate under another execution id is another outcome."""
    fill = next(record for record in ledger_records if isinstance(record, Fill))
    other = type(ledger)([*ledger_records, replace(fill, execution_id="x-again")])

    assert outcome_hash(other) != outcome_hash(ledger)


@pytest.mark.parametrize(
    ("record_type", "values"),
    [
        (BrokerOrder, {"sends": 3, "broker_order_id": "another"}),
        (Prediction, {"created_at": None}),
        (Job, {"attempts": 4, "crashes": 2, "epoch": 9}),
    ],
)
def test_how_it_came_about_does_not_change_the_hash(
    ledger: Any, ledger_records: list[Any], record_type: type[Any], values: Any
) -> None:
    """Sends, broker ids, attempts, crashes, epochs and commit times are no part of the outcome."""
    other = type(ledger)(changed(ledger_records, record_type, **values))

    assert outcome_hash(other) == outcome_hash(ledger)


def test_market_time_of_a_fill_counts(ledger: Any, ledger_records: list[Any]) -> None:
    """A fill one minute later is another outcome."""
    fill = next(record for record in ledger_records if isinstance(record, Fill))
    other = type(ledger)(changed(ledger_records, Fill, filled_at=fill.filled_at + timedelta(minutes=1)))

    assert outcome_hash(other) != outcome_hash(ledger)


def test_text_is_one_sorted_object_a_line(ledger: Any, ledger_records: list[Any]) -> None:
    """Each line parses alone, keys are sorted, decimals are text, and no id of the store shows."""
    lines = canonical_text(canonical_rows(ledger)).splitlines()

    for line in lines:
        row = json.loads(line)
        assert list(row) == sorted(row)
    candidate = next(record for record in ledger_records if isinstance(record, GapCandidate))
    assert not any(candidate.decision_id in line or candidate.run_id in line or "broker-" in line for line in lines)
    assert '"price":"104.02"' in "".join(lines)
