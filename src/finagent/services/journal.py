"""Every committed decision event as a line of log: one trace id from scan to fill."""

from datetime import datetime

import structlog

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.gap import GapCandidate
from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.domain.time import to_text
from finagent.services.progress import RecoveryInfo, ReplaySummary, StartInfo

log = structlog.get_logger(__name__)


class Journal:
    """A ProgressObserver that logs. Once it was given `reads`, it also knows the candidates of an earlier process."""

    def __init__(self) -> None:
        self.reads: Reads | None = None
        self._candidates: dict[str, GapCandidate] = {}

    def started(self, info: StartInfo) -> None:
        log.info("agent_started", mode=info.mode, source=info.source_id, ledger_id=info.ledger_id, sessions=info.sessions)

    def recovered(self, info: RecoveryInfo) -> None:
        log.info("state_recovered", jobs=info.jobs_by_type, unresolved=info.orders_unresolved, positions=info.positions)

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        """Market time alone is not worth a line."""

    def committed(self, effect: Effect) -> None:
        for record in effect.records:
            if isinstance(record, GapCandidate):
                self._candidates[record.decision_id] = record
        for event in effect.events:
            log.info(event.kind, market_time=to_text(event.at), **self._ids(event), **_named(event))

    def finished(self, summary: ReplaySummary) -> None:
        log.info("replay_finished", outcome_hash=summary.outcome_hash, pnl=str(summary.pnl), report=summary.report_path)

    def _ids(self, event: DecisionEvent) -> dict[str, str]:
        ids = {"trace_id": event.trace_id, "decision_id": event.decision_id or ""}
        if event.subject_type is SubjectType.RUN:
            ids["run_id"] = event.subject_id
        candidate = self._candidate(event.decision_id) if event.decision_id else None
        if candidate:
            ids |= {"run_id": candidate.run_id, "symbol": candidate.symbol}
        return {name: value for name, value in ids.items() if value}

    def _candidate(self, decision_id: str) -> GapCandidate | None:
        known = self._candidates.get(decision_id)
        return known if known or self.reads is None else self.reads.get(GapCandidate, decision_id)


def _named(event: DecisionEvent) -> dict[str, object]:
    """The event's own facts, under one name so that none of them stands in for a field of the line."""
    return {"facts": dict(event.body)} if event.body else {}
