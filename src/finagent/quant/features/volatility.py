"""How far prices range within and between bars."""

from collections.abc import Mapping

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows, over, product_sum, summed
from finagent.quant.features.family import State
from finagent.quant.features.smoothing import Smoother, wilder

PERIODS = (7, 14, 21)
WINDOWS = (10, 20)
DECAY = 0.06


class Ranges:
    """Range volatilities, average true ranges and Bollinger's band."""

    def __init__(self, symbols: int) -> None:
        self._means = Smoother((*(wilder(p) for p in PERIODS), DECAY), (*PERIODS, 1), symbols)
        self._observed: Floats = np.zeros((4, symbols))

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write the rows of the family."""
        self._of_bodies_and_ranges(bars, values)
        close, returns = bars.last("close"), bars.last("return")
        np.divide(bars.true_range, close, out=values[10])
        self._observed[:3] = bars.true_range
        np.multiply(returns, returns, out=self._observed[3])
        means = self._means.update(self._observed, bars.count - 1, bars.fewest - 1)
        np.divide(means[:3], close, out=values[11:14])
        values[11:14] *= 100.0
        np.sqrt(means[3], out=values[14])
        away = bars.window("close", 20) - close  # deviations from the last close: nothing cancels where nothing moves
        mean = summed(away) / 20.0
        deviation = np.sqrt(np.maximum(product_sum(away, away) / 20.0 - mean * mean, 0.0))
        np.divide(-mean, deviation, out=values[17])
        np.divide(2.0 * deviation - mean, 4.0 * deviation, out=values[15])
        np.divide(4.0 * deviation, close + mean, out=values[16])

    def _of_bodies_and_ranges(self, bars: BarWindows, values: Floats) -> None:
        widths = np.asarray(WINDOWS, dtype=np.float64)[:, np.newaxis]
        for place, series, divisor in (
            (0, "parkinson", 4.0 * np.log(2.0)),
            (2, "garman_klass", 1.0),
            (4, "rogers_satchell", 1.0),
        ):
            np.divide(over(bars.window(series, 20), WINDOWS, np.add), divisor * widths, out=values[place : place + 2])
        variances = [_variances(bars.window(series, 20), widths) for series in ("overnight", "open_to_close")]
        k = 0.34 / (1.34 + (widths + 1.0) / (widths - 1.0))
        values[6:8] = variances[0] + k * variances[1] + (1.0 - k) * values[4:6]
        values[8:10] = variances[0]
        np.sqrt(np.maximum(values[:10], 0.0), out=values[:10])

    def state(self) -> dict[str, State]:
        return {"ranges": self._means.state()}

    def restore(self, state: Mapping[str, State]) -> None:
        """Go on from saved means."""
        self._means.restore(state["ranges"])


def _variances(logs: Floats, widths: Floats) -> Floats:
    """[windows, symbols], with n - 1."""
    mean = over(logs, WINDOWS, np.add) / widths
    square = over(logs * logs, WINDOWS, np.add) / widths
    found: Floats = np.maximum(square - mean * mean, 0.0) * (widths / (widths - 1.0))
    return found
