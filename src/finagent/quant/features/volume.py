"""How much is traded, at which prices, and in which direction."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import ONE, ZERO, BarWindows

_WIDTHS = np.asarray([[5.0], [20.0], [60.0]])


class Volume:
    """Volume against its past, and what prices did meanwhile (catalogue.VOLUME)."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars, windows = bars, bars.totals.windows
        self._totals, self._directed = windows("volume"), windows("signed_volume", "located_volume")
        self._traded = self._totals[1]
        self._mean_2, self._dollars, self._typical_dollars = (
            windows(name)[0] for name in ("volume_2", "dollars", "typical_dollars")
        )
        self._means: Floats = np.empty((3, bars.symbols))
        self._shorter_means, self._mean_20, self._mean_60 = self._means[:2], self._means[1], self._means[2]
        self._to_newest, self._between, self._of_direction = values[:3], values[3:5], values[7:9]
        self._z, self._log_dollars, self._vwap_distance = values[5], values[6], values[9]
        self._deviation: Floats = np.empty(bars.symbols)

    def update(self) -> None:
        """Write the values as of the last bars."""
        newest, means, z, deviation, distance = self._bars.volume, self._means, self._z, self._deviation, self._vwap_distance
        np.divide(self._totals, _WIDTHS, out=means)
        np.divide(newest, means, out=self._to_newest)
        np.divide(self._shorter_means, self._mean_60, out=self._between)
        np.multiply(self._mean_20, self._mean_20, out=deviation)
        np.subtract(self._mean_2, deviation, out=deviation)
        np.maximum(deviation, ZERO, out=deviation)
        np.sqrt(deviation, out=deviation)
        np.subtract(newest, self._mean_20, out=z)
        np.divide(z, deviation, out=z)
        np.log(self._dollars, out=self._log_dollars)
        np.divide(self._directed, self._traded, out=self._of_direction)
        np.multiply(self._bars.now.close, self._traded, out=distance)
        np.divide(distance, self._typical_dollars, out=distance)
        np.subtract(distance, ONE, out=distance)
