"""Worlds in which it is known what can be known: a positive control for everything that claims to have learned something."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES, TARGET_ATR_MAX, Outcome
from finagent.quant.learning.learning_rows import REGIMES, LearningRows

FLAT_ATR = 0.25  # what stays nearer to the entry is FLAT
LEAK_NOISE = 0.1
LEAK = "high"


class Edge(Enum):
    """How the mean of the return depends on the features."""

    LINEAR = "linear"  # on the sum of four, two of them with a minus
    INTERACTION = "interaction"  # on the product of two, each of which alone says nothing


@dataclass(frozen=True, slots=True)
class PlantedEdge:
    """`strength` is the deviation of the return's mean in units of the return's own noise; 0 plants nothing. With `leak` the last
    feature is the high of the day, which nobody knows at the decision."""

    edge: Edge = Edge.LINEAR
    strength: float = 0.0
    features: int = 12
    sessions: int = 600
    symbols: int = 10
    steps: int = 1
    leak: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength < np.inf or self.features < 4 or min(self.sessions, self.symbols, self.steps) < 1:
            raise BadInput(f"planted edge: {self}: strength from 0, four features or more, at least one of the rest are needed")


@dataclass(frozen=True, slots=True)
class PlantedWorld:
    """`columns` [sessions, symbols] by name, all but LEAK known at the decision; `returns_atr` [sessions, symbols];
    `probabilities` [sessions * symbols, classes] are those of the oracle: no forecast has a better expected score."""

    planted: PlantedEdge
    columns: Mapping[str, Floats]
    returns_atr: Floats
    probabilities: Floats

    @property
    def known(self) -> frozenset[str]:
        """The columns that are known at the decision."""
        return frozenset(self.columns) - {LEAK}

    @property
    def feature_names(self) -> tuple[str, ...]:
        names = tuple(name for name in self.columns if name != LEAK)
        return (*names, LEAK) if self.planted.leak else names

    def features(self, columns: Mapping[str, Floats]) -> Floats:
        """[sessions, symbols, features] of such columns."""
        return np.stack([columns[name] for name in self.feature_names], axis=-1)

    def learning_rows(self) -> LearningRows:
        """A row a session and symbol; steps before the first session are unknown. Regimes say nothing here."""
        values = self.features(self.columns).astype(np.float32)
        steps = self.planted.steps
        padded = np.concatenate([np.full((steps - 1, *values.shape[1:]), np.nan, dtype=np.float32), values])
        windows = np.stack([padded[step : step + len(values)] for step in range(steps)], axis=2)
        rows = self.returns_atr.size
        starts = np.repeat(np.arange(len(values), dtype=np.int64), self.planted.symbols)
        returns = self.returns_atr.reshape(-1)
        outcomes = np.select([returns > FLAT_ATR, returns < -FLAT_ATR], [Outcome.UP, Outcome.DOWN], Outcome.FLAT).astype(np.int8)
        regimes = np.full((rows, REGIMES), 1.0 / REGIMES)
        targets = np.clip(returns, -TARGET_ATR_MAX, TARGET_ATR_MAX)
        return LearningRows(windows.reshape(rows, steps, -1), outcomes, targets, starts, starts, regimes)


def plant(planted: PlantedEdge, seed: int) -> PlantedWorld:
    """The same world for the same seed. Features are independent standard normals; the return over the ATR is their edge plus
    standard normal noise."""
    chance = np.random.Generator(np.random.Philox(key=[seed, 0]))
    shape = (planted.sessions, planted.symbols)
    signals = chance.standard_normal((planted.features, *shape))
    noise, blur = chance.standard_normal(shape), np.abs(chance.standard_normal(shape))
    linear = (signals[0] - signals[1] + signals[2] - signals[3]) / 2.0
    edge = linear if planted.edge is Edge.LINEAR else signals[0] * signals[1]
    mean = planted.strength * edge
    returns = mean + noise
    columns = {f"signal_{place}": signal for place, signal in enumerate(signals)}
    columns[LEAK] = np.maximum(returns, 0.0) + LEAK_NOISE * blur
    return PlantedWorld(planted, columns, returns, _oracle(mean.reshape(-1)))


def _oracle(mean: Floats) -> Floats:
    normal = np.frompyfunc(NormalDist().cdf, 1, 1)
    told = np.empty((len(mean), CLASSES))
    told[:, Outcome.DOWN] = normal(-FLAT_ATR - mean)
    told[:, Outcome.UP] = normal(mean - FLAT_ATR)
    told[:, Outcome.FLAT] = 1.0 - told[:, Outcome.DOWN] - told[:, Outcome.UP]
    return told
