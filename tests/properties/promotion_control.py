"""How often the evidence promotes whom it should not, and how long it takes for whom it should: simulated pairs of models.

Candidates of a day share a factor. Each model sees one part of what moves a candidate, and forecasts the classes with the
probabilities that this part implies; the returns of a model are those of the five candidates of which it is surest.

`python -m tests.properties.promotion_control EQUAL BETTER` prints what became of so many pairs of equal models, and of so many
whose challenger is better by one annual Sharpe ratio, as JSON; it ends with 1 where too many of the equal are promoted.
"""

import json
import math
import sys
from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.evaluation.comparison import (
    DayDifferences,
    compare_losses,
    day_differences,
    evidence,
    promotion_day,
)
from finagent.quant.evaluation.sharpe import annual_sharpe, compare_sharpe

DAYS = 250
FALSE_PROMOTIONS_MAX = 0.05  # of equal pairs, by the upper 95 % bound
FIRST_LOOK = 20  # days, as the gate asks
TRADED = 5
FLAT_FRACTION, FACTOR_VARIANCE, DEVIATION = 0.3, 0.2, 0.02
EDGE_OF_ONE = 0.011  # the share seen that makes an annual Sharpe ratio of 1.0 with the five surest of 200
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of a normal variable at zero: the slope of its distribution there


@dataclass(frozen=True)
class Pair:
    differences: DayDifferences
    champion: Floats  # daily returns
    challenger: Floats


def forecast(edge: float, seen: Floats) -> Floats:
    """DOWN, FLAT and UP [rows, 3]."""
    up = (1.0 - FLAT_FRACTION) * np.clip(0.5 + DENSITY * edge * seen.ravel(), 0.02, 0.98)
    return np.stack([1.0 - FLAT_FRACTION - up, np.full_like(up, FLAT_FRACTION), up], axis=1)


def traded(seen: Floats, moves: Floats) -> Floats:
    """The mean return of each day over the candidates of which a model is surest, on the side that it believes in."""
    surest = np.argpartition(-np.abs(seen), TRADED, axis=1)[:, :TRADED]
    sides = np.sign(np.take_along_axis(seen, surest, 1))
    returns: Floats = DEVIATION * (sides * np.take_along_axis(moves, surest, 1)).mean(axis=1)
    return returns


def simulate(chance: np.random.Generator, champion: float, challenger: float, candidates: int, days: int = DAYS) -> Pair:
    """`champion` and `challenger`: the share of a candidate's deviation that the model sees coming."""
    one, other, rest = chance.standard_normal((3, days, candidates))
    factor = chance.standard_normal((days, 1))
    moves = champion * one + challenger * other
    moves = moves + math.sqrt(FACTOR_VARIANCE) * factor + math.sqrt(1.0 - FACTOR_VARIANCE) * rest
    flat = chance.random((days, candidates)) < FLAT_FRACTION
    outcomes = np.where(flat, 1, np.where(moves > 0.0, 2, 0)).ravel()
    day = np.repeat(np.arange(days), candidates)
    differences = day_differences(forecast(champion, one), forecast(challenger, other), outcomes, day)
    return Pair(differences, traded(one, moves), traded(other, moves))


def promoted_on(pair: Pair) -> float:
    """The day on which the evidence, looked at daily, promotes; infinity for never."""
    day = promotion_day(evidence(pair.differences.mean, pair.differences.bound)[FIRST_LOOK - 1 :])
    return math.inf if day is None else FIRST_LOOK + day


def significant_daily(pair: Pair) -> bool:
    """What the t test would promote if it were looked at daily."""
    mean = pair.differences.mean
    count = np.arange(1, len(mean) + 1)
    sums, squares = mean.cumsum(), np.square(mean).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums / np.sqrt((squares - sums**2 / count) / (count - 1) * count)
    return bool((value[FIRST_LOOK - 1 :] > 1.7).any())


def upper_bound(hits: int, draws: int) -> float:
    """Of a rate, with 95 % confidence (Clopper & Pearson, Biometrika 26, 1934)."""
    low, high = hits / draws, 1.0
    for _ in range(50):
        rate = (low + high) / 2.0
        fewer = sum(math.comb(draws, k) * rate**k * (1.0 - rate) ** (draws - k) for k in range(hits + 1))
        low, high = (rate, high) if fewer > 0.05 else (low, rate)
    return low


def equal_pairs(count: int) -> list[Pair]:
    chance = np.random.Generator(np.random.Philox(key=400))
    return [simulate(chance, 0.05, 0.05, candidates=15) for _ in range(count)]


def better_pairs(count: int, days: int) -> list[Pair]:
    """From an annual Sharpe ratio of 1.0 to one of 2.0, with 200 candidates forecast a day."""
    chance = np.random.Generator(np.random.Philox(key=403))
    return [simulate(chance, EDGE_OF_ONE, 2.0 * EDGE_OF_ONE, candidates=200, days=days) for _ in range(count)]


def of_equal(pairs: list[Pair]) -> dict[str, float]:
    promoted = sum(promoted_on(pair) < math.inf for pair in pairs)
    ratios = np.asarray([(annual_sharpe(pair.challenger), annual_sharpe(pair.champion)) for pair in pairs])
    return {
        "pairs": len(pairs),
        "promoted": promoted,
        "promoted_upper_95": upper_bound(promoted, len(pairs)),
        "would_promote_higher_sharpe": float(np.mean(ratios[:, 0] > ratios[:, 1])),
        "would_promote_sharpe_above_1.1": float(np.mean(ratios[:, 0] > 1.1 * ratios[:, 1])),
        "would_promote_t_test_at_the_end": float(np.mean([compare_losses(p.differences.mean).p_value < 0.05 for p in pairs])),
        "would_promote_t_test_daily": float(np.mean([significant_daily(pair) for pair in pairs])),
    }


def of_better(pairs: list[Pair]) -> dict[str, float]:
    """Days are those of the pairs, and one more, where they were too few."""
    length = len(pairs[0].champion)
    days = np.asarray([min(promoted_on(pair), length + 1) for pair in pairs])
    gained = [compare_sharpe(pair.challenger, pair.champion).difference for pair in pairs]
    return {
        "pairs": len(pairs),
        "days": length,
        "sharpe_difference": float(np.mean(gained)),
        "promoted_within_250": float(np.mean(days <= DAYS)),
        "promoted_within_1000": float(np.mean(days <= 4 * DAYS)),
        "days_until_half_are_promoted": float(np.quantile(days, 0.5, method="higher")),
        "of_those_by_250_days_a_t_test_finds": float(
            np.mean([compare_losses(pair.differences.mean[:DAYS]).p_value < 0.05 for pair in pairs])
        ),
    }


if __name__ == "__main__":
    equal, better = of_equal(equal_pairs(int(sys.argv[1]))), of_better(better_pairs(int(sys.argv[2]), 8 * DAYS))
    print(json.dumps({"equal": equal, "better_by_one_annual_sharpe": better}, indent=2))
    sys.exit(int(equal["promoted_upper_95"] > FALSE_PROMOTIONS_MAX))
