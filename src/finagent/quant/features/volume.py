"""How much is traded, at which prices, and in which direction."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import ONE, TWENTY, ZERO, BarWindows

_FIVE, _20_AND_60 = np.asarray(5.0), np.asarray([[20.0], [60.0]])


class Volume:
    """Volume against its past, and what prices did meanwhile (catalogue.VOLUME)."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars, sums = bars, bars.totals.sums
        self._of_5, _, self._traded, _ = sums("volume")[0]
        self._of_20_and_60, self._directed = sums("volume")[0, 2:], sums("signed_volume", "located_volume")[:, 0]
        self._only_of_20, self._typical_dollars = sums("volume_2", "dollars"), sums("typical_dollars")[0, 0]
        self._mean_2, self._dollars = self._only_of_20[:, 0]
        self._means: Floats = np.empty((3, bars.symbols))
        self._shorter_means, self._mean_20, self._mean_60 = self._means[:2], self._means[1], self._means[2]
        self._to_newest, self._between, self._of_direction = values[:3], values[3:5], values[7:9]
        self._z, self._log_dollars, self._vwap_distance = values[5], values[6], values[9]
        self._deviation: Floats = np.empty(bars.symbols)

    def update(self) -> None:
        """Write the values as of the last bars."""
        newest, means, z, deviation, distance = self._bars.volume, self._means, self._z, self._deviation, self._vwap_distance
        np.divide(self._of_5, _FIVE, out=means[0])
        np.divide(self._of_20_and_60, _20_AND_60, out=means[1:])
        np.divide(self._only_of_20, TWENTY, out=self._only_of_20)
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
