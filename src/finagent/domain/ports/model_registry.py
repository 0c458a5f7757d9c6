"""Which models there are, and which of them serves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

from finagent.domain.model_evidence import ModelEvidence


class Alias(Enum):
    """A role, which one version has at a time: the champion trades, the previous one did before it."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    CANARY = "canary"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """What is known of a version. `version` is name@version, as predictions carry it; `digest` depends on every byte of the
    package; `trained_until` is the last day that it has seen; `evidence` is what its training found out, None without one."""

    version: str
    digest: str
    description: str
    data_spec_hash: str
    features: tuple[str, ...]
    trained_until: date
    metrics: Mapping[str, float]
    created_by: str
    evidence: ModelEvidence | None = None


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """What a version takes, and since when it is there."""

    made_at: datetime
    bytes: int


class ModelRegistry(Protocol):
    """Versions never change once they are registered; only aliases move.

    Calls may block and are made off the event loop. Each raises Transient where the registry is not there or does not answer,
    and BadInput for a version that it does not have or whose package is not what was registered.
    """

    def versions(self) -> tuple[str, ...]:
        """All that were registered, in the order of their names; also those that are damaged by now."""
        ...

    def facts(self, version: str) -> ModelVersion: ...

    def aliases(self) -> dict[Alias, str]:
        """Roles that somebody has."""
        ...

    def register(self, package: Path) -> ModelVersion:
        """Take in the package of that folder, whole or not at all. The same package again changes nothing; BadInput for another
        one of the same name, and for one that could not serve."""
        ...

    def point(self, alias: Alias, version: str) -> None:
        """Give a role to a version. BadInput for champion and previous, which move together: `promote`, `rollback`."""
        ...

    def promote(self, version: str) -> str | None:
        """Make the version champion and what was champion until now previous, both or neither; says which that was. Nothing
        changes where it is champion already."""
        ...

    def rollback(self) -> str:
        """Make the previous version champion: one alias moves, and the version that was demoted stays registered. Says which
        that was. BadInput where there is nothing to go back to."""
        ...

    def fetch(self, version: str) -> Path:
        """A local folder that holds the package of the version, to read and not to change."""
        ...

    def stored(self, version: str) -> StoredVersion:
        """Also of one that is damaged."""
        ...

    def remove(self, version: str) -> None:
        """Give its bytes back; when this returns they are gone. BadInput for one that has a role. What a kill left half done is
        no version any more, and goes with the next one that is removed."""
        ...
