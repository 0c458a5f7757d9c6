"""How the risk of one scan is split over its trades: multiples of what each would risk if all risked the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.risk.covariance import shrunk_covariance
from finagent.quant.risk.hierarchical_parity import capped, hierarchical_parity, inverse_variance

_TOGETHER_MIN = 2
_STEP = Decimal("0.0001")  # of a multiple: what is committed does not hang on the last bits of a float


class Allocation(Enum):
    EQUAL_RISK = "equal_risk"
    HRP = "hrp"
    INVERSE_VARIANCE = "inverse_variance"


@dataclass(frozen=True, slots=True)
class AllocationPolicy:
    """A trade is known by the last `days` returns of its symbol, `days_min` at least; one that is not has `unknown_multiple`.

    No trade has more than `fraction_max` of the risk of its scan where there are trades enough to share it so, and none more
    than `multiple_max` of an equal part.
    """

    method: Allocation
    days: int
    days_min: int
    fraction_max: float
    multiple_max: float
    unknown_multiple: float

    def __post_init__(self) -> None:
        if not 2 <= self.days_min <= self.days:
            raise BadInput(f"risk.allocation_rules: days_min {self.days_min} must be 2 or more and at most days {self.days}")

    def part_max(self, trades: int) -> float:
        """The largest part of the risk of so many trades that one of them may have."""
        by_multiple = self.multiple_max / trades
        return min(by_multiple, self.fraction_max) if trades * self.fraction_max >= 1.0 else by_multiple


def known_columns(returns: Floats, days_min: int) -> NDArray[np.bool_]:
    """[symbols]: returns on every day, enough of them, that are not all the same."""
    if len(returns) < days_min:
        return np.zeros(returns.shape[1], dtype=np.bool_)
    return np.asarray(np.isfinite(returns).all(axis=0) & (np.ptp(np.nan_to_num(returns), axis=0) > 0))


def risk_multiples(names: Sequence[str], returns: Floats, policy: AllocationPolicy) -> Mapping[str, Decimal]:
    """The multiple of each trade. Those of the known ones sum to their number; an unknown one leaves unused what it is denied.

    `returns` [days, names] as each trade would earn them, NaN where not known. The order of the names changes nothing: the tree
    of hierarchical parity is built in that of the alphabet.
    """
    order = sorted(range(len(names)), key=lambda place: names[place])
    recent = returns[-policy.days :, order]
    multiples = np.full(len(names), policy.unknown_multiple)
    known = known_columns(recent, policy.days_min)
    if count := int(known.sum()):
        parts = _parts(recent[:, known], policy.method) * count / len(names)
        multiples[known] = capped(parts, policy.part_max(len(names))) * len(names)
    return {names[place]: Decimal(repr(float(multiples[row]))).quantize(_STEP) for row, place in enumerate(order)}


def _parts(returns: Floats, method: Allocation) -> Floats:
    """Of one whole."""
    count = returns.shape[1]
    if method is Allocation.EQUAL_RISK or count < _TOGETHER_MIN:
        return np.full(count, 1.0 / count)
    covariance = shrunk_covariance(returns).matrix
    return hierarchical_parity(covariance) if method is Allocation.HRP else inverse_variance(covariance)
