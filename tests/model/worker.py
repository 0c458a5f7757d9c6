"""What a worker does: takes the lease, claims, looks up, asks for objections, sends, commits."""

from collections.abc import Iterator

from tests.model.environment import Step, with_late, with_worker
from tests.model.protocol import AFTER_HALT, FENCED, Protocol
from tests.model.state import (
    ABSENT,
    ACCEPTED,
    CANCELLED,
    CLOSED,
    DEAD,
    DENIED,
    DOUBT,
    ENDED,
    EXPIRED,
    IDLE,
    LIVE,
    NO_JOB,
    NONE,
    OPEN_QUESTION,
    PARKED,
    PENDING,
    REJECTED,
    REPORTED,
    VALID,
    Job,
    State,
    Worker,
)


def worker_steps(state: State, number: int, protocol: Protocol) -> Iterator[Step]:
    """Every step of a worker whose process runs."""
    worker = state.workers[number]
    yield from _lead(state, number, worker, protocol)
    yield from _observe(state, number, worker)
    if worker.place == "idle":
        yield from _claim(state, number, worker, protocol)
    elif worker.place == "claimed":
        yield from _handle(state, number, worker, protocol)
    elif worker.place == "looking":
        yield from _look_up(state, number, worker)
    elif worker.place == "cleared":
        yield from _hand_over(state, number, worker, protocol)
    elif worker.place == "queued":
        yield Step(number, "request written", False, with_worker(state, number, worker._replace(place="wired")))
        yield Step(number, "send deadline before the write", True, _heard(state, number, worker, "no answer"))
    elif worker.place == "wired":
        if state.late[worker.under] < protocol.late_requests_max:
            late = with_late(state, worker.under, 1)
            yield Step(number, "answer: no answer", True, _heard(late, number, worker, "no answer"))
    elif worker.place == "served":
        yield from _answer(state, number, worker)
    elif worker.place in ("answered", "acknowledged"):
        yield from _end(state, number, worker, protocol)


# -- the lease ---------------------------------------------------------------------------------------------------------------


def _lead(state: State, number: int, worker: Worker, protocol: Protocol) -> Iterator[Step]:
    if worker.lease != "none":
        if worker.lease == "over" and state.leader == number:
            yield Step(number, "renews its lease", False, with_worker(state, number, worker._replace(lease="on")))
        if worker.place == "waiting" and _others_are_over(state, number):
            yield Step(number, "has waited", False, with_worker(state, number, worker._replace(place="idle")))
    elif worker.place == "idle":
        job = state.job
        if job.kind != "plan" and job.status == "running":  # every such job is of an earlier leader
            job = job._replace(status="ready", owner=-1, ran_before=True)
        early = any(other.lease == "on" for other in state.workers)  # clocks that disagree, a lost heartbeat
        leads = worker._replace(lease="on", place="waiting" if protocol.new_leader_waits else "idle")
        others = tuple(IDLE if other.place in ("idle", "waiting") else other for other in state.workers)
        taken = with_worker(state._replace(leader=number, job=job, workers=others), number, leads)
        yield Step(number, "takes the lease, fence + 1", early, taken)


def _others_are_over(state: State, number: int) -> bool:
    """Lease and send deadline have passed since the take-over: nobody else may believe that it leads, or still write."""
    others = [other for place, other in enumerate(state.workers) if place != number]
    return all(other.lease in ("none", "over") and other.place != "queued" for other in others)


def _observe(state: State, number: int, worker: Worker) -> Iterator[Step]:
    """The broker's activity, committed under the fence."""
    if worker.lease == "none" or state.leader != number or state.row in (NONE, *ENDED) or state.broker[0] == ABSENT:
        return
    told = REPORTED[state.broker[0]]
    if told != state.row:
        yield Step(number, f"observes: {told}", False, state._replace(row=told))


# -- the queue ---------------------------------------------------------------------------------------------------------------


def _claim(state: State, number: int, worker: Worker, protocol: Protocol) -> Iterator[Step]:
    job = state.job
    anybody = job.kind == "plan" or not protocol.live_jobs_are_left_alone
    if job.status == "running" and anybody:
        holder = state.workers[job.owner]
        alive = holder.place != "idle" and job.owner != number
        if not alive or job.kind == "plan" or not protocol.live_jobs_are_left_alone:
            rescued = state._replace(job=job._replace(status="ready", owner=-1, ran_before=True))
            yield Step(number, f"rescues {job.kind}", alive, rescued)
    if job.kind == "done" or job.status != "ready":
        return
    if not anybody and (worker.lease == "none" or state.leader != number):
        return
    if job.kind == "resolve" and state.row == PARKED and state.time != CLOSED:
        return  # looked up again when the session is over
    holds = "send again" if job.kind == "send" and job.ran_before else job.kind
    held = worker._replace(place="claimed", holds=holds, read=state.row, under=job.under)
    claimed = state._replace(job=job._replace(status="running", owner=number))
    yield Step(number, f"claims {job.kind}", False, with_worker(claimed, number, held))


def _handle(state: State, number: int, worker: Worker, protocol: Protocol) -> Iterator[Step]:
    """The handler's first step. Whether the job is still its own, a handler does not know before it commits."""
    looks = worker.holds == "resolve" or (worker.holds == "send again" and protocol.look_up_before_second_run)
    if worker.holds in ("plan", "execute") or worker.read not in OPEN_QUESTION:
        if worker.holds == "execute" and not protocol.intent_before_send:
            yield Step(number, "hands over", False, with_worker(state, number, worker._replace(place="queued")))
        else:
            yield from _end(state, number, worker, protocol)
    elif not looks:
        yield Step(number, "starts to send", False, with_worker(state, number, worker._replace(place="cleared")))
    elif worker.holds == "send again" and not protocol.objection_right_before_send and worker.told != "asked":
        asked = _heard(state, number, worker, "objection") if _objection(state) else None
        asked = asked or with_worker(state, number, worker._replace(told="asked"))
        yield Step(number, "asks for an objection", False, asked)
    else:
        if not protocol.look_up_after_barrier or _nothing_on_the_way(state, number, protocol):
            yield Step(number, "barrier", False, with_worker(state, number, worker._replace(place="looking")))
        if (
            state.broker[worker.under] != ABSENT
        ):  # what is found is so, whatever may still be on its way; only a no needs the barrier
            yield Step(
                number, "look-up: YES, before the barrier", False, _heard(state, number, worker, state.broker[worker.under])
            )
        if protocol.silence_fails_no_job:
            yield Step(number, "barrier: no answer", True, _heard(state, number, worker, "unknown"))
        else:
            failed = with_worker(state, number, IDLE._replace(lease=worker.lease))
            parked = failed._replace(job=state.job._replace(status="parked", owner=-1))
            yield Step(number, "barrier: no answer, the last failure that its job may have", True, parked)


def _nothing_on_the_way(state: State, number: int, protocol: Protocol) -> bool:
    others = (other for place, other in enumerate(state.workers) if place != number)
    return not protocol.barrier_holds or not (any(state.late) or any(other.place == "wired" for other in others))


# -- the broker --------------------------------------------------------------------------------------------------------------


def _look_up(state: State, number: int, worker: Worker) -> Iterator[Step]:
    yield Step(number, "look-up: UNKNOWN", True, _heard(state, number, worker, "unknown"))
    if state.broker[worker.under] != ABSENT:
        yield Step(number, "look-up: YES", False, _heard(state, number, worker, state.broker[worker.under]))
    elif worker.holds == "send again":
        yield Step(number, "look-up: NO", False, with_worker(state, number, worker._replace(place="cleared")))
    else:
        over = "unknown id after the close" if state.time == CLOSED else "unknown id"
        yield Step(number, "look-up: NO", False, _heard(state, number, worker, over))


def _objection(state: State) -> bool:
    return state.halted or state.time != VALID


def _hand_over(state: State, number: int, worker: Worker, protocol: Protocol) -> Iterator[Step]:
    """The objection, the remaining lease and the hand-over to the broker's port: nothing comes between."""
    if _objection(state) and worker.told != "asked":
        yield Step(number, "objects", False, _heard(state, number, worker, "objection"))
        return
    short = with_worker(state, number, worker._replace(place="answered", told="no answer"))
    if protocol.send_needs_remaining_lease and protocol.leases:
        yield Step(number, "does not send: its lease is too short", False, short)
        if worker.lease == "over":
            return
    broken = AFTER_HALT if state.halted else ""
    yield Step(number, "hands over", False, with_worker(state, number, worker._replace(place="queued")), broken)


def _answer(state: State, number: int, worker: Worker) -> Iterator[Step]:
    lost = worker.told != "nothing"  # the reply is; a time-out after a request that was lost is no new fault
    yield Step(number, "answer: no answer", lost, _heard(state, number, worker, "no answer"))
    if worker.told == "accepted":
        yield Step(number, "answer: CONFIRMED", False, _heard(state, number, worker, LIVE))
    elif worker.told == "refused":
        yield Step(number, "answer: REFUSED", False, _heard(state, number, worker, "refused"))
    elif worker.told == "id used":
        yield Step(number, "answer: id used", False, _heard(state, number, worker, "no answer"))


def _heard(state: State, number: int, worker: Worker, told: str) -> State:
    return with_worker(state, number, worker._replace(place="answered", told=told))


# -- the commit --------------------------------------------------------------------------------------------------------------


def _end(state: State, number: int, worker: Worker, protocol: Protocol) -> Iterator[Step]:
    """The effect and the acknowledgement, in one transaction, under the fence, compared with what the handler read."""
    job = state.job
    leads = state.leader == number
    free = with_worker(state, number, IDLE._replace(lease=worker.lease) if leads else IDLE)
    if worker.place == "acknowledged":
        yield from (Step(number, f"effect: {what}", False, after) for what, after in _effects(free, worker, protocol))
        return
    anybody = job.kind == "plan" or not protocol.live_jobs_are_left_alone
    owned = job.status == "running" and job.owner == number and (anybody or leads)
    if not owned and protocol.commits_check_the_fence:
        yield Step(number, "is fenced off", False, free)
        return
    if not protocol.same_id_again and worker.told == "no answer" and worker.under == 0 and worker.place == "answered":
        again = worker._replace(place="queued", told="", under=1)
        yield Step(number, "hands over again under a new id", False, with_worker(state, number, again))
        return
    if owned and worker.read != state.row and worker.read in OPEN_QUESTION:
        again_holds = "send again" if worker.holds == "send" else worker.holds
        fresh = worker._replace(place="claimed", holds=again_holds, read=state.row, told="")
        yield Step(number, "conflict: runs again", False, with_worker(state, number, fresh))
        return
    if not protocol.effect_with_acknowledgement:
        struck = state._replace(job=NO_JOB)
        waits = worker._replace(place="acknowledged")
        yield Step(number, f"acknowledges {worker.holds}", False, with_worker(struck, number, waits))
        return
    for what, after in _effects(free, worker, protocol):
        yield Step(number, f"commits: {what}", False, after, "" if owned else FENCED)


def _effects(state: State, worker: Worker, protocol: Protocol) -> Iterator[tuple[str, State]]:
    """What the handler's effect is called, and the state with it: row and next job."""
    if worker.holds == "plan":
        yield "plan", state._replace(job=Job("execute", "ready", -1, False, 0))
    elif worker.holds == "execute":
        yield "intent", state._replace(row=PENDING, job=Job("send", "ready", -1, False, 0))
    elif worker.read not in OPEN_QUESTION:
        yield "nothing", state._replace(job=NO_JOB)
    else:
        yield from _known(state, worker, protocol)


def _known(state: State, worker: Worker, protocol: Protocol) -> Iterator[tuple[str, State]]:
    told, looks_again = worker.told, Job("resolve", "ready", -1, False, 0)
    if told == DEAD:
        yield CANCELLED, state._replace(row=CANCELLED, job=NO_JOB)
    elif told in REPORTED:  # shares come from executions: the order is live until they are observed
        yield ACCEPTED, state._replace(row=ACCEPTED, job=NO_JOB)
    elif told == "objection":
        if worker.read == PENDING or not protocol.order_in_doubt_is_not_denied:
            yield DENIED, state._replace(row=DENIED, job=NO_JOB)
        else:
            yield "again", state._replace(job=looks_again)
    elif told == "refused" and (worker.read == PENDING or not protocol.refusal_of_a_repeat_is_not_believed):
        yield REJECTED, state._replace(row=REJECTED, job=NO_JOB)
    elif worker.holds != "resolve":
        row = PARKED if state.row == PARKED else DOUBT
        yield DOUBT, state._replace(row=row, job=looks_again)
    else:
        yield from _looked_up(state, told, looks_again, protocol)


def _looked_up(state: State, told: str, looks_again: Job, protocol: Protocol) -> Iterator[tuple[str, State]]:
    """No order was found, or there was no answer."""
    if told == "unknown" and not protocol.unanswered_is_not_refused:
        yield REJECTED, state._replace(row=REJECTED, job=NO_JOB)
    never_arrived = told == "unknown id after the close" or (told == "unknown id" and not protocol.look_up_after_barrier)
    if never_arrived or (told == "unknown id" and state.time == CLOSED and not protocol.close_is_judged_when_asked):
        yield EXPIRED, state._replace(row=EXPIRED, job=NO_JOB)
        return
    may_repeat = protocol.deduplicates_forever or not protocol.again_only_where_deduplicated_forever
    if told == "unknown id" and state.time == VALID and may_repeat:
        yield "sent again", state._replace(job=Job("send", "ready", -1, False, 0))
    yield "again", state._replace(job=looks_again)  # also where the sends are used up
    if state.row == DOUBT:
        yield PARKED, state._replace(row=PARKED, job=looks_again)
