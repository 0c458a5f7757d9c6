"""What goes wrong inside a simulated session: trading halts with a reopening jump, missing minutes, null bars, bad ticks."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from finagent.adapters.market_data.bar_repair import GapPolicy, repaired
from finagent.adapters.market_data.bridge import keyed_states
from finagent.domain.bars import BarQuality, Floats, SessionBars
from finagent.domain.errors import BadInput

WINDOW_MINUTES = 5  # limit up, limit down compares with the mean of five minutes
WIDE_OPENING_MINUTES, WIDE_CLOSING_MINUTES = 15, 25  # bands are doubled there
_HALTED, _MISSING = np.uint8(BarQuality.HALTED), np.uint8(BarQuality.MISSING)


@dataclass(frozen=True, slots=True)
class DefectPolicy:
    """Rates a minute bar, and the halts: a move of `halt_move_fraction` in five minutes pauses the symbol for `halt_minutes`;
    so does, with `halts_per_symbol_session`, news at the symbol's wildest five minutes."""

    missing_per_minute: float
    null_bars_per_minute: float
    bad_ticks_per_minute: float
    halts_per_symbol_session: float
    halt_move_fraction: float
    halt_minutes: int

    def __post_init__(self) -> None:
        rates = (self.missing_per_minute, self.null_bars_per_minute, self.bad_ticks_per_minute, self.halts_per_symbol_session)
        if not all(0.0 <= rate <= 1.0 for rate in rates) or sum(rates[:3]) > 1.0:
            raise BadInput(f"simulated defects: a rate is not between 0 and 1: {self}")
        if self.halt_move_fraction <= 0.0 or self.halt_minutes < 1:
            raise BadInput(f"simulated defects: a halt needs a move and a length above zero: {self}")


@dataclass(frozen=True, slots=True)
class SimulatedDefects:
    """Spoils a session and repairs what the gap policy repairs. Draws are keyed by (seed, symbol, date) alone."""

    seed: int
    policy: DefectPolicy
    gaps: GapPolicy

    def __call__(self, bars: SessionBars) -> SessionBars:
        minutes, policy = bars.session.minutes, self.policy
        chance = np.empty((len(bars.symbols), minutes + 1))
        ids = tuple(f"{symbol}\x1f{bars.session.date.isoformat()}" for symbol in bars.symbols)
        for row, generator in zip(chance, keyed_states(self.seed, "simulated defects", ids), strict=True):
            generator.random(out=row)
        news, fault = chance[:, 0] < policy.halts_per_symbol_session, chance[:, 1:].T
        halted = _halted(bars.close, news, policy)
        bars = _without_trading(bars, halted)
        traded = (bars.quality <= np.uint8(BarQuality.FILLED)) & ~halted
        missing = traded & (fault < policy.missing_per_minute)
        null_below = policy.missing_per_minute + policy.null_bars_per_minute
        null = traded & ~missing & (fault < null_below)
        bad = traded & (fault >= null_below) & (fault < null_below + policy.bad_ticks_per_minute)
        close = np.where(bad, bars.close / 10.0, bars.close)
        absent = missing | null
        spoilt = replace(
            bars,
            open=np.where(absent, np.nan, bars.open),
            high=np.where(absent, np.nan, bars.high),
            low=np.where(absent, np.nan, bars.low),
            close=np.where(absent, np.nan, close),
            volume=np.where(absent, np.nan, bars.volume),
            quality=np.where(missing, _MISSING, bars.quality),
        )
        return repaired(spoilt, self.gaps)


def _halted(close: Floats, news: NDArray[np.bool_], policy: DefectPolicy) -> NDArray[np.bool_]:
    """Which minutes lie in a pause [minutes, symbols]; at most one a symbol, and none that would not end before the close."""
    minutes = len(close)
    halted = np.zeros(close.shape, dtype=np.bool_)
    last_trigger = minutes - policy.halt_minutes - 2
    if last_trigger <= WINDOW_MINUTES:
        return halted
    move = np.zeros(close.shape)
    move[WINDOW_MINUTES:] = np.abs(close[WINDOW_MINUTES:] / close[:-WINDOW_MINUTES] - 1.0)
    move = np.nan_to_num(move[: last_trigger + 1])
    minute = np.arange(last_trigger + 1)
    wide = (minute < WIDE_OPENING_MINUTES) | (minute >= minutes - WIDE_CLOSING_MINUTES)
    over = move > (policy.halt_move_fraction * np.where(wide, 2.0, 1.0))[:, None]
    limit = over.any(axis=0)
    # News halts before the wildest five minutes, so that the pause hides them and the reopening jumps by them.
    wildest = np.maximum(move.argmax(axis=0) - WINDOW_MINUTES, 0)
    trigger = np.where(limit, over.argmax(axis=0), wildest)
    for column in np.flatnonzero(limit | (news & (move.max(axis=0) > 0.0))).tolist():
        start = int(trigger[column]) + 1
        halted[start : start + policy.halt_minutes, column] = True
    return halted


def _without_trading(bars: SessionBars, halted: NDArray[np.bool_]) -> SessionBars:
    """Paused minutes hold no bar; what would have traded then trades in the minute of the reopening."""
    if not halted.any():
        return bars
    waiting = np.where(halted, bars.volume, 0.0).sum(axis=0)
    reopening = np.zeros_like(halted)
    reopening[1:] = halted[:-1] & ~halted[1:]
    return replace(
        bars,
        open=np.where(halted, np.nan, bars.open),
        high=np.where(halted, np.nan, bars.high),
        low=np.where(halted, np.nan, bars.low),
        close=np.where(halted, np.nan, bars.close),
        volume=np.where(halted, np.nan, bars.volume + np.where(reopening, waiting, 0.0)),
        quality=np.where(halted, _HALTED, bars.quality),
    )
