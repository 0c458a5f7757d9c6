"""Plain models, as experiments of one epoch: whoever claims to have learned something stands beside them.

Needs scikit-learn (`pip install "finagent[models]"`).
"""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES
from finagent.quant.specialists.experiment import State
from finagent.quant.specialists.training_rows import Scaling, Single, TrainingRows, scaling_of
from finagent.quant.specialists.trials import BOOSTING, CLIMATOLOGY, LOGISTIC

_MODELS: dict[str, Callable[[], LogisticRegression | HistGradientBoostingClassifier]] = {
    LOGISTIC: lambda: LogisticRegression(C=0.1, max_iter=500),
    BOOSTING: lambda: HistGradientBoostingClassifier(max_iter=100, learning_rate=0.05, random_state=0),
}
PLAIN = (CLIMATOLOGY, *_MODELS)


class PlainTraining:
    """Learner of one of PLAIN. It is fitted at once, so there is nothing to keep in between."""

    def __init__(self, rows: TrainingRows, name: str) -> None:
        if name not in PLAIN:
            raise BadInput(f"plain model {name!r} must be one of {', '.join(PLAIN)}")
        self._rows, self._name = rows, name
        self._fitted: Callable[[Single], Floats] | None = None

    @property
    def epochs(self) -> int:
        return 1

    @property
    def finished(self) -> bool:
        return self._fitted is not None

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        if epoch != 0 or self.finished:
            raise BadInput(f"{self._name}: epoch {epoch} is not the next one, there is one alone")
        self._fitted = self._base_rates() if self._name == CLIMATOLOGY else self._model()
        return {}

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        if state:
            raise BadInput(f"{self._name}: this state is another model's, it has none")

    def probabilities(self, values: Single) -> Floats:
        if self._fitted is None:
            raise BadInput(f"{self._name}: it was not fitted yet")
        return self._fitted(values)

    def _base_rates(self) -> Callable[[Single], Floats]:
        weights = np.bincount(self._rows.outcome, weights=self._rows.weight, minlength=CLASSES)
        return lambda values: np.tile(weights / weights.sum(), (len(values), 1))

    def _model(self) -> Callable[[Single], Floats]:
        rows = self._rows
        scaling: Scaling = scaling_of(rows.values)
        flat = scaling.applied(rows.values).reshape(len(rows.values), -1)
        model = _MODELS[self._name]().fit(flat, rows.outcome, sample_weight=rows.weight)

        def probabilities(values: Single) -> Floats:
            found = np.zeros((len(values), CLASSES))
            found[:, model.classes_] = model.predict_proba(scaling.applied(values).reshape(len(values), -1))
            return found

        return probabilities
