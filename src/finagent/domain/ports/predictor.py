"""Who scores candidates."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec


@dataclass(frozen=True, slots=True)
class Forecasts:
    """`scores` [rows] in [0, 1], NaN for a row that cannot be scored ("no trade", never zero); `abstains` [rows]: the model has a
    score and cannot rule out that the price goes the other way, so there is no trade either."""

    scores: Floats
    abstains: NDArray[np.bool_]

    @classmethod
    def sure(cls, scores: Floats) -> Self:
        """Of who never abstains."""
        return cls(scores, np.zeros(len(scores), dtype=np.bool_))

    def traded(self, score_min: float) -> NDArray[np.bool_]:
        """[rows]: a score of `score_min` or more that nobody abstains from."""
        return np.asarray((self.scores >= score_min) & ~self.abstains)


class Predictor(Protocol):
    """Maps feature rows to forecasts.

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

    def predict(self, rows: Floats) -> Forecasts:
        """Forecasts [n] of feature rows [n, len(spec.features)]."""
        ...
