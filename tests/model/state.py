"""One candidate with its order, the store, two workers and the broker, as one value; and what must never be true of it."""

from typing import NamedTuple

from tests.model.protocol import DUPLICATE, FALSE_END, LOST, UNINTENDED

# Rows of the order as the store knows it. DOUBT: PENDING and UNRESOLVED.
NONE, PENDING, DOUBT, PARKED = "-", "PENDING", "UNRESOLVED", "PARKED"
ACCEPTED, FILLED, CANCELLED, REJECTED, DENIED, EXPIRED = "ACCEPTED", "FILLED", "CANCELLED", "REJECTED", "DENIED", "EXPIRED"
ENDED = frozenset({FILLED, CANCELLED, REJECTED, DENIED, EXPIRED})  # each commits the candidate's one outcome with it
NEVER_LIVED = frozenset({REJECTED, DENIED, EXPIRED})
OPEN_QUESTION = frozenset({PENDING, DOUBT, PARKED})

# An order at the broker: not there, alive, filled (any part of it), ended unfilled.
ABSENT, LIVE, TRADED, DEAD = "absent", "live", "traded", "dead"
REPORTED = {LIVE: ACCEPTED, TRADED: FILLED, DEAD: CANCELLED}

VALID, TOO_LATE, CLOSED = "valid", "too late", "closed"


class Job(NamedTuple):
    """The one job that carries the candidate on: a later one is published by the commit that ends the one before."""

    kind: str  # plan, execute, send, resolve; done: there is none
    status: str  # ready, running; parked in a variant
    owner: int  # the worker that it is RUNNING for
    ran_before: bool
    under: int  # which client_order_id it is about: 0, or 1 for a variant that makes a second one


class Worker(NamedTuple):
    """A process: what it believes of its lease, and where in the handler of its job it stands.

    A stopped process is one that takes no step, while its lease goes on to its end; a dead one has forgotten everything.
    """

    lease: str  # none, on, over
    place: str
    holds: str  # the kind of its job; "send again" for a send that ran before
    read: str  # the order row that its handler read
    told: str  # what the broker answered
    under: int


class State(NamedTuple):
    """Everything that decides what may happen next."""

    time: str
    halted: bool
    row: str
    job: Job
    leader: int  # the store's row of the lease; -1: nobody yet
    broker: tuple[str, str]  # orders under the first and under a second id
    late: tuple[int, int]  # requests on the way whose sender no longer waits
    workers: tuple[Worker, ...]


NO_JOB = Job("done", "ready", -1, False, 0)
IDLE = Worker("none", "idle", "", "", "", 0)


def start(workers: int) -> State:
    """The candidate's first job is published; nobody leads."""
    first = Job("plan", "ready", -1, False, 0)
    return State(VALID, False, NONE, first, -1, (ABSENT, ABSENT), (0, 0), (IDLE,) * workers)


def swapped(state: State) -> State:
    """The same with the names of the two workers exchanged."""
    job = state.job
    if job.owner >= 0:
        job = job._replace(owner=1 - job.owner)
    leader = 1 - state.leader if state.leader >= 0 else -1
    return state._replace(job=job, leader=leader, workers=state.workers[::-1])


def can_still_apply(state: State) -> bool:
    """A request is on the way, or handed over and not yet written, and the broker would open an order for it."""
    if state.time == CLOSED:
        return False
    return any(state.late) or any(worker.place in ("queued", "wired") for worker in state.workers)


def wrong(state: State) -> str:
    """What must never be true; empty when all is well."""
    known = [order for order in state.broker if order != ABSENT]
    if len(known) > 1:
        return f"{DUPLICATE}: two orders at the broker for one leg"
    if state.row == NONE and (known or can_still_apply(state)):
        return f"{UNINTENDED}: an order or a request whose intent is not committed"
    if state.row in NEVER_LIVED:
        if known:
            return f"{FALSE_END}: {state.row}, and the order is at the broker ({known[0]})"
        if can_still_apply(state):
            return f"{FALSE_END}: {state.row}, and a request can still apply"
    if state.row == FILLED and known != [TRADED]:
        return f"{FALSE_END}: FILLED, and the broker filled nothing"
    if state.row == CANCELLED and known != [DEAD]:
        return f"{FALSE_END}: CANCELLED, and the order at the broker is {known}"
    unfinished = any(worker.place == "acknowledged" for worker in state.workers)
    if state.job.kind == "done" and state.row in (NONE, *OPEN_QUESTION) and not unfinished:
        return f"{LOST}: no job is left, and the order is {state.row}"
    return ""


def settled(state: State) -> bool:
    """The candidate has its outcome and nothing is parked or waits."""
    return state.row in ENDED


def over(state: State) -> bool:
    """Settled, and nobody holds anything that could still come to an effect."""
    return state.row in ENDED and not any(state.late) and all(worker.place in ("idle", "waiting") for worker in state.workers)
