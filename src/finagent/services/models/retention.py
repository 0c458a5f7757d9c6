"""What of the models is kept, and why; the rest may go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import BadInput
from finagent.domain.prediction import Prediction
from finagent.services.models.history import CHAMPION
from finagent.services.scheduling.scheduled_training import TRAINING


@dataclass(frozen=True, slots=True)
class Kept:
    """A version, or the checkpoint of a training. `experiment` is what it is compared within, `score` the lower the better (None:
    it was not tested)."""

    name: str
    experiment: str
    made_at: datetime
    bytes: int
    score: float | None


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Whatever else is young stays for `days`, the best of each day first, up to `bytes_a_day`."""

    champions: int
    best: int
    days: int
    bytes_a_day: int

    def __post_init__(self) -> None:
        if self.champions < 1 or min(self.best, self.days, self.bytes_a_day) < 0:
            raise BadInput(f"retention: champions must be at least 1, the others at least 0: {self}")


@dataclass(frozen=True, slots=True)
class Fate:
    """`reason` says why it stays or why it goes."""

    kept: Kept
    stays: bool
    reason: str


def fates(
    all_: Sequence[Kept], needed: Mapping[str, str], champions: Sequence[str], policy: RetentionPolicy, now: datetime
) -> tuple[Fate, ...]:
    """One of each, in the same order. `needed` says who cannot do without it: an alias, a decision, an audit event; `champions`
    are all that ever were, the last one first. Both stay whatever they take, and so do the best of each experiment."""
    stays = _best(all_, policy.best)
    stays |= dict.fromkeys(list(dict.fromkeys(champions))[: policy.champions], f"one of the last {policy.champions} champions")
    stays |= needed
    young = [each for each in all_ if each.name not in stays and now - each.made_at < timedelta(days=policy.days)]
    spent: dict[date, int] = {}
    over = set()
    for each in sorted(young, key=_rank):
        day = each.made_at.date()
        if spent.get(day, 0) + each.bytes > policy.bytes_a_day:
            over.add(each.name)
        else:
            spent[day] = spent.get(day, 0) + each.bytes
            stays[each.name] = f"younger than {policy.days} days"
    return tuple(
        Fate(each, each.name in stays, stays.get(each.name) or (_over(policy) if each.name in over else _old(policy)))
        for each in all_
    )


def _best(all_: Sequence[Kept], count: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for experiment in {each.experiment for each in all_}:
        scored = [each for each in all_ if each.experiment == experiment and each.score is not None]
        found |= {each.name: f"one of the best {count} of {experiment}" for each in sorted(scored, key=_rank)[:count]}
    return found


def _rank(kept: Kept) -> tuple[float, float, str]:
    """Best first, then youngest first."""
    score = float("inf") if kept.score is None else kept.score
    return score, -kept.made_at.timestamp(), kept.name


def _over(policy: RetentionPolicy) -> str:
    return f"its day has more than {policy.bytes_a_day} bytes"


def _old(policy: RetentionPolicy) -> str:
    return f"{policy.days} days old, and nobody needs it"


def needed_by_story(predictions: Iterable[Prediction], events: Iterable[DecisionEvent]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Versions that scored, and those that an event about models names, with the reason; and the champions, the last one first.
    Whoever explains a decision, or reads the audit, finds what they name."""
    told = sorted(events, key=lambda event: event.at)
    needed = {
        value: f"an audit event of {event.at:%Y-%m-%d} names it"
        for event in told
        if event.subject_type is SubjectType.MODEL and event.subject_id != TRAINING  # that it was made needs nobody to keep it
        for value in event.body.values()
        if isinstance(value, str)
    }
    needed |= {prediction.model_version: "a decision was made with it" for prediction in predictions}
    champions = [event.body["version"] for event in reversed(told) if event.subject_id == CHAMPION]
    return needed, tuple(str(version) for version in champions if version is not None)  # a demotion may leave nobody
