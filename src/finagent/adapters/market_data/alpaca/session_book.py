"""The bars of the session at hand as they become known."""

from collections import Counter
from datetime import datetime

import numpy as np

from finagent.adapters.market_data.alpaca.wire import Bar
from finagent.domain.bars import BarQuality, no_bars
from finagent.domain.sessions import MINUTE, Session
from finagent.quant.features.bar_soundness import sound_bars


class SessionBook:
    """`bars` are MISSING until they are put in; told again they change nothing, told otherwise the later telling counts."""

    def __init__(self, session: Session, symbols: tuple[str, ...]) -> None:
        self.bars = no_bars(session, symbols)
        self.last_at: datetime | None = None
        self.refused: Counter[str] = Counter()
        self._column = {symbol: number for number, symbol in enumerate(symbols)}

    def put(self, bar: Bar) -> bool:
        """Take a bar in; False where it is of another session or universe. An unsound one is BAD and counted."""
        session, column = self.bars.session, self._column.get(bar.symbol)
        row, rest = divmod(bar.at - session.opens_at, MINUTE)
        if column is None or rest or not 0 <= row < session.minutes:
            return False
        numbers = np.array([bar.open, bar.high, bar.low, bar.close, bar.volume])
        sound = bool(sound_bars(*(np.array([number]) for number in numbers))[0])
        arrays = (self.bars.open, self.bars.high, self.bars.low, self.bars.close, self.bars.volume)
        for array, number in zip(arrays, numbers, strict=True):
            array[row, column] = number if sound else np.nan
        self.bars.quality[row, column] = BarQuality.OK if sound else BarQuality.BAD
        if not sound:
            self.refused[bar.symbol] += 1
        ended = bar.at + MINUTE
        self.last_at = ended if self.last_at is None else max(self.last_at, ended)
        return True

    def halt(self, symbol: str, at: datetime, *, halted: bool) -> None:
        """From the minute of `at` on the symbol is halted, or no longer."""
        column = self._column.get(symbol)
        if column is None:
            return
        rest = self.bars.quality[self.bars.session.minute_of(at) :, column]
        before, after = (BarQuality.MISSING, BarQuality.HALTED) if halted else (BarQuality.HALTED, BarQuality.MISSING)
        rest[rest == before] = after
