"""What happens by itself: the broker, the network, the market's time, a person who halts, processes that end."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.protocol import DUPLICATE, Protocol
from tests.model.state import ABSENT, CLOSED, DEAD, IDLE, LIVE, TOO_LATE, TRADED, VALID, State, Worker


class Step(NamedTuple):
    """One step: who does what, whether it is a fault that need not happen, what is then, what it broke by itself."""

    who: int  # a worker; -1: the world
    what: str
    fault: bool
    state: State
    broken: str = ""


def with_worker(state: State, number: int, worker: Worker) -> State:
    """The state with one worker changed."""
    workers = state.workers
    return state._replace(workers=(*workers[:number], worker, *workers[number + 1 :]))


def with_late(state: State, under: int, more: int) -> State:
    """The state with more, or fewer, requests on the way whose sender no longer waits."""
    first, second = state.late
    return state._replace(late=(first, second + more) if under else (first + more, second))


def with_order(state: State, under: int, order: str) -> State:
    """The state with another order at the broker under one id."""
    first, second = state.broker
    return state._replace(broker=(first, order) if under else (order, second))


def world_steps(state: State, protocol: Protocol) -> Iterator[Step]:
    """Time, the market, a person, and requests whose sender no longer waits."""
    if state.time == VALID:
        yield Step(-1, "validity ends", False, state._replace(time=TOO_LATE))
    elif state.time == TOO_LATE:
        closed = state._replace(time=CLOSED)
        for under, order in enumerate(state.broker):
            closed = with_order(closed, under, DEAD) if order == LIVE else closed
        yield Step(-1, "session closes", False, closed)
    if not state.halted:
        yield Step(-1, "person halts", False, state._replace(halted=True))
    for under, order in enumerate(state.broker):
        if order == LIVE:
            yield Step(-1, "fill", False, with_order(state, under, TRADED))
            yield Step(-1, "order ends unfilled", False, with_order(state, under, DEAD))
        if state.late[under]:
            rest = with_late(state, under, -1)
            yield Step(-1, "late request lost", True, rest)
            for answer, after, broken in _arrivals(rest, under, protocol):
                yield Step(-1, f"late request arrives: {answer}", False, after, broken)


def _arrivals(state: State, under: int, protocol: Protocol) -> Iterator[tuple[str, State, str]]:
    """What the broker may make of a request."""
    order = state.broker[under]
    if order == LIVE or (order != ABSENT and protocol.deduplicates_forever):
        yield "id used", state, ""
        return
    yield "refused", state, ""
    if state.time != CLOSED or not protocol.closed_day_refuses:
        broken = f"{DUPLICATE}: a second order under one id" if order != ABSENT else ""
        yield "accepted", with_order(state, under, LIVE), broken


def request_steps(state: State, number: int, protocol: Protocol) -> Iterator[Step]:
    """The request that a worker waits for."""
    worker = state.workers[number]
    if worker.place == "wired":
        for answer, after, broken in _arrivals(state, worker.under, protocol):
            served = with_worker(after, number, worker._replace(place="served", told=answer))
            yield Step(number, f"request arrives: {answer}", False, served, broken)
        lost = with_worker(state, number, worker._replace(place="served", told="nothing"))
        yield Step(number, "request lost", True, lost)


def process_steps(state: State, number: int, protocol: Protocol) -> Iterator[Step]:
    """A process dies and starts again with nothing in memory; the lease of a worker runs out as time passes."""
    worker = state.workers[number]
    if protocol.processes_die and worker != IDLE:
        left = with_late(state, worker.under, 1) if worker.place == "wired" else state
        if left.late[worker.under] <= protocol.late_requests_max:
            yield Step(number, "crashes and starts again", True, with_worker(left, number, IDLE))
    if not protocol.leases:
        return
    if worker.lease == "on" and worker.place == "queued" and protocol.send_needs_remaining_lease:
        # What was handed over in time is written or given up before the lease ends, unless the process is stopped.
        stopped = worker._replace(lease="over", place="frozen")
        yield Step(number, "is stopped before the write, past its lease", True, with_worker(state, number, stopped))
    elif worker.lease == "on":
        yield Step(number, "lease ends", False, with_worker(state, number, worker._replace(lease="over")))
    if worker.place == "frozen" and protocol.stopped_send_never_leaves:
        late_end = worker._replace(place="answered", told="no answer")
        yield Step(number, "goes on: the send deadline is over", False, with_worker(state, number, late_end))
    elif worker.place == "frozen":
        yield Step(number, "goes on and writes", False, with_worker(state, number, worker._replace(place="wired")))
