"""One vectorised pass over the universe; each candidate is committed with its facts, its score job and its trace id."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan
from typing import Any

import numpy as np

from finagent.domain import identity
from finagent.domain.bars import Floats
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.gap import SIMULATED, Direction, FeatureVector, GapCandidate, GapFacts
from finagent.domain.jobs import Job, Next
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.runs import PipelineRun, RunState, Stage, SymbolRun, SymbolState
from finagent.domain.time import from_text, to_text
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.features.gap_scan import NearMiss, ScanReason, ScanResult
from finagent.services.market_data.feed import Feed
from finagent.services.pipeline.allocation import Allocator, RiskShare
from finagent.services.pipeline.outcome import story
from finagent.services.portfolio import ledger

BAR_WAIT_STEP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class ScannerPolicy:
    """`misfire_seconds`: a scan that starts later than that is EXPIRED; `gather_seconds`: the gate waits no longer for plans. On
    wall time a scan waits for its session to be fed, and up to `bar_wait_seconds` for the bars of its minute."""

    misfire_seconds: float
    gather_seconds: float
    bar_wait_seconds: float


def missed(miss: NearMiss) -> str:
    """The rule that a near miss failed, with its value and limit."""
    value = "unknown" if miss.value is None else f"{miss.value:.4g}"
    return f"{miss.reason.name}: {value}, limit {miss.limit:.4g}"


@dataclass(frozen=True, slots=True)
class ScannerService:
    feed: Feed
    clock: Clock
    policy: ScannerPolicy
    allocator: Allocator | None = None  # None: every trade risks the same

    async def scan(self, job: Job, reads: Reads) -> Effect:
        entry, fired_at, now = job.payload["entry"], from_text(job.payload["fired_at"]), self.clock.now()
        run_id = identity.run_id(ledger(reads).ledger_id, entry, fired_at)
        if now - fired_at > timedelta(seconds=self.policy.misfire_seconds):
            return self._expired(run_id, entry, fired_at, now)
        late = now - fired_at >= timedelta(seconds=self.policy.bar_wait_seconds)
        if not self.feed.follows(fired_at) or (self.feed.minutes_behind and not late):
            again = now + timedelta(seconds=BAR_WAIT_STEP_SECONDS)
            return Effect(next=(Next("scan", f"scan:{entry}:{to_text(fired_at)}:{to_text(again)}", dict(job.payload), again),))
        session = self.feed.session
        seen = {candidate.symbol for candidate in reads.find(GapCandidate, session_date=session.date)}
        found = self.feed.scan()
        candidates = found.candidates()
        rows = await self.feed.candidate_rows(found) if candidates else np.empty((0, 0))
        new = [(each, row) for each, row in zip(candidates, rows, strict=True) if each[0] not in seen]
        shares = await self.allocator.shares(session, [each[:2] for each, _ in new]) if self.allocator else {}
        effect = Effect()
        for each, row in new:
            effect += self._candidate(run_id, each, row, now, session.instant_of(found.minute), shares.get(each[0]))
        taken = len(new)
        near = [
            SymbolRun(run_id, miss.symbol, Stage.SCAN, SymbolState.NEAR_MISS, missed(miss))
            for miss in found.near_misses()
            if miss.symbol not in seen
        ]
        failed = [SymbolRun(run_id, symbol, Stage.SCAN, SymbolState.FAILED, reason) for symbol, reason in self._failures(found)]
        run = PipelineRun(
            run_id,
            entry,
            session.date,
            fired_at,
            RunState.RUNNING if taken else RunState.SUCCESS,
            len(self.feed.symbols),
            taken,
            len(failed),
            _turned_away(found, seen),
            "",
            None if taken else now,
        )
        body: dict[str, Any] = {"candidates": taken, "near_misses": len(near), "failed": len(failed), "symbols": run.symbols}
        body |= {"risk_multiples": {symbol: str(share.multiple) for symbol, share in shares.items()}} if shares else {}
        told = DecisionEvent(SubjectType.RUN, run_id, "scan_completed", now, identity.trace_id(run_id), body=body)
        deadline = Next(
            "gather",
            f"gather:{run_id}:deadline",
            {"run_id": run_id, "last_call": True},
            now + timedelta(seconds=self.policy.gather_seconds),
            trace_id=identity.trace_id(run_id),
        )
        return Effect((run,)) + effect + Effect((*near, *failed), (deadline,) if taken else (), (told,))

    def _failures(self, found: ScanResult) -> list[tuple[str, str]]:
        excluded = self.feed.exclusions()
        failed = [(symbol, excluded.get(symbol, "excluded")) for symbol in found.symbols_with(ScanReason.EXCLUDED)]
        return failed + [
            (symbol, "BAD_DATA: a refused bar or an impossible previous close")
            for symbol in found.symbols_with(ScanReason.BAD_DATA)
        ]

    def _candidate(
        self,
        run_id: str,
        found: tuple[str, Direction, GapFacts],
        row: Floats,
        now: datetime,
        as_of: datetime,
        share: RiskShare | None,
    ) -> Effect:
        symbol, direction, facts = found
        decision = identity.decision_id(run_id, symbol)
        candidate = GapCandidate(
            decision,
            run_id,
            symbol,
            self.feed.session.date,
            direction,
            identity.trace_id(decision),
            now,
            facts,
        )
        values = tuple(row.tolist())
        unknown = sum(isnan(value) for value in values)
        quality = [SIMULATED] * self.feed.simulated + [f"{unknown} unknown"] * bool(unknown)
        payload = {"decision_id": decision} | (share.payload() if share else {})
        vector = FeatureVector(decision, as_of, now, CANDIDATE.hash, values, ", ".join(quality) or "OK")
        return Effect(
            records=(candidate, vector, SymbolRun(run_id, symbol, Stage.SCAN, SymbolState.RUNNING, "")),
            next=(Next("score", f"score:{decision}", payload, trace_id=candidate.trace_id),),
            events=(
                story(
                    candidate,
                    "gap_found",
                    now,
                    symbol=symbol,
                    gap=facts.gap,
                    relative_volume=facts.relative_volume,
                    last=facts.last,
                ),
            ),
        )

    def _expired(self, run_id: str, entry: str, fired_at: datetime, now: datetime) -> Effect:
        late = (now - fired_at).total_seconds()
        reason = f"found {late:.0f} s after its fire time"
        run = PipelineRun(run_id, entry, fired_at.date(), fired_at, RunState.EXPIRED, 0, 0, 0, {}, reason, now)
        event = DecisionEvent(SubjectType.RUN, run_id, "run_expired", now, identity.trace_id(run_id), body={"late_seconds": late})
        return Effect((run,), events=(event,))


def _turned_away(found: ScanResult, seen: set[str]) -> dict[str, int]:
    """Symbols by what the scan made of them; one that an earlier scan of the session took counts on its own."""
    counts = found.counts()
    again = sum(1 for symbol, _, _ in found.candidates() if symbol in seen)
    if again:
        counts["ALREADY_CANDIDATE"] = again
        counts["CANDIDATE"] -= again
    return {reason: count for reason, count in counts.items() if count}
