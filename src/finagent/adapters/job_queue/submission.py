"""One call of `submit`: encoded on the caller's thread, carried out on the writer's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from finagent.adapters.database.codec import payload_json
from finagent.adapters.database.effects import EncodedEffect, encode
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.writer import Lane
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job, Next


class EncodedNext(NamedTuple):
    """A job to publish, its payload already as text."""

    next: Next
    payload: str


def encode_next(next_: Next) -> EncodedNext:
    """Raises BadInput for a payload that is not JSON."""
    return EncodedNext(next_, payload_json(next_.payload))


@dataclass(slots=True)
class Submission:
    """One call of `submit`, its effect already as statements and its payloads as text; `at` also as text.

    `judges`: a job of it depends on the state that its own effect leaves, so later effects must not be there yet. `serial`: it
    reads or writes records, of which there is one story.
    """

    effect: EncodedEffect
    publish: Sequence[EncodedNext]
    job: Job | None
    at: datetime
    at_text: str
    judges: bool
    serial: bool

    @property
    def empty(self) -> bool:
        return self.job is None and not (self.serial or self.publish)

    @property
    def lane(self) -> Lane:
        if self.effect.urgent or (self.job is not None and self.job.kind.parks):
            return Lane.URGENT
        return Lane.BULK if self.effect.effect.bulk else Lane.NORMAL

    @property
    def rows(self) -> int:
        """How much it writes, for the bound of a bulk load."""
        return sum(len(step.values) for step in self.effect.steps) + len(self.effect.events) + len(self.publish)


def submission(effect: Effect, job: Job | None, instant: tuple[datetime, str], chains: EventChains) -> Submission:
    """Raises BadInput for what no table keeps, no column takes, or is not JSON."""
    encoded = encode(effect, chains)
    publish = [encode_next(next_) for next_ in effect.next]
    judges = bool(publish) and any(next_.when for next_ in effect.next)
    return Submission(encoded, publish, job, *instant, judges, judges or bool(encoded.steps or encoded.events))


class Apart(Exception):
    """Submissions cannot be carried out together: one by one, each finds its own answer."""
