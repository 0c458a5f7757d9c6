"""Who scores candidates."""

from typing import Protocol

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec


class Predictor(Protocol):
    """Maps feature rows to scores in [0, 1]; a row that cannot be scored gives NaN ("no trade", never zero).

    `predict` may compute for long and is called off the event loop; one bad row never fails its batch.
    """

    @property
    def model_version(self) -> str: ...

    @property
    def digest(self) -> str:
        """SHA-256 of the package that it was loaded from; empty for a formula."""
        ...

    @property
    def spec(self) -> DataSpec:
        """The features that it was made for, in the order of the columns of `rows`."""
        ...

    def predict(self, rows: Floats) -> Floats:
        """Scores [n] of feature rows [n, len(spec.features)]."""
        ...
