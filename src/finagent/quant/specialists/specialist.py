"""A trained specialist: an ensemble with the transform of its inputs, the temperature of its answers and what it abstains from.

Imports torch, which the agent does not: what serves is exported from this.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets, sides
from finagent.quant.evaluation.calibration import softmax
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.scores import PROBABILITY_MIN
from finagent.quant.learning.learning_rows import Singles
from finagent.quant.specialists.networks import STANDARD_MAX, NetworkShape, load_network

FORECAST_ROWS = 4096  # at once: the memory that a forecast takes does not grow with its rows
Weights = Mapping[str, Singles]


@dataclass(frozen=True, slots=True)
class StandardInputs:
    """Mean and deviation of each feature [features] where it is known, fitted on what was learned from. An unknown value counts
    as the mean."""

    mean: Singles
    deviation: Singles

    def __call__(self, inputs: Singles) -> tuple[Singles, Singles]:
        """Without unit, at most STANDARD_MAX from zero, and which steps have a known value [rows, steps]."""
        known = np.isfinite(inputs)
        standard = np.clip((inputs - self.mean) / self.deviation, -STANDARD_MAX, STANDARD_MAX)
        filled: Singles = np.where(known, standard, 0.0).astype(np.float32)
        there: Singles = np.asarray(known.any(axis=2), dtype=np.float32)
        return filled, there


def fit_standard_inputs(inputs: Singles) -> StandardInputs:
    """Of inputs [rows, steps, features]; what is never known or never changes has deviation 1."""
    wide = inputs.reshape(-1, inputs.shape[2]).astype(np.float64)
    known = np.isfinite(wide)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, wide, 0.0).sum(axis=0) / count
    variance = np.where(known, (wide - mean) ** 2, 0.0).sum(axis=0) / count
    moves = variance > (1e-6 * np.abs(mean)) ** 2  # below it single precision cannot tell the values apart
    deviation = np.where(moves, np.sqrt(variance), 1.0)
    return StandardInputs(mean.astype(np.float32), deviation.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Specialist:
    """`members` are the weights of the ensemble, by the names of torch. One without `has_skill` did not beat the base rates on
    rows that it had not seen: it tells them for every row, and takes no side."""

    shape: NetworkShape
    inputs: StandardInputs
    members: tuple[Weights, ...]
    temperature: float
    base_rates: Floats
    has_skill: bool
    conformal: ConformalSets

    def logits(self, inputs: Singles) -> Floats:
        """The logarithm of the members' mean probability (Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017) [rows, classes],
        before the temperature. BadInput for inputs of another shape."""
        if inputs.ndim != 3 or inputs.shape[1:] != (self.shape.steps, self.shape.features):
            raise BadInput(f"specialist: inputs {inputs.shape}, not [rows, {self.shape.steps}, {self.shape.features}]")
        return ensemble_logits(self.shape, self.inputs, self.members, inputs)

    def probabilities(self, inputs: Singles) -> Floats:
        """[rows, classes] of Outcome; errors as of logits."""
        if not self.has_skill:
            return np.tile(self.base_rates, (len(inputs), 1))
        return softmax(self.logits(inputs), self.temperature)

    def sides(self, inputs: Singles) -> NDArray[np.int8]:
        """[rows]: 1 to buy, -1 to sell, 0 to abstain since the other side cannot be ruled out."""
        if not self.has_skill:
            return np.zeros(len(inputs), dtype=np.int8)
        return sides(self.conformal.sets(decided(self.probabilities(inputs))))


def decided(probabilities: Floats) -> Floats:
    """Given that a barrier is met: distributions [rows, classes] in which FLAT has no part."""
    of_sides = probabilities.copy()
    of_sides[:, Outcome.FLAT] = 0.0
    told: Floats = of_sides / np.maximum(of_sides.sum(axis=1, keepdims=True), PROBABILITY_MIN)
    return told


def ensemble_logits(shape: NetworkShape, standard: StandardInputs, members: tuple[Weights, ...], inputs: Singles) -> Floats:
    """See Specialist.logits."""
    networks = [load_network(shape, {name: torch.tensor(each) for name, each in member.items()}) for member in members]
    told = []
    with torch.inference_mode():
        for first in range(0, len(inputs), FORECAST_ROWS):
            values, there = (torch.from_numpy(each) for each in standard(inputs[first : first + FORECAST_ROWS]))
            shares = torch.stack([torch.softmax(network(values, there)[0], dim=1) for network in networks])
            told.append(shares.mean(dim=0).numpy().astype(np.float64))
    logits: Floats = np.log(np.maximum(np.concatenate(told), PROBABILITY_MIN))
    return logits
