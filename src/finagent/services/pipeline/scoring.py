"""Candidates that wait together are one inference, off the event loop; no score means no trade, stated."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.decision import SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.gap import FeatureVector, GapCandidate
from finagent.domain.jobs import Job, Next
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.predictor import Predictor
from finagent.domain.ports.store import Reads
from finagent.domain.prediction import Prediction
from finagent.domain.runs import Stage, SymbolState
from finagent.services.pipeline.outcome import ended, has_ended, stage, story


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """`score_decimals`: scores are rounded when committed; below `score_min` there is no trade."""

    score_decimals: int
    score_min: float


@dataclass(frozen=True, slots=True)
class ScoringService:
    """`spec` is that of the vectors; the model reads those of its columns that it was made for."""

    predictor: Predictor
    clock: Clock
    policy: ScoringPolicy
    infer: Callable[[Floats], Awaitable[Floats]]
    spec: DataSpec
    columns: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Raises BadInput for a model that was made for other features than there are."""
        wanted = self.predictor.spec
        self.spec.select(self.spec.name, wanted.names).require(wanted, f"model {self.predictor.model_version}")
        object.__setattr__(self, "columns", [self.spec.columns[name] for name in wanted.names])

    async def score(self, jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
        """One effect a job, in their order."""
        stories = [self._inputs(job, reads) for job in jobs]
        rows = np.asarray([vector.values for _, vector in stories], dtype=np.float64)
        scores = await self.infer(rows[:, self.columns])
        scored = zip(stories, scores, strict=True)
        return [
            Effect() if has_ended(candidate, reads) else self._effect(candidate, vector, float(score))
            for (candidate, vector), score in scored
        ]

    def _inputs(self, job: Job, reads: Reads) -> tuple[GapCandidate, FeatureVector]:
        decision = job.payload["decision_id"]
        candidate, vector = reads.get(GapCandidate, decision), reads.get(FeatureVector, decision)
        if candidate is None or vector is None:
            raise Permanent(f"score {decision}: its candidate or feature vector is not stored")
        if vector.data_spec_hash != self.spec.hash:
            raise Permanent(
                f"score {decision}: its features are of data spec {vector.data_spec_hash}, model {self.predictor.model_version} "
                f"reads {self.spec.hash}"
            )
        return candidate, vector

    def _effect(self, candidate: GapCandidate, vector: FeatureVector, score: float) -> Effect:
        now = self.clock.now()
        if not 0.0 <= score <= 1.0:  # NaN, too
            return ended(candidate, Stage.SCORE, SignalOutcome.NO_TRADE, f"no score in [0, 1]: {score}", now)
        score = round(score, self.policy.score_decimals)
        prediction = Prediction(candidate.decision_id, self.predictor.model_version, vector.data_spec_hash, score, now)
        told = Effect(
            (prediction,), events=(story(candidate, "candidate_scored", now, score=score, model=self.predictor.model_version),)
        )
        if score < self.policy.score_min:
            reason = f"score {score} < {self.policy.score_min}"
            return told + ended(candidate, Stage.SCORE, SignalOutcome.NO_TRADE, reason, now)
        key = f"plan:{candidate.decision_id}"
        following = Next("plan", key, {"decision_id": candidate.decision_id}, trace_id=candidate.trace_id)
        return told + Effect((stage(candidate, Stage.SCORE, SymbolState.RUNNING),), (following,))
