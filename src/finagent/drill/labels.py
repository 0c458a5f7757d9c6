"""The places where a drill may end the agent, by the names under which the code passes them."""

from finagent.domain.jobs import JOB_TYPES


def _both_sides(*things: str) -> tuple[str, ...]:
    return tuple(f"{thing}.{side}" for thing in things for side in ("before", "after"))


# Passed by the first start of a folder, before there is anything to take over.
FIRST_START_LABELS = ("migration_step.after", *_both_sides("first_effect"))

# Passed by every start: a kill there is a kill in the recovery of an earlier one.
START_LABELS = _both_sides(
    "recovery",
    "lock",
    "migration",
    "store_open",
    "epoch_commit",
    "anchor",
    "session_open",
    "feed_open",
    "tidy_up",
    "start_reconcile",
)

_COMMITS = _both_sides("claim", "effect_commit", "intent_commit", "outcome_commit", "fill_apply", "instant_first_effect")
_INSTANTS = _both_sides("instant", "activity_apply", "drain", "hand_off")
OF_WALL_TIME = {"trade_update", "train"}  # a replay hears of no stream, and trains nothing
_HANDLERS = _both_sides(*(f"handler.{name}" for name in JOB_TYPES if name not in OF_WALL_TIME))
_BROKER_CALLS = _both_sides("send", "look_up", "cancel", "barrier", "activity", "open_orders", "positions", "account", "advance")
_PERSON = _both_sides("halt", "arm", "backup", "backup_step")
_END = _both_sides("seal", "checkpoint")

AGENT_LABELS = FIRST_START_LABELS + START_LABELS + _COMMITS + _INSTANTS + _HANDLERS + _BROKER_CALLS + _PERSON + _END
BROKER_LABELS = _both_sides("broker_commit")
LABELS = AGENT_LABELS + BROKER_LABELS

# One job at a time passes these, so a kill there meets the same row again after the restart.
SERIAL_LABELS = _both_sides("intent_commit", "send", "outcome_commit")

# Long in the middle of something: a process that is stopped here goes on with what it knew before.
STOP_LABELS = ("claim.after", "handler.send.before", "send.before", "send.after", "handler.send.after", "intent_commit.after")

FIRST_INSTANT = "instant.before"
RECOVERED = "recovery.after"
