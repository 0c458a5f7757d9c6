"""The places where a drill may end the agent, by the names under which the code passes them."""

_THINGS = (
    "migration",
    "recovery",
    "claim",
    "hand_off",
    "effect_commit",
    "intent_commit",
    "send",
    "outcome_commit",
    "fill_apply",
    "instant_first_effect",
    "instant_end",
)
_BROKER_THINGS = ("broker_commit",)


def _both_sides(things: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{thing}.{side}" for thing in things for side in ("before", "after"))


AGENT_LABELS = _both_sides(_THINGS)
BROKER_LABELS = _both_sides(_BROKER_THINGS)
LABELS = AGENT_LABELS + BROKER_LABELS

# Passed once by every start: a kill there is a kill in the recovery of an earlier one.
START_LABELS = _both_sides(("migration", "recovery"))

# One job at a time passes these, so a kill there meets the same row again after the restart.
SERIAL_LABELS = _both_sides(("intent_commit", "send", "outcome_commit"))

RECOVERED = "recovery.after"
