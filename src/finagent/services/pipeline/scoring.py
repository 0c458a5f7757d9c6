"""Candidates that wait together are one inference, off the event loop; no score means no trade, stated."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.decision import SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.experiment import Subject
from finagent.domain.gap import FeatureVector, GapCandidate
from finagent.domain.jobs import Job, Next
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.prediction import Prediction
from finagent.domain.runs import Stage, SymbolState
from finagent.services.models.serving import Score
from finagent.services.pipeline.allocation import share_of
from finagent.services.pipeline.outcome import ended, has_ended, stage, story


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """`score_decimals`: scores are rounded when committed; below `score_min` there is no trade."""

    score_decimals: int
    score_min: float


@dataclass(frozen=True, slots=True)
class ScoringService:
    """`spec` is that of the vectors. `infer` says a score a row and which model made it, or why there is none."""

    clock: Clock
    policy: ScoringPolicy
    infer: Callable[[Floats, Sequence[Subject]], Awaitable[Sequence[Score]]]
    spec: DataSpec

    async def score(self, jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
        """One effect a job, in their order."""
        stories = [self._inputs(job, reads) for job in jobs]
        rows = np.asarray([vector.values for _, vector in stories], dtype=np.float64)
        scores = await self.infer(rows, [Subject(candidate.symbol, candidate.session_date) for candidate, _ in stories])
        return [
            Effect() if has_ended(candidate, reads) else self._effect(candidate, vector, score, share_of(job.payload))
            for job, (candidate, vector), score in zip(jobs, stories, scores, strict=True)
        ]

    def _inputs(self, job: Job, reads: Reads) -> tuple[GapCandidate, FeatureVector]:
        decision = job.payload["decision_id"]
        candidate, vector = reads.get(GapCandidate, decision), reads.get(FeatureVector, decision)
        if candidate is None or vector is None:
            raise Permanent(f"score {decision}: its candidate or feature vector is not stored")
        if vector.data_spec_hash != self.spec.hash:
            raise Permanent(
                f"score {decision}: its features are of data spec {vector.data_spec_hash}, models read {self.spec.hash} here"
            )
        return candidate, vector

    def _effect(self, candidate: GapCandidate, vector: FeatureVector, scored: Score, share: dict[str, Any]) -> Effect:
        now = self.clock.now()
        if scored.reason:
            return ended(candidate, Stage.SCORE, SignalOutcome.NO_TRADE, scored.reason, now)
        score, version = round(scored.value, self.policy.score_decimals), scored.version
        prediction = Prediction(candidate.decision_id, version, vector.data_spec_hash, score, now)
        package: dict[str, Any] = {"model_sha256": scored.digest} if scored.digest else {}
        if scored.abstains:
            package["abstains"] = True
        told = Effect((prediction,), events=(story(candidate, "candidate_scored", now, score=score, model=version, **package),))
        if scored.abstains or score < self.policy.score_min:
            reason = f"score {score} < {self.policy.score_min}"
            if scored.abstains:
                reason = f"the model abstains: at a score of {score} it cannot rule out that the price goes the other way"
            return told + ended(candidate, Stage.SCORE, SignalOutcome.NO_TRADE, reason, now)
        key = f"plan:{candidate.decision_id}"
        following = Next("plan", key, {"decision_id": candidate.decision_id} | share, trace_id=candidate.trace_id)
        return told + Effect((stage(candidate, Stage.SCORE, SymbolState.RUNNING),), (following,))
