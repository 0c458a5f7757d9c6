"""One inference for all that wait; no score means no trade, stated; one bad row hurts nobody else."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finagent.domain.data_spec import AvailableAt, DataSpec, FeatureSpec, Group
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Permanent
from finagent.domain.gap import FeatureVector
from finagent.domain.jobs import JobStatus, Next, RetryPolicy
from finagent.domain.ports.predictor import Forecasts
from finagent.domain.prediction import Prediction
from finagent.domain.runs import Stage
from finagent.services.failpoints import unarmed
from finagent.services.models.serving import Handle, ModelServer, Serving, ServingPolicy
from finagent.services.pipeline.outcome import ended
from finagent.services.pipeline.scoring import ScoringPolicy, ScoringService
from finagent.services.queue.processor import JobProcessor, QueuePolicy, one_by_one

VECTORS = DataSpec(
    "vectors", tuple(FeatureSpec(name, Group.GAP, "fraction", 1, 1, ("close",), AvailableAt.OPEN, "made up") for name in "abc")
)
SPEC = VECTORS.select("model", ("b",))


class Table:
    """A predictor that reads its scores from a table, by the first feature, and abstains from those of `wary`."""

    model_version, spec, digest = "m1", SPEC, "a1" * 32

    def __init__(self, scores: dict[float, float], wary: frozenset[float] = frozenset()) -> None:
        self.scores, self.wary = scores, wary
        self.batches: list[int] = []

    def predict(self, rows: Any) -> Any:
        self.batches.append(len(rows))
        named = [float(row[0]) for row in rows]
        return Forecasts(np.array([self.scores[name] for name in named]), np.array([name in self.wary for name in named]))


def service(desk: Any, predictor: Table) -> ScoringService:
    server = ModelServer(VECTORS, ServingPolicy(64, 512, 60.0, on_wall_time=False), [], time.perf_counter)
    server.serve(Serving(Handle.of(predictor, VECTORS)))

    async def infer(rows: Any, subjects: Any) -> Any:
        async with server.running():
            return await server.score(rows, subjects)

    return ScoringService(desk.clock, ScoringPolicy(3, 0.35), infer, VECTORS)


async def candidate(desk: Any, run: str, symbol: str, feature: float, spec: str = VECTORS.hash) -> Any:
    """A candidate whose first feature is the given number."""
    found = await desk.candidate(run, symbol)
    from finagent.domain.effect import Set

    values = {"values": (0.7, feature, 0.95), "data_spec_hash": spec}
    await desk.commit(Set(FeatureVector, (found.decision_id,), values))
    return found


async def nothing(job: Any, reads: Any) -> Effect:
    return Effect()


def jobs_of(desk: Any, *candidates: Any) -> list[Any]:
    return [desk.job("score", f"score:{c.decision_id}", decision_id=c.decision_id) for c in candidates]


async def test_all_that_wait_are_one_inference_and_scores_are_rounded(desk: Any) -> None:
    run = await desk.run()
    found = [await candidate(desk, run, symbol, n) for n, symbol in enumerate(("AAPL", "IBM", "MSFT"), 1)]
    predictor = Table({1.0: 0.61249, 2.0: 0.3499, 3.0: 0.35})
    for effect in await service(desk, predictor).score(jobs_of(desk, *found), desk.reads):
        await desk.commit(effect)

    assert predictor.batches == [3]
    assert [desk.reads.get(Prediction, c.decision_id).score for c in found] == [0.612, 0.35, 0.35]
    assert sorted(desk.keys("plan")) == sorted(f"plan:{c.decision_id}" for c in found)


async def test_a_model_that_abstains_has_said_its_score_and_there_is_no_trade(desk: Any) -> None:
    found = await candidate(desk, await desk.run(), "IBM", 1.0)
    (effect,) = await service(desk, Table({1.0: 0.61}, frozenset({1.0}))).score(jobs_of(desk, found), desk.reads)
    await desk.commit(effect)
    outcome = desk.reads.get(DecisionOutcome, found.decision_id)

    assert desk.reads.get(Prediction, found.decision_id).score == 0.61
    assert (outcome.outcome, desk.keys("plan")) == (SignalOutcome.NO_TRADE, [])
    assert outcome.reason == "the model abstains: at a score of 0.61 it cannot rule out that the price goes the other way"
    (scored,) = [event for event in desk.reads.find(DecisionEvent) if event.kind == "candidate_scored"]
    assert scored.body["abstains"] is True


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.01, 1.01])
async def test_without_a_score_there_is_no_trade_and_it_is_said(desk: Any, score: float) -> None:
    found = await candidate(desk, await desk.run(), "IBM", 1.0)
    (effect,) = await service(desk, Table({1.0: score})).score(jobs_of(desk, found), desk.reads)
    await desk.commit(effect)
    outcome = desk.reads.get(DecisionOutcome, found.decision_id)

    assert outcome.outcome is SignalOutcome.NO_TRADE
    assert outcome.reason == f"no score in [0, 1]: {score}"
    assert desk.reads.count(Prediction) == 0
    assert desk.keys("plan") == []


async def test_a_low_score_is_recorded_and_ends_the_candidate(desk: Any) -> None:
    found = await candidate(desk, await desk.run(), "IBM", 1.0)
    (effect,) = await service(desk, Table({1.0: 0.3494})).score(jobs_of(desk, found), desk.reads)
    await desk.commit(effect)

    assert desk.reads.get(Prediction, found.decision_id).score == 0.349
    assert desk.reads.get(DecisionOutcome, found.decision_id).reason == "score 0.349 < 0.35"
    assert len(desk.keys("gather")) == 1  # it was the last one open: its run is gathered


async def test_features_of_another_specification_are_refused(desk: Any) -> None:
    found = await candidate(desk, await desk.run(), "IBM", 1.0, spec="older")

    with pytest.raises(Permanent, match=f"data spec older, models read {VECTORS.hash} here"):
        await service(desk, Table({})).score(jobs_of(desk, found), desk.reads)
    with pytest.raises(Permanent, match="dec-0: its candidate or feature vector is not stored"):
        await service(desk, Table({})).score([desk.job("score", decision_id="dec-0")], desk.reads)


def test_a_model_of_other_features_is_refused_by_name() -> None:
    other = Table({})
    other.spec = DataSpec("model", (replace(SPEC.features[0], window=2),))

    with pytest.raises(BadInput, match=r"model m1 is made for data spec .* window of b is 1, expected 2"):
        Handle.of(other, VECTORS)


async def test_a_score_that_comes_too_late_changes_nothing(desk: Any) -> None:
    found = await candidate(desk, await desk.run(), "IBM", 1.0)
    await desk.commit(ended(found, Stage.PLAN, SignalOutcome.EXPIRED, "too late", desk.clock.now()))
    effects = await service(desk, Table({1.0: 0.1})).score(jobs_of(desk, found), desk.reads)

    assert effects == [Effect()]


async def test_one_bad_row_falls_back_to_single_inferences(desk: Any) -> None:
    """Through the processor: the batch fails as a whole, then each alone, and only the bad one is dead."""
    run = await desk.run()
    good = [await candidate(desk, run, symbol, 1.0) for symbol in ("AAPL", "MSFT")]
    bad = await candidate(desk, run, "IBM", 1.0, spec="older")
    predictor = Table({1.0: 0.8})
    failures: list[tuple[str, JobStatus]] = []

    class Watch:
        def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None: ...

        def job_failed(self, job_type: str, status: JobStatus) -> None:
            failures.append((job_type, status))

    processor = JobProcessor(
        queue=desk.queue,
        reads=desk.reads,
        clock=desk.clock,
        handlers={"score": service(desk, predictor).score, "plan": one_by_one(nothing)},
        policy=QueuePolicy(100, 100, 256, 5, 0.01, 300.0, RetryPolicy(5, 5.0, 300.0)),
        seed=7,
        failpoints=unarmed,
        jitter=None,
        on_invariant=lambda message: desk.kill_switch.halt(message, "invariant"),
        lock_step=True,
        observer=Watch(),
        monotonic=lambda: 0.0,
    )
    processor.queues(("scoring", "planner"))
    import asyncio

    workers = [asyncio.create_task(processor.work(name)) for name in ("scoring", "planner")]
    publish = Effect(next=tuple(Next("score", f"score:{c.decision_id}", {"decision_id": c.decision_id}) for c in (*good, bad)))
    processor.offer(await desk.commit(publish))
    await processor.drain_instant(desk.clock.now())
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)

    assert failures == [("score", JobStatus.DEAD)]
    assert sorted(predictor.batches) == [1, 1]
    assert desk.reads.get(DecisionOutcome, bad.decision_id).outcome is SignalOutcome.DEAD
    assert all(desk.reads.get(Prediction, c.decision_id) is not None for c in good)
