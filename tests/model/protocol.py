"""The rules of the protocol, each a switch: the protocol has all of them on, a variant leaves one out and must be found wrong."""

from dataclasses import dataclass, replace

DUPLICATE, UNINTENDED, FALSE_END, LOST = "duplicate", "no intent", "false end", "lost"
FENCED, AFTER_HALT, STUCK = "fenced worker", "after the halt", "stuck"
EVERYTHING = frozenset({DUPLICATE, UNINTENDED, FALSE_END, LOST, FENCED, AFTER_HALT, STUCK})


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the agent does, and what it relies on. Every rule is on, as design and code say."""

    # -- the setting
    workers: int = 2
    leases: bool = True  # False: one process that holds the lock, whose leadership ends with its life
    processes_die: bool = True
    deduplicates_forever: bool = True  # False: the broker refuses a used id among its open orders only
    late_requests_max: int = 3  # requests on the way at once whose sender no longer waits
    never: frozenset[str] = EVERYTHING  # what must not happen

    # -- rules of the agent
    commits_check_the_fence: bool = True
    intent_before_send: bool = True
    effect_with_acknowledgement: bool = True
    same_id_again: bool = True
    again_only_where_deduplicated_forever: bool = True
    look_up_after_barrier: bool = True
    look_up_before_second_run: bool = True
    silence_fails_no_job: bool = True
    unanswered_is_not_refused: bool = True
    refusal_of_a_repeat_is_not_believed: bool = True
    order_in_doubt_is_not_denied: bool = True
    close_is_judged_when_asked: bool = True  # a look-up that began before the close says nothing about what came at the close
    objection_right_before_send: bool = True
    send_needs_remaining_lease: bool = True  # more than the send deadline
    new_leader_waits: bool = True  # lease + send deadline
    live_jobs_are_left_alone: bool = True

    # -- what the protocol relies on
    stopped_send_never_leaves: bool = True  # stopped between check and write, and resumed after its deadline: not written
    barrier_holds: bool = True  # after it no request of an earlier connection is applied
    closed_day_refuses: bool = True  # a day order that arrives after the close is refused


AGENT = Protocol()
ALONE = Protocol(workers=1, leases=False)
# One process that lives through the day, at a broker where a request may come minutes late: the simulator of a replay.
UNHARMED = replace(ALONE, processes_die=False, barrier_holds=False)

PROTOCOLS: dict[str, Protocol] = {
    "two workers": AGENT,
    "two workers, ids free again after an order's end": replace(AGENT, deduplicates_forever=False),
    "one process": ALONE,
    "one process that does not die, requests outlive the barrier": UNHARMED,
    "the same, ids free again after an order's end": replace(UNHARMED, deduplicates_forever=False),
    "one process, requests outlive the barrier: no duplicate even then": replace(
        ALONE, barrier_holds=False, never=frozenset({DUPLICATE, UNINTENDED})
    ),
}

# What remains true in a window; searched by `python -m tests.model` alone, since it takes as long as all the rest.
IN_A_WINDOW: dict[str, Protocol] = {
    "two workers, a stopped send leaves late: no duplicate even then": replace(
        AGENT, stopped_send_never_leaves=False, never=frozenset({DUPLICATE, UNINTENDED})
    ),
}

# The protocol without one rule: each must be found wrong.
VARIANTS: dict[str, Protocol] = {
    "no fencing at commit": replace(AGENT, commits_check_the_fence=False),
    "send before intent commit": replace(AGENT, intent_before_send=False),
    "acknowledgement before effect": replace(AGENT, effect_with_acknowledgement=False),
    "new id after a time-out": replace(AGENT, same_id_again=False),
    "sent again where only open orders are deduplicated": replace(
        UNHARMED, deduplicates_forever=False, again_only_where_deduplicated_forever=False
    ),
    "404 means never arrived, without barrier": replace(AGENT, look_up_after_barrier=False),
    "run again without looking": replace(AGENT, look_up_before_second_run=False),
    "job parked while the broker is silent": replace(ALONE, silence_fails_no_job=False),
    "REJECTED when retries are exhausted": replace(AGENT, unanswered_is_not_refused=False),
    "refusal of a repeated send believed": replace(UNHARMED, refusal_of_a_repeat_is_not_believed=False),
    "order in doubt denied": replace(UNHARMED, order_in_doubt_is_not_denied=False),
    "close judged when the look-up is answered": replace(UNHARMED, close_is_judged_when_asked=False),
    "objection asked before the look-up": replace(AGENT, objection_right_before_send=False),
    "remaining lease not checked": replace(AGENT, send_needs_remaining_lease=False),
    "new leader does not wait": replace(AGENT, new_leader_waits=False),
    "job of a live worker rescued": replace(AGENT, live_jobs_are_left_alone=False),
}

# What the protocol relies on, taken away: the windows that remain. Each is shown by its trace, and written down.
WINDOWS: dict[str, Protocol] = {
    "process stopped between check and write": replace(AGENT, stopped_send_never_leaves=False),
    "request that outlives the barrier of a second start": replace(AGENT, barrier_holds=False),
    "broker that opens day orders after the close": replace(UNHARMED, closed_day_refuses=False),
}
