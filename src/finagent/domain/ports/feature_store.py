"""Where features are kept, so that they need not be computed again."""

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from finagent.domain.bars import Floats


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """Which numbers: of the data spec of that hash, on bars of that length, of `source`, which names the data and everything else
    that the numbers depend on, as known at the open of the session on `day`."""

    data_spec_hash: str
    timeframe: str
    source: str
    day: date


class FeatureStore(Protocol):
    """Blocks [symbols, features]. A store may forget: whoever reads is ready to compute."""

    async def read(self, key: FeatureKey) -> Floats | None:
        """The block to the bit; None where there is none, be it evicted or damaged. Transient without an answer."""
        ...

    async def write(self, key: FeatureKey, values: Floats) -> None:
        """Whole or not at all; one that is there already is replaced. Transient where it cannot be kept."""
        ...
