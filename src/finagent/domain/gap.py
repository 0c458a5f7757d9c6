"""The overnight gap and the candidate that it makes."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum

from finagent.domain.finite import require_finite


class Direction(Enum):
    """Which way the price jumped overnight."""

    UP = "UP"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True)
class GapFacts:
    """What the scanner knew of a symbol at the scan; prices in USD of today's shares, volumes in shares.

    `gap` = open / previous_close - 1; `relative_volume` = cumulative volume over the mean of the same minute of the
    last 20 sessions; `high` and `low` since the open.
    """

    gap: float
    previous_close: float
    open: float
    high: float
    low: float
    last: float
    cumulative_volume: float
    relative_volume: float
    dollar_volume_mean: float
    minutes_since_open: int

    def __post_init__(self) -> None:
        require_finite(self)


@dataclass(frozen=True, slots=True)
class GapCandidate:
    """A symbol that the scanner found, committed with the facts that later stages use."""

    decision_id: str
    run_id: str
    symbol: str
    session_date: date
    direction: Direction
    trace_id: str
    as_of: datetime
    facts: GapFacts


SIMULATED = "SIMULATED"


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The very numbers the models saw, of the bars until `as_of`: `values` in the order of the DataSpec of `data_spec_hash`.

    `quality` is OK, or says how many values are unknown and whether the minutes behind them are SIMULATED: such a vector is no
    evidence of what a model can do."""

    decision_id: str
    as_of: datetime
    known_at: datetime
    data_spec_hash: str
    values: tuple[float, ...]
    quality: str

    @property
    def simulated(self) -> bool:
        """Whether its minutes are made up."""
        return self.quality.startswith(SIMULATED)
