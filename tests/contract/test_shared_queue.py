"""What a durable queue of several processes promises beyond the queue of one."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.contract.stores import POSTGRES, START, PostgresStore
from tests.contract.test_job_queue import a_candidate, a_job, a_plan, a_position, a_run, keys
from tests.contract.wire import Wire

from finagent.adapters.database.connection import Driver
from finagent.adapters.database.writer import Done
from finagent.adapters.job_queue.postgres import LeasePolicy, PostgresJobQueue
from finagent.adapters.job_queue.shared import LEADER, LOCK_STORY, Role
from finagent.adapters.job_queue.sql import ALL_SERVICES
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, FinagentError, InvariantViolated, Transient
from finagent.domain.jobs import Job, JobStatus, Next, RunSettled
from finagent.domain.trading_state import MarketClock

WORKER = Role(leader=False, services=frozenset({"scoring", "planner"}))
LEADS = Role(leader=True, services=ALL_SERVICES)
QUICK = LeasePolicy(lease_seconds=60, heartbeat_seconds=0.05, send_deadline_seconds=0.0, poll_seconds=0.02)
SILENT = LeasePolicy(lease_seconds=60, heartbeat_seconds=60, send_deadline_seconds=0.0, poll_seconds=0.02)
ENDED_IN_A_TRANSACTION = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
)


class Process:
    """One of several processes over a store."""

    def __init__(self, store: PostgresStore) -> None:
        self.store, self.aborts = store, store.more["abort"]
        store.open()
        assert isinstance(store.queue, PostgresJobQueue)
        self.queue: PostgresJobQueue = store.queue

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        assert isinstance(self.store, PostgresStore)
        return self.store.reads.rows(sql, values)

    def act(self, sql: str) -> Awaitable[None]:
        """A statement as this process's own; under way when the call returns."""

        def operation(driver: Driver) -> Done:
            driver.execute(sql)
            return Done(None)

        return self.queue._writer.submit(operation)

    async def stop_in_a_transaction(self) -> tuple[Awaitable[None], threading.Event]:
        """Its writer stands still with the lock of the story in its hands, until the event is set."""
        stopped, go_on = threading.Event(), threading.Event()

        def stop(driver: Driver) -> Done:
            driver.execute(LOCK_STORY)
            stopped.set()
            assert go_on.wait(20)
            return Done(None)

        held = self.queue._writer.submit(stop)
        assert await asyncio.to_thread(stopped.wait, 20)
        return held, go_on

    async def run_out(self) -> None:
        """Its leases end, as after a long silence."""
        await self.act(f"UPDATE lease SET until = 0 WHERE epoch = {self.queue._shared.memory.epoch}")


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(postgres_url: str) -> AsyncIterator[Start]:
    """Starts a process on the one store; each is closed at the end. `recover=False` leaves it unborn."""
    begun: list[Process] = []

    async def start_(
        role: Role,
        leases: LeasePolicy = QUICK,
        *,
        recover: bool = True,
        impatient: bool = False,
        url: str = postgres_url,
        build_hash: str = "build",
        carries_market_clock: bool = False,
    ) -> Process:
        more: dict[str, Any] = {"role": role, "lease_policy": leases, "build_hash": build_hash, "abort": [].append}
        if impatient:
            more["postgres_policy"] = replace(POSTGRES, statement_seconds=0.3)
        store = PostgresStore(url, empty=not begun, carries_market_clock=carries_market_clock, **more)
        begun.append(Process(store))
        if recover:
            await begun[-1].queue.recover()
        return begun[-1]

    yield start_
    for process in begun:
        with suppress(FinagentError):
            await process.store.close()


@pytest.fixture
def wire(postgres_url: str) -> Iterator[Wire]:
    """Between a process and the store; named before `start` it outlives the processes."""
    opened = Wire(postgres_url)
    yield opened
    opened.close()


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happens():  # noqa: ASYNC110 - another process moves it
            await asyncio.sleep(0.01)


async def looked_around(leader: Process, expected: frozenset[str]) -> None:
    await until(lambda: leader.queue._shared.memory.elsewhere == expected)


async def heartbeat(process: Process) -> None:
    """It shows that it lives, and looks for those that do not."""
    before = process.queue._lease_ends_at
    await until(lambda: process.queue._lease_ends_at > before)


# -- who takes what ----------------------------------------------------------------------------------------------------------


async def test_what_a_worker_takes_is_left_to_it(start: Start) -> None:
    leader, worker = await start(LEADS), await start(WORKER)
    await looked_around(leader, WORKER.services)

    handed_out = await leader.queue.submit(a_job("score") + a_job("gather", "gather"))

    assert keys(handed_out) == ["gather"]
    assert keys(await leader.queue.claim(START, 10)) == []
    assert keys(await worker.queue.claim(START, 10)) == ["score"]


async def test_without_a_worker_the_leader_does_everything(start: Start) -> None:
    leader, worker = await start(LEADS), await start(WORKER)
    await looked_around(leader, WORKER.services)
    await leader.queue.submit(a_job("score"))

    await worker.queue.close()

    await looked_around(leader, frozenset())
    assert keys(await leader.queue.claim(START, 10)) == ["score"]


async def test_two_workers_never_take_the_same_job(start: Start) -> None:
    leader, first, second = await start(LEADS), await start(WORKER), await start(WORKER)
    await looked_around(leader, WORKER.services)
    await leader.queue.submit(Effect(next=tuple(Next("score", f"{n:02}") for n in range(40))))

    taken = await asyncio.gather(*(each.queue.claim(START, 5) for each in (first, second) * 6))

    names = [job.dedup_key for jobs in taken for job in jobs]
    assert sorted(names) == [f"{n:02}" for n in range(40)]


async def test_an_instant_is_not_over_while_another_process_works_in_it(start: Start) -> None:
    leader, worker = await start(LEADS), await start(WORKER)
    await looked_around(leader, WORKER.services)
    assert not await leader.queue.others_at_work(START)
    await leader.queue.submit(a_job("score"))

    assert await leader.queue.others_at_work(START), "it waits for somebody to take it"
    (job,) = await worker.queue.claim(START, 10)
    assert await leader.queue.others_at_work(START), "it runs"
    await worker.queue.fail(job, "later", START + timedelta(seconds=5))

    assert not await leader.queue.others_at_work(START)
    assert leader.queue.next_due() == START + timedelta(seconds=5)


async def test_a_job_that_waits_for_a_time_is_told_of_it(start: Start) -> None:
    """Nothing else happens in the instant of a second attempt: the leader would wait for a worker that waits for the instant."""
    later = START + timedelta(seconds=5)
    leader, worker = await start(LEADS, carries_market_clock=True), await start(WORKER)
    await looked_around(leader, WORKER.services)
    await leader.queue.submit(Effect(records=(MarketClock(1, "a market", START, "RUNNING"),)) + a_job("score"))
    (job,) = await worker.queue.claim(START, 10)
    await worker.queue.fail(job, "later", later)

    assert await leader.queue.others_at_work(later)

    (clock,) = worker.store.reads.find(MarketClock)
    assert clock.at == later
    assert keys(await worker.queue.claim(clock.at, 10)) == ["score"]


async def test_a_commit_is_heard_of(start: Start) -> None:
    """Long before the next look at the table is due."""
    leader = await start(LEADS, LeasePolicy(60, 60, 0, poll_seconds=600))
    worker = await start(WORKER, LeasePolicy(60, 60, 0, poll_seconds=600))
    heard = asyncio.ensure_future(worker.queue.changed())
    await asyncio.sleep(0)

    await leader.queue.submit(Effect(records=(a_position("IBM"),)))

    async with asyncio.timeout(20):
        await heard


# -- leases ------------------------------------------------------------------------------------------------------------------


async def test_a_silent_process_loses_its_jobs_and_then_cannot_commit(start: Start) -> None:
    """F-21: fencing holds even where a second process runs on."""
    leader, worker = await start(LEADS), await start(WORKER, SILENT)
    await looked_around(leader, WORKER.services)
    await leader.queue.submit(a_job("score"))
    (job,) = await worker.queue.claim(START, 10)

    await worker.run_out()
    await until(lambda: leader.queue.counts()["READY"] == 1)
    (again,) = await leader.queue.claim(START, 10)

    assert (again.crashes, again.dedup_key) == (1, "score")
    with pytest.raises(InvariantViolated, match="fenced"):
        await worker.queue.submit(Effect(records=(a_position("IBM"),)), job)
    assert "fenced" in worker.aborts.__self__[0]
    assert leader.rows("SELECT count(*) FROM position") == [(0,)]
    await leader.queue.submit(Effect(), again)


async def test_a_process_that_lives_keeps_its_jobs(start: Start) -> None:
    """A rescue of a live worker's job would run it twice."""
    leader, worker = await start(LEADS), await start(WORKER)
    await looked_around(leader, WORKER.services)
    await leader.queue.submit(a_job("score"))
    (job,) = await worker.queue.claim(START, 10)

    for each in (leader, worker, leader):
        await heartbeat(each)

    assert await worker.queue.submit(Effect(), job) == []
    assert leader.queue.counts()["DONE"] == 1


async def test_a_second_leader_waits_for_the_first_to_leave(start: Start) -> None:
    first = await start(LEADS)
    await first.queue.submit(a_job("mine", "gather"))
    second = await start(LEADS, recover=False)
    waiting = second.queue.recover()
    for _ in range(5):
        await heartbeat(first)
    assert not waiting.done()
    assert second.queue.lease_left_seconds() == float("-inf")

    await first.queue.close()
    rescued = await waiting

    assert keys(rescued) == ["mine"]
    assert 0 < second.queue.lease_left_seconds() <= QUICK.lease_seconds


async def test_a_leader_that_fell_silent_is_followed_after_its_lease_and_the_send_deadline(start: Start) -> None:
    first = await start(LEADS, SILENT)
    (job,) = await first.queue.submit(a_job("mine", "gather"))
    await first.run_out()
    second = await start(LEADS, LeasePolicy(30, 5, send_deadline_seconds=0.4, poll_seconds=0.02), recover=False)

    began = time.monotonic()
    rescued = await second.queue.recover()

    assert time.monotonic() - began >= 0.4, "a send that began under the old lease is over by now"
    assert keys(rescued) == ["mine"]
    with pytest.raises(InvariantViolated, match="fenced"):
        await first.queue.submit(Effect(records=(a_position("IBM"),)), job)
    assert second.rows("SELECT name FROM lease WHERE name = ?", LEADER) == [(LEADER,)]


async def test_a_wait_for_the_lead_can_be_given_up(start: Start) -> None:
    first = await start(LEADS)
    second = await start(LEADS, recover=False)
    waiting = second.queue.recover()
    await heartbeat(first)

    async with asyncio.timeout(20):
        await second.queue.close()

    assert waiting.cancelled()
    assert first.rows("SELECT count(*) FROM lease WHERE epoch <> ?", first.queue._shared.memory.epoch) == [(0,)]


async def test_a_send_deadline_that_is_not_waited_out_is_left_to_the_next_leader(start: Start) -> None:
    first = await start(LEADS, SILENT)
    await first.run_out()
    second = await start(LEADS, LeasePolicy(60, 60, send_deadline_seconds=600, poll_seconds=0.02), recover=False)
    with capture_logs() as said:
        second.queue.recover()
        await until(lambda: any(line["event"] == "leader_succeeded" for line in said))
    await second.queue.close()

    with capture_logs() as said:
        third = await start(LEADS)

    assert third.queue.lease_left_seconds() > 0, "no lease is left to wait for"
    assert [line["event"] for line in said] == ["leader_succeeded"], "but the send deadline is"


async def test_a_leader_whose_place_was_taken_ends_at_its_next_sign_of_life(start: Start) -> None:
    first = await start(LEADS)
    await first.act("UPDATE lease SET epoch = 999 WHERE name = 'leader'")

    with capture_logs() as said:
        await until(lambda: any(line["event"] == "heartbeat_failed" for line in said))
    with pytest.raises(InvariantViolated, match="fenced"):
        await first.queue.submit(a_job("gather", "gather"))


async def test_without_an_ear_the_poll_interval_serves(start: Start) -> None:
    leader = await start(LEADS)
    leader.queue._url = "postgresql://postgres@127.0.0.1:1/nowhere"
    with capture_logs() as said:
        leader.queue._listener.terminate()
        await until(lambda: any(line["event"] == "listener_failed" for line in said))

    await leader.queue.changed()
    assert keys(await leader.queue.submit(a_job("gather", "gather"))) == ["gather"]


async def test_a_start_waits_for_a_store_that_somebody_holds_up(start: Start) -> None:
    first = await start(LEADS, SILENT)
    held, go_on = await first.stop_in_a_transaction()
    worker = await start(WORKER, recover=False, impatient=True)
    with capture_logs() as said:
        recovered = worker.queue.recover()
        await until(lambda: any(line["event"] == "store_awaited" for line in said))
    go_on.set()

    await held
    assert await recovered == []


async def test_a_suspect_is_looked_for_by_every_process(start: Start) -> None:
    leader, worker = await start(LEADS), await start(WORKER)
    await looked_around(leader, WORKER.services)
    await leader.queue.submit(a_job("suspect") + a_job("other"))
    await leader.act("UPDATE job_queue SET crashes = 2 WHERE dedup_key = 'suspect'")

    (alone,) = await worker.queue.claim(START, 10)

    assert alone.dedup_key == "suspect"
    assert await worker.queue.claim(START, 10) == []
    await worker.queue.submit(Effect(), alone)
    assert keys(await worker.queue.claim(START, 10)) == ["other"]


async def test_another_build_takes_no_part(start: Start) -> None:
    """Neither as a standby nor as a worker, nor as the leader of workers; a command may still halt."""
    leader = await start(LEADS)
    for role in (LEADS, WORKER):
        other = await start(role, recover=False, build_hash="newer")
        with pytest.raises(BadInput, match="worker takes part with build build, this is build newer"):
            await other.queue.recover()
    await start(Role(leader=False, services=frozenset()), build_hash="newer")
    await start(WORKER)
    await leader.queue.close()
    late = await start(LEADS, recover=False, build_hash="newer")
    with pytest.raises(BadInput, match="stop worker"):
        await late.queue.recover()

    assert late.rows("SELECT count(*) FROM lease WHERE build_hash = 'newer' AND services <> ''") == [(0,)]


async def test_a_build_that_did_not_say_which_is_another_one(start: Start) -> None:
    leader = await start(LEADS, SILENT)
    await leader.act("UPDATE lease SET build_hash = NULL")

    with pytest.raises(BadInput, match="with build an older one"):
        await start(WORKER)


# -- one story ---------------------------------------------------------------------------------------------------------------


async def test_chains_of_two_processes_do_not_fork(start: Start) -> None:
    leader, worker = await start(LEADS), await start(WORKER)
    events = [DecisionEvent(SubjectType.RUN, "r", f"{n}", START) for n in range(40)]

    await asyncio.gather(*((leader if n % 2 else worker).queue.submit(Effect(events=(event,))) for n, event in enumerate(events)))

    rows = leader.rows("SELECT event_id, number, previous_hash, hash FROM decision_event ORDER BY event_id")
    assert [(event_id, number) for event_id, number, _, _ in rows] == [(n, n) for n in range(1, 41)]
    assert [previous for _, _, previous, _ in rows[1:]] == [hash_ for _, _, _, hash_ in rows[:-1]]


async def test_the_last_plan_of_a_run_publishes_its_gathering_whoever_commits_it(start: Start) -> None:
    """Two processes plan the last two candidates at once: neither sees the other's plan, unless they are made to wait."""
    leader, first, second = await start(LEADS), await start(WORKER), await start(WORKER)
    await looked_around(leader, WORKER.services)
    for n in range(10):
        run, names = f"run-{n}", (f"a{n}", f"b{n}")
        candidates = tuple(a_candidate(name, run) for name in names)
        await leader.queue.submit(Effect(records=(a_run(run), *candidates)))
        gather = Next("gather", f"gather:{run}", {"run_id": run}, when=RunSettled(run))
        outcome = DecisionOutcome(names[1], SignalOutcome.NO_TRADE, "score", START)

        await asyncio.gather(
            first.queue.submit(Effect(records=(_plan_of(names[0], run),), next=(gather,))),
            second.queue.submit(Effect(records=(outcome,), next=(gather,))),
        )

    assert leader.rows("SELECT count(*) FROM job_queue WHERE type = 'gather'") == [(10,)]


def _plan_of(name: str, run: str) -> Any:
    return replace(a_plan(name), run_id=run)


# -- the server --------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_is_lost_costs_nobody_anything(start: Start) -> None:
    """Its group is undone as a whole and carried out again on the next connection, while the lease lasts."""
    leader = await start(LEADS, SILENT)
    (job,) = await leader.queue.submit(a_job("gather", "gather"))
    committed = leader.queue.submit(Effect(records=(a_position("IBM"),)), job)
    held, go_on = await leader.stop_in_a_transaction()

    await asyncio.to_thread(leader.rows, ENDED_IN_A_TRANSACTION)
    with capture_logs() as said:
        go_on.set()
        assert await committed == []
        await held

    assert [line["event"] for line in said] == ["store_awaited"]
    assert leader.rows("SELECT count(*) FROM position") == [(1,)]
    assert leader.queue.counts()["DONE"] == 1
    assert not leader.aborts.__self__


async def test_a_connection_that_is_lost_in_a_commit_ends_the_process(start: Start) -> None:
    """Nobody knows what is stored, so nothing is carried out again."""
    leader = await start(LEADS, SILENT)
    held, go_on = await leader.stop_in_a_transaction()

    await asyncio.to_thread(leader.rows, ENDED_IN_A_TRANSACTION)
    with capture_logs() as said:
        go_on.set()
        with pytest.raises(InvariantViolated, match="the outcome of a commit is unknown"):
            await held

    assert [line for line in said if line["event"] == "store_awaited"] == []
    assert "COMMIT" in leader.aborts.__self__[0]


async def test_a_store_that_is_away_is_waited_for_as_long_as_the_lease_lasts(wire: Wire, start: Start) -> None:
    """By whatever is asked of it; then who asked hears that it is away."""
    leader = await start(LEADS, SILENT, url=wire.url)
    (job,) = await leader.queue.submit(a_job("gather", "gather"))
    wire.cut()
    with capture_logs() as said:
        failed = leader.queue.fail(job, "later", START)
        await until(lambda: any(line["event"] == "store_awaited" for line in said))
    wire.mend()
    assert await failed is JobStatus.SCHEDULED

    once_more = leader.store.reads.once_more

    def mended() -> bool:
        wire.mend()
        return once_more()

    wire.cut()
    leader.store.reads.once_more = mended
    assert leader.queue.counts()["SCHEDULED"] == 1

    wire.cut()
    leader.store.reads.once_more, leader.queue._lease_ends_at = once_more, float("-inf")
    with pytest.raises(Transient, match="no connection"):
        await leader.queue.claim(START, 1)
    with pytest.raises(Transient, match="cannot read"):
        leader.queue.counts()
    assert not leader.aborts.__self__


async def test_a_process_that_is_stopped_in_a_transaction_does_not_hold_up_the_others(start: Start) -> None:
    """F-06: its locks are gone with its lease, though nobody has told it yet."""
    first = await start(LEADS, LeasePolicy(lease_seconds=0.5, heartbeat_seconds=60, send_deadline_seconds=0, poll_seconds=0.02))
    held, go_on = await first.stop_in_a_transaction()
    second = await start(LEADS)

    assert second.queue.lease_left_seconds() > 0
    go_on.set()
    with pytest.raises(Transient):
        await held
    with pytest.raises(InvariantViolated, match="fenced"):
        await first.queue.submit(Effect(records=(a_position("IBM"),)))


async def test_reads_and_the_ear_come_back_too(start: Start) -> None:
    leader = await start(LEADS)
    (job,) = await leader.queue.submit(a_job("gather", "gather"))

    with suppress(Transient):
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        await leader.act(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")

    assert leader.store.reads.get(Job, job.id) == job
    await until(lambda: not leader.queue._listener.is_closed())


async def test_a_text_that_the_server_cannot_hold_is_refused_alone(start: Start) -> None:
    leader = await start(LEADS, SILENT)

    answers = await asyncio.gather(
        leader.queue.submit(Effect(records=(a_position("I\x00BM"),))),
        leader.queue.submit(Effect(records=(a_position("IBM"),))),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [InvariantViolated, list]
