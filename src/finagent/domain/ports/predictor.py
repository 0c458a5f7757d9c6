"""Who scores candidates."""

from typing import Protocol

from finagent.domain.bars import Floats


class Predictor(Protocol):
    """Maps feature rows to scores in [0, 1]; a row that cannot be scored gives NaN ("no trade", never zero).

    `predict` may compute for long and is called off the event loop; one bad row never fails its batch.
    """

    @property
    def model_version(self) -> str: ...

    @property
    def data_spec_hash(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the order of the columns of `rows`."""
        ...

    def predict(self, rows: Floats) -> Floats:
        """Scores [n] of feature rows [n, len(columns)]."""
        ...
