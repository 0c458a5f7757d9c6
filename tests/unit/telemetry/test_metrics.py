"""The series have the names that boards and rules use, and no more of them than promised."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from finagent.domain.decision import DecisionOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.jobs import JobStatus
from finagent.domain.orders import BrokerOrder, Fill, SendOutcome
from finagent.domain.risk import RiskDecision
from finagent.domain.trading_state import StartGate, TradingState, TradingStateRecord
from finagent.quant.evaluation.promotion import Guards, Health, judge_demotion
from finagent.services.metering import MetricsObserver
from finagent.services.models.history import demotion
from finagent.telemetry.metrics import Metrics

NOW = datetime(2008, 10, 1, 14, 0, tzinfo=UTC)


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """(name, label values) -> value."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(one.name, ",".join(one.labels.values())): one.value for family in families for one in family.samples}


def test_the_names_of_the_interface_exist() -> None:
    """Each promised name is exposed."""
    metrics = Metrics()
    metrics.job_done("scan", 0.1, 0.2)
    metrics.committed(3, 0.01)
    metrics.api_request("broker", "CONFIRMED")
    metrics.api_retry("broker")
    metrics.set_trading_state(TradingState.ACTIVE)
    names = {name for name, _ in samples(metrics)}
    promised = """job_duration_seconds_bucket job_wait_seconds_bucket jobs job_retries_total jobs_dead_total
        commit_duration_seconds_bucket commit_group_size_bucket scan_duration_seconds_bucket api_requests_total api_retries_total
        orders_total orders_unresolved event_loop_lag_seconds bar_age_seconds last_pass_age_seconds trading_state wal_bytes
        inference_duration_seconds_bucket"""

    assert {f"finagent_{name}" for name in promised.split()} <= names


def test_labels_from_outside_stay_bounded() -> None:
    """A million names make one more series, not a million: at most 2,000 in all."""
    metrics = Metrics()
    for number in range(500):
        metrics.job_done(f"job-{number}", 0, 0)
        metrics.job_failed(f"job-{number}", JobStatus.DEAD)
        metrics.api_request(f"target-{number}", f"outcome-{number}")
        metrics.api_retry(f"target-{number}")

    found = samples(metrics)
    assert found["finagent_jobs_dead_total", "other"] == 500
    assert len(found) < 2_000


def test_two_processes_in_one_do_not_share_series() -> None:
    """Each Metrics has a registry of its own."""
    one, other = Metrics(), Metrics()
    one.fills.inc()

    assert samples(one)["finagent_fills_total", ""] == 1
    assert samples(other)["finagent_fills_total", ""] == 0


@pytest.mark.parametrize(
    ("status", "retries", "dead"), [(JobStatus.SCHEDULED, 1, 0), (JobStatus.DEAD, 0, 1), (JobStatus.PARKED, 0, 0)]
)
def test_a_failure_counts_by_what_became_of_the_job(status: JobStatus, retries: int, dead: int) -> None:
    """Tried again, given up, or parked for a person (which the `jobs` gauge shows)."""
    metrics = Metrics()
    metrics.job_failed("send", status)

    found = samples(metrics)
    assert (found["finagent_job_retries_total", "send"], found["finagent_jobs_dead_total", "send"]) == (retries, dead)


def test_states_are_exclusive() -> None:
    """Exactly one trading state and one position of the start gate is 1."""
    metrics = Metrics()
    metrics.set_trading_state(TradingState.ACTIVE)
    metrics.set_trading_state(TradingState.HALTED)
    metrics.set_start_gate(StartGate.OPEN)

    found = samples(metrics)
    assert {label for (name, label), value in found.items() if name == "finagent_trading_state" and value} == {"HALTED"}
    assert {label for (name, label), value in found.items() if name == "finagent_start_gate" and value} == {"OPEN"}


def test_gauges_are_read_when_they_are_asked_for() -> None:
    """A refresh runs before each exposition."""
    metrics = Metrics()
    sizes = iter([10, 20])
    metrics.before_scrape(lambda: metrics.wal_bytes.set(next(sizes)))

    assert [samples(metrics)["finagent_wal_bytes", ""] for _ in range(2)] == [10, 20]


def test_committed_effects_are_counted(ledger_records: list[Any]) -> None:
    """Every candidate, fill, outcome and ended send of an effect, once."""
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    observer.committed(Effect(records=tuple(ledger_records)))
    observer.committed(Effect(records=(Set(BrokerOrder, ("fa-1",), {"outcome": SendOutcome.REFUSED}),)))
    again = Set(BrokerOrder, ("fa-1",), {"outcome": SendOutcome.CONFIRMED}, {"outcome": SendOutcome.CONFIRMED})
    observer.committed(Effect(records=(again,)))
    observer.committed(Effect(records=(Set(TradingStateRecord, (1,), {"state": TradingState.HALTED, "at": NOW}),)))
    observer.committed(Effect(events=(demotion("m@2", "m@1", judge_demotion(Health(failed_fraction=0.5), Guards()), NOW),)))

    found = samples(metrics)
    assert found["finagent_fills_total", ""] == sum(isinstance(one, Fill) for one in ledger_records)
    assert found["finagent_signals_total", "FILLED"] == 3
    assert sum(value for (name, _), value in found.items() if name == "finagent_signals_total") == sum(
        isinstance(one, DecisionOutcome) for one in ledger_records
    )
    assert found["finagent_model_demotions_total", ""] == 1
    judged = [one for one in ledger_records if isinstance(one, RiskDecision)]
    told = {labels: count for (name, labels), count in found.items() if name == "finagent_risk_verdicts_total"}
    assert told == Counter(f"{one.code.value},{one.verdict.value}" for one in judged) != {}
    assert found["finagent_orders_total", "REFUSED"] == 1
    assert found["finagent_orders_total", "UNRESOLVED"] == 1
    assert found["finagent_orders_total", "CONFIRMED"] == sum(
        isinstance(one, BrokerOrder) and one.outcome is SendOutcome.CONFIRMED for one in ledger_records
    )
    assert found["finagent_equity_usd", ""] == float(Decimal("100228.05"))
    assert found["finagent_trading_state", "HALTED"] == 1
