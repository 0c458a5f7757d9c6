"""Do features drift? After very many bars, of prices of every size, they are what a state that saw the last ones alone says.

`python -m tests.properties.feature_drift 1000000` is the long form.
"""

import json
import sys
from dataclasses import replace

import numpy as np
from tests.properties.test_bar_features import LONGEST, walk

from finagent.quant.features.bar_features import BarFeatures
from finagent.quant.features.catalogue import BARS

CHUNK = 1000
LIMIT = 1e-9


def drift(updates: int) -> dict[str, object]:
    """The largest relative difference (absolute below 1e-3), and of which feature. Every thousand bars prices and volumes are of
    another order of magnitude: what was large must not be remembered where it was forgotten."""
    long, short = (BarFeatures(2, index=None, hole_bars_max=3) for _ in range(2))
    chance = np.random.default_rng(1)
    for number in range(updates // CHUNK):
        size, traded = 10.0 ** chance.uniform(-2, 4), 10.0 ** chance.uniform(-3, 3)
        last = number == updates // CHUNK - 1
        bars = walk(number, CHUNK if not last else CHUNK + 10 * LONGEST, 2, holes=0.001)
        for row in bars:
            scaled = replace(
                row,
                open=row.open * size,
                high=row.high * size,
                low=row.low * size,
                close=row.close * size,
                volume=row.volume * traded,
            )
            long.push(scaled)
            if last:
                short.push(scaled)
    found, expected = long.values(), short.values()
    away = np.abs(found - expected) / np.maximum(np.abs(expected), 1e-3)
    assert np.isfinite(away).all()
    place = int(away.max(axis=1).argmax())
    return {"updates": updates, "features": len(BARS.names), "largest": float(away.max()), "feature": BARS.names[place]}


if __name__ == "__main__":
    told = drift(int(sys.argv[1]))
    print(json.dumps(told))
    sys.exit(0 if float(str(told["largest"])) <= LIMIT else 3)
