"""Which model traded when, as part of the story: each change of the champion is an event of one chain."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.quant.evaluation.promotion import Verdict

CHAMPION, DEMOTED = "champion", "model_demoted"
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


def demotion(champion: str, back: str | None, verdict: Verdict, at: datetime) -> DecisionEvent:
    """The champion breached a guard, and `back` is champion again; None: there was nobody to go back to."""
    breached = [str(finding) for finding in verdict.findings if not finding.passed]
    body = {
        "version": back,
        "before": champion,
        "reason": "; ".join(breached),
        "by": "guard",
        "evidence": [str(finding) for finding in verdict.findings],
    }
    return DecisionEvent(SubjectType.MODEL, CHAMPION, DEMOTED, at, body=body)


def champion_since(story: Iterable[DecisionEvent], version: str) -> datetime | None:
    """When the version last became champion; None where that is not told."""
    return max((event.at for event in story if event.body["version"] == version), default=None)


def demoted(story: Iterable[DecisionEvent]) -> frozenset[str]:
    """The versions that breached a guard and that no person has made champion since; `story` is the chain of CHAMPION."""
    found: set[str] = set()
    for event in story:
        if event.kind == DEMOTED:
            found.add(str(event.body["before"]))
        else:
            found.discard(str(event.body["version"]))
    return frozenset(found)
