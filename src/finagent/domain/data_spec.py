"""What a row of features is: names, units, windows and when each is known, frozen under one hash."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cached_property

from finagent.domain.errors import BadInput


class AvailableAt(Enum):
    """When a value of a session can be known at the earliest."""

    PREVIOUS_CLOSE = "PREVIOUS_CLOSE"
    OPEN = "OPEN"
    INTRADAY = "INTRADAY"


class Group(Enum):
    """The family that a feature belongs to."""

    RETURNS = "RETURNS"
    MOMENTS = "MOMENTS"
    VOLATILITY = "VOLATILITY"
    MOMENTUM = "MOMENTUM"
    VOLUME = "VOLUME"
    TREND = "TREND"
    MARKET = "MARKET"
    CROSS_SECTION = "CROSS_SECTION"
    GAP = "GAP"
    SESSION = "SESSION"
    QUOTES = "QUOTES"
    NEWS = "NEWS"


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature. `window` and `warmup` count bars of its timeframe: how many it looks at, and how many a symbol needs before
    the value may be used. `neutral` is the value where nothing moved and the formula divides nothing by nothing (None: unknown).
    `fitted`: its formula has parameters that were estimated from data. `version` goes up when the formula changes; `source` names
    where the formula stands and is no part of the hash."""

    name: str
    group: Group
    unit: str
    window: int
    warmup: int
    inputs: tuple[str, ...]
    available_at: AvailableAt
    source: str
    neutral: float | None = None
    dtype: str = "float64"
    fitted: bool = False
    version: int = 1

    def canonical(self) -> dict[str, object]:
        """All that decides what the numbers mean."""
        known = asdict(self)
        del known["source"]
        return known | {"group": self.group.value, "available_at": self.available_at.value}


@dataclass(frozen=True)
class DataSpec:
    """Features in their order; a row of values means nothing without it."""

    name: str
    features: tuple[FeatureSpec, ...]

    def __post_init__(self) -> None:
        names = self.names
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice or not names:
            raise BadInput(f"data spec {self.name}: " + (f"{', '.join(twice)} declared twice" if twice else "no feature"))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical form. The name of the spec is a label and no part of it."""
        text = json.dumps([feature.canonical() for feature in self.features], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def columns(self) -> dict[str, int]:
        """The place of each feature in a row."""
        return {name: place for place, name in enumerate(self.names)}

    def shape(self, rows: int) -> tuple[int, int]:
        """Of a matrix of values with so many rows."""
        return rows, len(self.features)

    def feature(self, name: str) -> FeatureSpec:
        """BadInput for a name that is not in the spec."""
        if name not in self.columns:
            raise BadInput(f"data spec {self.name} has no feature {name}")
        return self.features[self.columns[name]]

    def select(self, name: str, names: Iterable[str]) -> "DataSpec":
        """The spec of those features alone, in that order; BadInput for one that is not here."""
        return DataSpec(name, tuple(self.feature(each) for each in names))

    def require(self, other: "DataSpec", consumer: str) -> None:
        """Raises BadInput, naming the first difference, when the consumer was made for another spec."""
        if other.hash == self.hash:
            return
        raise BadInput(
            f"{consumer} is made for data spec {other.hash}, the features are of {self.hash}: {difference(other, self)}"
        )


def difference(expected: DataSpec, found: DataSpec) -> str:
    """The first thing in which two specs differ, in words; empty when they do not."""
    for place, (theirs, ours) in enumerate(zip(expected.features, found.features, strict=False)):
        if theirs.name != ours.name:
            return f"feature {place + 1} is {ours.name}, expected {theirs.name}"
        was, now = theirs.canonical(), ours.canonical()
        for key, value in was.items():
            if now[key] != value:
                return f"{key} of {ours.name} is {now[key]}, expected {value}"
    missing = [feature.name for feature in expected.features[len(found.features) :]]
    surplus = [feature.name for feature in found.features[len(expected.features) :]]
    if missing:
        return f"{', '.join(missing)} missing"
    return f"{', '.join(surplus)} not expected" if surplus else ""
