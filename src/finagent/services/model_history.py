"""Which model traded when, as part of the story: each change of the champion is an event of one chain."""

from dataclasses import asdict, dataclass
from datetime import datetime

from finagent.domain.decision import DecisionEvent, SubjectType

CHAMPION = "champion"
_KINDS = {"promote": "model_promoted", "rollback": "model_rolled_back"}


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """What a person did in the registry: `act` is promote or rollback, `before` what was champion until then, `evidence` the
    lines of the gate; none where nobody had been champion, and for a rollback."""

    act: str
    version: str
    digest: str
    before: str | None
    reason: str
    by: str
    evidence: tuple[str, ...] = ()


def champion_changed(change: ChampionChange, at: datetime) -> DecisionEvent:
    """The event that tells of it."""
    body = asdict(change)
    return DecisionEvent(SubjectType.MODEL, CHAMPION, _KINDS[body.pop("act")], at, body=body)
