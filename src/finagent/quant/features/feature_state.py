"""What is known of every symbol since the open, kept up by one vectorised pass a bar-time."""

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import BarBlock, BarQuality, Floats
from finagent.domain.errors import InvariantViolated
from finagent.domain.sessions import Session
from finagent.quant.features.bar_soundness import sound_bars

NEVER = -1
_FILLED = np.uint8(BarQuality.FILLED)
_BAD = np.uint8(BarQuality.BAD)


class FeatureState:
    """Columns over symbols, as of `minute` (minutes since the open whose bars were taken in; 0 after `reset`).

    `open`, `high`, `low`, `last` in USD (NaN: no tradable bar yet), `cumulative_volume` in shares, `cumulative_dollars` the sum
    of typical price x volume in USD, `last_minute` the minute of the last tradable bar (NEVER: none), `bad_bars` how many bars
    were refused. A bar is tradable when its quality is OK or FILLED *and* it is sound: whatever an adapter says, no NaN, infinity
    or negative price enters the columns.
    """

    def __init__(self, symbols: tuple[str, ...]) -> None:
        count = len(symbols)
        self.symbols = symbols
        self.index = {symbol: column for column, symbol in enumerate(symbols)}
        if len(self.index) != count:
            raise InvariantViolated(f"{count - len(self.index)} of {count} symbols occur twice in the universe")
        order = np.argsort(np.array(symbols, dtype=np.str_), kind="stable")
        self.alphabetical: NDArray[np.intp] = np.empty(count, dtype=np.intp)
        self.alphabetical[order] = np.arange(count)
        self.session: Session | None = None
        self.minute = 0
        self.open: Floats = np.full(count, np.nan)
        self.high: Floats = np.full(count, np.nan)
        self.low: Floats = np.full(count, np.nan)
        self.last: Floats = np.full(count, np.nan)
        self.cumulative_volume: Floats = np.zeros(count)
        self.cumulative_dollars: Floats = np.zeros(count)
        self.last_minute: NDArray[np.int32] = np.full(count, NEVER, dtype=np.int32)
        self.bad_bars: NDArray[np.int32] = np.zeros(count, dtype=np.int32)

    def reset(self, session: Session) -> None:
        """Forget everything: nothing of the session is known yet."""
        self.session = session
        self.minute = 0
        for column in (self.open, self.high, self.low, self.last):
            column.fill(np.nan)
        self.cumulative_volume.fill(0.0)
        self.cumulative_dollars.fill(0.0)
        self.last_minute.fill(NEVER)
        self.bad_bars.fill(0)

    def update(self, block: BarBlock) -> None:
        """Take in the bars of one bar-time. Bars come in order of time; one seen before, or of another session, is refused."""
        if self.session is None or not self.session.opens_at < block.at <= self.session.closes_at:
            raise InvariantViolated(f"bars of {block.at.isoformat()} do not belong to the session in the feature state")
        minute = self.session.minute_of(block.at)
        if minute <= self.minute:
            raise InvariantViolated(f"bars of minute {minute} after minute {self.minute}: the feature state only goes forward")
        self.minute = minute
        claimed = block.quality <= _FILLED
        tradable = claimed & sound_bars(block.open, block.high, block.low, block.close, block.volume)
        self.bad_bars += (block.quality == _BAD) | (claimed ^ tradable)
        np.copyto(self.open, block.open, where=tradable & (self.last_minute == NEVER))
        np.fmax(self.high, block.high, out=self.high, where=tradable)
        np.fmin(self.low, block.low, out=self.low, where=tradable)
        np.copyto(self.last, block.close, where=tradable)
        np.add(self.cumulative_volume, block.volume, out=self.cumulative_volume, where=tradable)
        with np.errstate(invalid="ignore", over="ignore"):  # of bars that are not tradable
            dollars = (block.high + block.low + block.close) / 3.0 * block.volume
        np.add(self.cumulative_dollars, dollars, out=self.cumulative_dollars, where=tradable)
        np.copyto(self.last_minute, minute, where=tradable)
