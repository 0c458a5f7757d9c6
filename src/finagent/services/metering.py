"""Counts what is committed and what models are asked: the observers that feed the metrics."""

from datetime import datetime

from finagent.domain.decision import DecisionOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.gap import GapCandidate
from finagent.domain.orders import BrokerOrder, Fill, SendOutcome
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.risk import RiskDecision
from finagent.domain.sessions import Session
from finagent.domain.trading_state import TradingState, TradingStateRecord
from finagent.services.models.history import DEMOTED
from finagent.services.models.serving import Call, Refusal
from finagent.services.progress import RecoveryInfo, ReplaySummary, StartInfo
from finagent.telemetry.metrics import Metrics


class MetricsObserver:
    """A ProgressObserver over one process's metrics. What an earlier process committed is not counted again."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def started(self, info: StartInfo) -> None:
        self._metrics.equity.set(float(info.start_equity))

    def recovered(self, info: RecoveryInfo) -> None:
        self._metrics.orders_unresolved.set(info.orders_unresolved)

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        self._metrics.market_time.set(at.timestamp())
        self._metrics.replay_progress.set(done / total if total else 0.0)

    def committed(self, effect: Effect) -> None:
        for event in effect.events:
            if event.kind == "order_sent_again":
                self._metrics.api_retry("broker")
            elif event.kind == DEMOTED:
                self._metrics.model_demotions.inc()
        for record in effect.records:
            if isinstance(record, Set):
                self._changed(record)
            elif isinstance(record, GapCandidate):
                self._metrics.candidates.inc()
            elif isinstance(record, RiskDecision):
                self._metrics.risk_verdicts.labels(record.verdict.value, record.code.value).inc()
            elif isinstance(record, Fill):
                self._metrics.fills.inc()
            elif isinstance(record, DecisionOutcome):
                self._metrics.signals.labels(record.outcome.value).inc()
            elif isinstance(record, AccountSnapshot):
                self._metrics.equity.set(float(record.equity))
            elif isinstance(record, BrokerOrder) and record.outcome:
                self._metrics.orders.labels(record.outcome.value).inc()

    def finished(self, summary: ReplaySummary) -> None:
        self._metrics.equity.set(float(summary.end_equity))

    def _changed(self, change: Set) -> None:
        outcome = change.values.get("outcome")
        news = outcome is not change.expect.get("outcome")  # a later report of a confirmed order confirms it again
        if change.record_type is BrokerOrder and isinstance(outcome, SendOutcome) and news:
            self._metrics.orders.labels(outcome.value).inc()
        state = change.values.get("state")
        if change.record_type is TradingStateRecord and isinstance(state, TradingState):
            self._metrics.set_trading_state(state)


class InferenceMeter:
    """An InferenceObserver over one process's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def model_called(self, call: Call) -> None:
        self._metrics.model_called(call.rows, call.seconds)

    def score_refused(self, refusal: Refusal, rows: int) -> None:
        self._metrics.score_refused(refusal.value, rows)

    def rows_waiting(self, rows: int) -> None:
        self._metrics.inference_queue_depth.set(rows)
