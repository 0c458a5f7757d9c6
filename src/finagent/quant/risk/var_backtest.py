"""Whether forecasts of value at risk were any good: how often they were broken, and whether that came in clusters."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.risk.value_at_risk import CONFIDENCE, filtered, tail_rank

_BLOCK = 256  # windows at once: memory, not meaning


@dataclass(frozen=True, slots=True)
class Coverage:
    """Days, breaches among them, and p-values: of so wrong a frequency when it is right (`kupiec_p`), of so much dependence on
    the day before when there is none (`independence_p`), of both together (`christoffersen_p`)."""

    days: int
    breaches: int
    kupiec_p: float
    independence_p: float
    christoffersen_p: float

    @property
    def rate(self) -> float:
        return self.breaches / self.days


def filtered_forecasts(returns: Floats, window: int, confidence: float = CONFIDENCE) -> Floats:
    """Value at risk by filtered historical simulation for each day that has `window` days before it, from those alone:
    [days - window]. BadInput as of `filtered`, or for a window of fewer than two days or with no day after it."""
    return filtered_book_forecasts(returns[:, None], np.ones(1), window, confidence)


def filtered_book_forecasts(returns: Floats, exposures: Floats, window: int, confidence: float = CONFIDENCE) -> Floats:
    """The same of a book, [days - window]: each symbol of `returns` [days, symbols] filtered by its own volatility, as a limit
    on the book of now reads it; in the unit of `exposures` [symbols]."""
    rank = tail_rank(_window(window, len(returns)), confidence)
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(returns[:-1], window, axis=0), -1, 0)
    blocks = [filtered(windows[:, start : start + _BLOCK]) @ exposures for start in range(0, windows.shape[1], _BLOCK)]
    return np.concatenate([-np.partition(block, rank, axis=0)[rank] for block in blocks])


def plain_forecasts(outcomes: Floats, window: int, measure: Callable[[Floats], float]) -> Floats:
    """What `measure` makes of the `window` outcomes before each day, [days - window]. BadInput for a window as above."""
    return np.asarray([measure(outcomes[day - window : day]) for day in range(_window(window, len(outcomes)), len(outcomes))])


def coverage(breached: npt.NDArray[np.bool_], confidence: float) -> Coverage:
    """Likelihood ratios of Kupiec (J. Derivatives 3, 1995) and Christoffersen (Int. Econ. Rev. 39, 1998).

    `breached` [days]: the loss was larger than the value at risk forecast for that day. The frequency is tested over all days,
    dependence over those that have a day before. BadInput for fewer than two days or a confidence outside (0, 1).
    """
    if breached.ndim != 1 or len(breached) < 2:
        raise BadInput(f"breaches of shape {breached.shape}: two days or more are needed")
    if not 0.0 < confidence < 1.0:
        raise BadInput(f"a confidence of {confidence} is not between 0 and 1")
    days, breaches = len(breached), int(breached.sum())
    wanted = 1.0 - confidence
    frequency = 2 * (_likelihood(breaches, days, breaches / days) - _likelihood(breaches, days, wanted))
    before, after = breached[:-1], breached[1:]
    quiet, loud = int((~before).sum()), int(before.sum())
    after_quiet, after_loud = int((~before & after).sum()), int((before & after).sum())
    together = _likelihood(after_quiet + after_loud, days - 1, (after_quiet + after_loud) / (days - 1))
    apart = _best(after_quiet, quiet) + _best(after_loud, loud)
    dependence = 2 * (apart - together)
    return Coverage(days, breaches, _chi1(frequency), _chi1(dependence), math.exp(-max(frequency + dependence, 0.0) / 2))


def _window(window: int, days: int) -> int:
    if not 2 <= window < days:
        raise BadInput(f"a window of {window} in {days} days: two or more, with a day after it")
    return window


def _best(breaches: int, days: int) -> float:
    return _likelihood(breaches, days, breaches / days) if days else 0.0


def _likelihood(breaches: int, days: int, probability: float) -> float:
    """Logarithm of the likelihood of so many breaches; zero times the logarithm of zero is zero."""
    parts = ((breaches, probability), (days - breaches, 1.0 - probability))
    return sum(count * math.log(chance) if chance > 0.0 else -math.inf for count, chance in parts if count)


def _chi1(ratio: float) -> float:
    """The upper tail of chi-squared with one degree of freedom."""
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2))
