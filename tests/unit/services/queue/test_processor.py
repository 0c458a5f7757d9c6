"""The job processor: phases, bounds, retries, conflicts, and no error that a handler makes ends a worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, InvariantViolated, Permanent, Transient
from finagent.domain.jobs import Job, JobStatus, Next, RetryPolicy
from finagent.domain.money import ZERO
from finagent.domain.portfolio import Position
from finagent.domain.trading_state import TradingState, TradingStateRecord
from finagent.services.failpoints import unarmed
from finagent.services.queue.processor import HandlerStuck, JobProcessor, QueuePolicy, one_by_one

QUEUES = ("scheduler", "scanner", "scoring", "planner", "risk", "execution", "sender")


class Shop:
    """A processor whose handlers a test writes; `ran` holds the keys of jobs in the order in which they ran."""

    def __init__(self, desk: Any, lock_step: bool, capacity: int, retries: int, handler_seconds: float = 300.0) -> None:
        self.desk, self.stopping = desk, False
        self.ran: list[str] = []
        self.failed: list[tuple[str, JobStatus]] = []
        self.labels: list[str] = []
        self.no_memory_at: set[str] = set()
        self.batches: list[int] = []
        self.handle: dict[str, Any] = {}
        self.invariants: list[str] = []
        self.processor = JobProcessor(
            queue=desk.queue,
            reads=desk.reads,
            clock=desk.clock,
            handlers={name: self._handler(name) for name in ("session", "scan", "score", "plan", "risk", "execute", "send")},
            policy=QueuePolicy(capacity, 1000, 3, retries, 0.01, handler_seconds, RetryPolicy(3, 5.0, 300.0)),
            seed=7,
            failpoints=self._passed,
            jitter=None,
            on_invariant=self._invariant,
            lock_step=lock_step,
            observer=self,
            monotonic=lambda: 0.0,
            stopping=lambda: self.stopping,
        )
        self.processor.queues(QUEUES)

    def _handler(self, name: str) -> Any:
        if name == "score":

            async def batch(jobs: list[Job], reads: Any) -> list[Effect]:
                self.batches.append(len(jobs))
                self.ran += [job.dedup_key for job in jobs]
                return [Effect() for _ in jobs] if name not in self.handle else await self.handle[name](jobs, reads)

            return batch

        async def single(job: Job, reads: Any) -> Effect:
            self.ran.append(job.dedup_key)
            return await self.handle[name](job, reads) if name in self.handle else Effect()

        return one_by_one(single)

    def _passed(self, label: str) -> None:
        self.labels.append(label)
        if label in self.no_memory_at:
            raise MemoryError(label)

    async def _invariant(self, message: str) -> None:
        self.invariants.append(message)

    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None: ...

    def job_failed(self, job_type: str, status: JobStatus) -> None:
        self.failed.append((job_type, status))

    async def publish(self, *jobs: Next) -> None:
        self.processor.offer(await self.desk.commit(Effect(next=jobs)))

    async def drain(self) -> None:
        await asyncio.wait_for(self.processor.drain_instant(self.desk.clock.now()), 10)


OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


@pytest.fixture
def shop(desk: Any) -> OpenShop:
    @asynccontextmanager
    async def open_(
        lock_step: bool = True, capacity: int = 100, retries: int = 2, handler_seconds: float = 300.0
    ) -> AsyncIterator[Shop]:
        shop = Shop(desk, lock_step, capacity, retries, handler_seconds)
        workers = [asyncio.create_task(shop.processor.work(name)) for name in QUEUES]
        yield shop
        ended = [worker for worker in workers if worker.done()]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        assert ended == []

    return open_


def jobs(kind: str, *names: str, **more: Any) -> list[Next]:
    return [Next(kind, f"{kind}:{name}", {"name": name}, **more) for name in names]


async def test_lower_phases_are_empty_before_a_higher_one_starts(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def scan(job: Job, reads: Any) -> Effect:
            return Effect(next=(*jobs("send", "early", priority=100), *jobs("session", "late"), *jobs("plan", "one")))

        at_work.handle["scan"] = scan
        await at_work.publish(*jobs("send", "first"), *jobs("scan", "a"), *jobs("session", "b"))
        await at_work.drain()

    assert at_work.ran == ["session:b", "scan:a", "session:late", "plan:one", "send:first", "send:early"]


async def test_sends_go_one_at_a_time_in_rank_order_and_what_they_cause_comes_first(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def send(job: Job, reads: Any) -> Effect:
            return Effect(next=tuple(jobs("session", f"after {job.payload['name']}")))

        at_work.handle["send"] = send
        await at_work.publish(*(Next("send", f"send:{n}", {"name": str(n)}, priority=100 + n) for n in (2, 0, 1)))
        await at_work.drain()

    assert at_work.ran == ["send:0", "session:after 0", "send:1", "session:after 1", "send:2", "session:after 2"]


async def test_jobs_that_wait_together_are_scored_together_up_to_a_bound(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:
        await at_work.publish(*jobs("score", "d", "b", "a", "c"))
        await at_work.drain()

    assert at_work.batches == [3, 1]
    assert sorted(at_work.ran) == ["score:a", "score:b", "score:c", "score:d"]


async def test_an_instant_is_over_only_when_nothing_is_due(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def chain(job: Job, reads: Any) -> Effect:
            left = job.payload["left"]
            later = Next("plan", f"plan:{left - 1}", {"left": left - 1}) if left else None
            tomorrow = Next("plan", "plan:later", {"left": 0}, desk.minute(10))
            return Effect(next=(later,) if later else (tomorrow,))

        at_work.handle["plan"] = chain
        await at_work.publish(Next("plan", "plan:5", {"left": 5}))
        await at_work.drain()

    assert at_work.ran == [f"plan:{left}" for left in (5, 4, 3, 2, 1, 0)]
    assert desk.queue.next_due() == desk.minute(10)


async def test_more_jobs_than_a_queue_holds_are_all_run(desk: Any, shop: OpenShop) -> None:
    async with shop(capacity=2) as at_work:
        await at_work.publish(*jobs("plan", *(f"{n:02}" for n in range(20))))
        await at_work.drain()

    assert len(at_work.ran) == 20


async def test_on_wall_time_what_does_not_fit_goes_back_to_the_table_and_is_run_later(desk: Any, shop: OpenShop) -> None:
    async with shop(lock_step=False, capacity=2) as at_work:
        gate = asyncio.Event()

        async def wait(job: Job, reads: Any) -> Effect:
            await gate.wait()
            return Effect()

        at_work.handle["plan"] = wait
        published = await desk.commit(Effect(next=tuple(jobs("plan", *"abcdef"))))
        refused = at_work.processor.offer(published)
        await desk.queue.release(refused)
        back = desk.queue.counts()["READY"]
        gate.set()
        await at_work.processor.quiet.wait()
        while desk.queue.next_due() is not None:
            await at_work.processor.poll()
            await at_work.processor.quiet.wait()

    assert [len(published), len(refused), back] == [6, 4, 4]
    assert sorted(at_work.ran) == [f"plan:{name}" for name in "abcdef"]
    assert desk.queue.counts()["DONE"] == 6


async def test_on_wall_time_jobs_that_follow_are_handed_on_and_overflow_is_given_back(desk: Any, shop: OpenShop) -> None:
    async with shop(lock_step=False, capacity=1) as at_work:

        async def plan(job: Job, reads: Any) -> Effect:
            return Effect(next=tuple(jobs("risk", "a", "b", "c")))

        at_work.handle["plan"] = plan
        await at_work.publish(*jobs("plan", "one"))
        await at_work.processor.quiet.wait()
        while desk.queue.next_due() is not None:
            await at_work.processor.poll()
            await at_work.processor.quiet.wait()

    assert sorted(at_work.ran) == ["plan:one", "risk:a", "risk:b", "risk:c"]


async def test_polling_before_anything_is_due_claims_nothing(desk: Any, shop: OpenShop) -> None:
    async with shop(lock_step=False) as at_work:
        await at_work.publish(Next("plan", "plan:later", {}, desk.minute(10)))
        await at_work.processor.poll()

    assert at_work.ran == []
    assert desk.queue.counts()["SCHEDULED"] == 1


async def test_a_transient_error_is_tried_again_with_back_off_and_jitter_and_then_dead(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def fail(job: Job, reads: Any) -> Effect:
            raise Transient("not now")

        at_work.handle["plan"] = fail
        await at_work.publish(*jobs("plan", "one"))
        waits = []
        for _ in range(2):
            await at_work.drain()
            due = desk.queue.next_due()
            waits.append((due - desk.clock.now()).total_seconds())
            desk.clock.set(due)
        await at_work.drain()

    assert [status.value for _, status in at_work.failed] == ["SCHEDULED", "SCHEDULED", "DEAD"]
    assert 2.5 <= waits[0] < 7.5
    assert 5.0 <= waits[1] < 15.0
    assert desk.queue.next_due() is None


async def test_the_same_failure_waits_the_same_time_in_any_process(
    desk: Any, shop: OpenShop, open_desk: Any, tmp_path: Any
) -> None:
    async def due(of: Any, opened: Shop) -> Any:
        async def fail(job: Job, reads: Any) -> Effect:
            raise Transient("not now")

        opened.handle["plan"] = fail
        await opened.publish(*jobs("plan", "one"))
        await opened.drain()
        return of.queue.next_due()

    async with shop() as here:
        first = await due(desk, here)
    (tmp_path / "other").mkdir()
    async with open_desk(tmp_path / "other") as other:
        there = Shop(other, True, 100, 2)
        worker = asyncio.create_task(there.processor.work("planner"))
        second = await due(other, there)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    assert first == second


@pytest.mark.parametrize("error", [Permanent("no plan"), BadInput("bad"), InvariantViolated("two truths")])
async def test_what_can_never_succeed_is_dead_at_once(desk: Any, shop: OpenShop, error: Exception) -> None:
    async with shop() as at_work:

        async def fail(job: Job, reads: Any) -> Effect:
            raise error

        at_work.handle["plan"] = fail
        await at_work.publish(*jobs("plan", "one"))
        await at_work.drain()

    assert at_work.failed == [("plan", JobStatus.DEAD)]
    assert bool(at_work.invariants) == isinstance(error, InvariantViolated)


async def test_order_jobs_park_where_others_die(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def fail(job: Job, reads: Any) -> Effect:
            raise Permanent("cannot")

        at_work.handle["execute"] = fail
        await at_work.publish(*jobs("execute", "one"))
        await at_work.drain()

    assert at_work.failed == [("execute", JobStatus.PARKED)]


async def test_a_candidate_whose_job_dies_has_its_outcome(desk: Any, shop: OpenShop) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM")
    async with shop() as at_work:

        async def fail(job: Job, reads: Any) -> Effect:
            raise KeyError("surprise")

        at_work.handle["plan"] = fail
        await at_work.publish(Next("plan", "plan:one", {"decision_id": candidate.decision_id}))
        for _ in range(3):
            await at_work.drain()
            if due := desk.queue.next_due():
                desk.clock.set(due)

    assert desk.reads.get(DecisionOutcome, candidate.decision_id).outcome is SignalOutcome.DEAD


async def test_an_effect_that_breaks_a_constraint_is_undone_and_halts(desk: Any, shop: OpenShop) -> None:
    await desk.commit(Position("IBM", 1, ZERO, ZERO, desk.clock.now()))
    async with shop() as at_work:

        async def twice(job: Job, reads: Any) -> Effect:
            return Effect((Position("AAPL", 1, ZERO, ZERO, desk.clock.now()), Position("IBM", 2, ZERO, ZERO, desk.clock.now())))

        at_work.handle["plan"] = twice
        await at_work.publish(*jobs("plan", "one"), *jobs("risk", "two"))
        await at_work.drain()

    assert at_work.failed == [("plan", JobStatus.DEAD)]
    assert len(at_work.invariants) == 1
    assert [(p.symbol, p.quantity) for p in desk.reads.find(Position)] == [("IBM", 1)]
    assert "risk:two" in at_work.ran


async def test_an_effect_that_no_table_takes_fails_its_job_alone(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def odd(job: Job, reads: Any) -> Effect:
            return Effect((object(),))

        async def untold(job: Job, reads: Any) -> Effect:
            return Effect(next=(Next("risk", "risk:odd", {"what": object()}),))

        at_work.handle |= {"plan": odd, "scan": untold}
        await at_work.publish(*jobs("plan", "one"), *jobs("scan", "two"), *jobs("risk", "three"))
        await at_work.drain()

    assert sorted(kind for kind, _ in at_work.failed) == ["plan", "scan"]
    assert "risk:three" in at_work.ran


async def test_a_handler_that_answers_for_too_few_jobs_is_found_out(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:

        async def lazy(batch: list[Job], reads: Any) -> list[Effect]:
            return []

        at_work.handle["score"] = lazy
        await at_work.publish(*jobs("score", "a", "b"))
        await at_work.drain()

    assert at_work.failed == [("score", JobStatus.DEAD)] * 2
    assert at_work.invariants == ["InvariantViolated: score: 0 effects for 1 jobs"] * 2


def counting(desk: Any, seen: list[int], interfere: int) -> Any:
    """A handler that adds one to a position by compare and set, while another commit gets in between `interfere` times."""

    async def handle(job: Job, reads: Any) -> Effect:
        position = reads.get(Position, "IBM")
        seen.append(job.attempts)
        if len(seen) <= interfere:
            await desk.commit(Set(Position, ("IBM",), {"quantity": position.quantity + 10}))
        change = {"quantity": position.quantity + 1}
        return Effect((Set(Position, ("IBM",), change, {"quantity": position.quantity}),))

    return handle


async def test_a_conflict_runs_the_handler_again_on_fresh_reads(desk: Any, shop: OpenShop) -> None:
    await desk.commit(Position("IBM", 0, ZERO, ZERO, desk.clock.now()))
    seen: list[int] = []
    async with shop() as at_work:
        at_work.handle["plan"] = counting(desk, seen, 2)
        await at_work.publish(*jobs("plan", "one"))
        await at_work.drain()

    assert desk.reads.get(Position, "IBM").quantity == 21
    assert seen == [0, 1, 2]  # a handler that acts outside sees that it ran before
    assert at_work.failed == []


async def test_conflicts_without_end_are_a_failure_like_any_other(desk: Any, shop: OpenShop) -> None:
    await desk.commit(Position("IBM", 0, ZERO, ZERO, desk.clock.now()))
    seen: list[int] = []
    async with shop() as at_work:
        at_work.handle["plan"] = counting(desk, seen, 3)
        await at_work.publish(*jobs("plan", "one"))
        await at_work.drain()
        desk.clock.set(desk.queue.next_due())
        await at_work.drain()

    assert at_work.failed == [("plan", JobStatus.SCHEDULED)]
    assert desk.reads.get(Position, "IBM").quantity == 31


async def test_a_handler_that_fails_on_its_second_run_fails_its_job_not_its_worker(desk: Any, shop: OpenShop) -> None:
    await desk.commit(Position("IBM", 0, ZERO, ZERO, desk.clock.now()))
    async with shop() as at_work:

        async def handle(job: Job, reads: Any) -> Effect:
            if job.attempts:
                raise KeyError("surprise")
            await desk.commit(Set(Position, ("IBM",), {"quantity": 5}))
            return Effect((Set(Position, ("IBM",), {"quantity": 1}, {"quantity": 0}),))

        at_work.handle["plan"] = handle
        await at_work.publish(*jobs("plan", "one"), *jobs("plan", "two"))
        at_work.handle["plan"] = handle
        await at_work.drain()

    assert at_work.failed[0] == ("plan", JobStatus.SCHEDULED)


async def test_hand_off_and_handler_pass_their_failpoints(desk: Any, shop: OpenShop) -> None:
    async with shop() as at_work:
        await at_work.publish(*jobs("plan", "one"))
        await at_work.drain()

    assert at_work.labels == ["hand_off.before", "hand_off.after", "handler.plan.before", "handler.plan.after"]


async def test_a_handler_that_raises_does_not_pass_the_place_behind_it(desk: Any, shop: OpenShop) -> None:
    async def fails(job: Job, reads: Any) -> Effect:
        raise KeyError("surprise")

    async with shop() as at_work:
        at_work.handle["plan"] = fails
        await at_work.publish(*jobs("plan", "one"))
        await at_work.drain()

    assert at_work.labels[2:] == ["handler.plan.before"]


async def test_jitter_delays_handlers_and_changes_nothing_else(desk: Any) -> None:
    async def jitter() -> None:
        await asyncio.sleep(0)

    ran: list[str] = []

    async def plan(job: Job, reads: Any) -> Effect:
        ran.append(job.dedup_key)
        return Effect()

    processor = JobProcessor(
        queue=desk.queue,
        reads=desk.reads,
        clock=desk.clock,
        handlers={"plan": one_by_one(plan)},
        policy=QueuePolicy(10, 10, 3, 2, 0.01, 300.0, RetryPolicy(3, 5.0, 300.0)),
        seed=7,
        failpoints=unarmed,
        jitter=jitter,
        on_invariant=lambda message: desk.kill_switch.halt(message, "invariant"),
        lock_step=True,
        observer=Shop(desk, True, 1, 1),
        monotonic=lambda: 0.0,
    )
    processor.queues(QUEUES)
    worker = asyncio.create_task(processor.work("planner"))
    processor.offer(await desk.commit(Effect(next=tuple(jobs("plan", "a", "b")))))
    await processor.drain_instant(desk.clock.now())
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)

    assert ran == ["plan:a", "plan:b"]
    assert desk.reads.get(TradingStateRecord, 1).state is TradingState.ACTIVE


async def never(job: Job, reads: Any) -> Effect:
    await asyncio.Event().wait()
    return Effect()


async def test_in_lock_step_a_handler_that_never_returns_ends_the_process_and_its_job_stays_running(desk: Any) -> None:
    """F-63: wall time may end a process, never decide; the next start finds the job one crash older."""
    at_work = Shop(desk, True, 100, 2, handler_seconds=0.05)
    at_work.handle["plan"] = never
    worker = asyncio.create_task(at_work.processor.work("planner"))
    await at_work.publish(*jobs("plan", "one"))
    draining = asyncio.create_task(at_work.drain())

    with pytest.raises(HandlerStuck, match=r"plan plan:one: the handler did not return within 0\.05 s"):
        await asyncio.wait_for(worker, 10)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)

    assert desk.queue.counts()["RUNNING"] == 1
    assert at_work.failed == []


async def test_an_instant_in_which_a_worker_ended_is_never_over(desk: Any) -> None:
    """A driver that moved market time on before the process has ended would leave the broker ahead of the store."""
    shop = Shop(desk, True, 100, 2)
    await shop.publish(*jobs("plan", "a"))
    over = asyncio.Event()

    async def plan(_job: Job, _reads: Any) -> Effect:
        shop.no_memory_at = {"hand_off.before"}
        return Effect(next=tuple(jobs("risk", "a")))

    async def drive() -> None:
        await shop.drain()
        over.set()

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for task in (*map(shop.processor.work, QUEUES), drive()):
                tasks.create_task(task)

    shop.handle["plan"] = plan
    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await run()

    assert not over.is_set()
    assert shop.ran == ["plan:a"]


async def test_at_a_pace_a_handler_that_never_returns_has_failed(desk: Any, shop: OpenShop) -> None:
    """F-63: the others proceed, and the job is tried again later."""
    async with shop(lock_step=False, handler_seconds=0.05) as at_work:
        at_work.handle["plan"] = never
        await at_work.publish(*jobs("plan", "one"), *jobs("risk", "two"))
        await asyncio.wait_for(at_work.processor.quiet.wait(), 10)

    assert at_work.failed == [("plan", JobStatus.SCHEDULED)]
    assert at_work.ran == ["plan:one", "risk:two"]


async def test_a_timeout_of_the_handlers_own_is_an_error_like_any_other(desk: Any, shop: OpenShop) -> None:
    async def times_out(job: Job, reads: Any) -> Effect:
        raise TimeoutError("the model is slow")

    async with shop() as at_work:
        at_work.handle["plan"] = times_out
        await at_work.publish(*jobs("plan", "one"))
        await at_work.drain()

    assert at_work.failed == [("plan", JobStatus.SCHEDULED)]


async def test_a_handler_that_gets_stuck_in_its_second_run_ends_the_process_too(desk: Any) -> None:
    """After a conflict it runs again on fresh reads, and the same bound holds."""
    at_work = Shop(desk, True, 100, 2, handler_seconds=0.05)
    await desk.commit(Effect((Position("IBM", 0, ZERO, ZERO, desk.clock.now()),)))

    async def handle(job: Job, reads: Any) -> Effect:
        if job.attempts:
            await asyncio.Event().wait()
        await desk.commit(Set(Position, ("IBM",), {"quantity": 5}))
        return Effect((Set(Position, ("IBM",), {"quantity": 1}, {"quantity": 0}),))

    at_work.handle["plan"] = handle
    worker = asyncio.create_task(at_work.processor.work("planner"))
    await at_work.publish(*jobs("plan", "one"))
    draining = asyncio.create_task(at_work.drain())

    with pytest.raises(HandlerStuck):
        await asyncio.wait_for(worker, 10)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


async def test_once_the_process_is_to_end_what_runs_is_finished_and_nothing_is_begun(desk: Any, shop: OpenShop) -> None:
    """F-07: in lock-step the jobs at hand go back unharmed, so the instant can be repeated."""
    async with shop() as at_work:

        async def send(job: Job, reads: Any) -> Effect:
            at_work.stopping = True
            return Effect()

        at_work.handle["send"] = send
        await at_work.publish(*(Next("send", f"send:{n}", {"name": str(n)}, priority=100 + n) for n in range(3)))
        await at_work.drain()

        assert at_work.ran == ["send:0"]
        assert desk.queue.counts() | {"DONE": 1, "READY": 2, "RUNNING": 0} == desk.queue.counts()


async def test_at_a_pace_what_waits_in_memory_goes_back_when_the_process_is_to_end(desk: Any, shop: OpenShop) -> None:
    """F-07: and the table is not polled any more."""
    async with shop(lock_step=False) as at_work:

        async def send(job: Job, reads: Any) -> Effect:
            at_work.stopping = True
            return Effect()

        at_work.handle["send"] = send
        await at_work.publish(*(Next("send", f"send:{n}", {"name": str(n)}, priority=100 + n) for n in range(3)))
        await asyncio.wait_for(at_work.processor.quiet.wait(), 10)
        await at_work.processor.poll()

        assert at_work.ran == ["send:0"]
        assert desk.queue.counts() | {"DONE": 1, "READY": 2, "RUNNING": 0} == desk.queue.counts()
