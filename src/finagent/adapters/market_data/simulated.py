"""A seeded market of any number of symbols: daily bars of the simulated process, minutes by the bridge, defects at set rates.

    python -m finagent.adapters.market_data.simulated --table

prints how near its figures come to those of real shares.
"""

import argparse
import sys
from dataclasses import dataclass
from datetime import date

import numpy as np

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridge import MinuteBridge
from finagent.adapters.market_data.bridged_market import BridgedMarket, BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import DailyPanel, KnownPanels
from finagent.adapters.market_data.simulated_daily import DailyProcessPolicy, SimulatedDays, simulated_days
from finagent.adapters.market_data.simulated_defects import DefectPolicy, SimulatedDefects
from finagent.adapters.market_data.simulated_figures import Figure, figures, table
from finagent.domain.bars import BAR_COLUMNS
from finagent.domain.errors import BadInput
from finagent.domain.identity import digest
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.market_data import MarketDataPort

BLOCK_SYMBOLS = 128
TABLE_SYMBOLS, TABLE_SESSIONS, TABLE_SEED = 400, 750, 1
TABLE_ORIGIN = date(2020, 1, 2)


@dataclass(frozen=True, slots=True)
class SimulatedPolicy:
    """`origin`: the first session that the process knows; a window starts at least `history_sessions` later."""

    origin: date
    history_sessions: int
    market: BridgedMarketPolicy
    gaps: GapPolicy
    daily: DailyProcessPolicy
    defects: DefectPolicy


def simulated_market(
    calendar: ExchangeCalendar, *, symbols_count: int, seed: int, first: date, last: date, policy: SimulatedPolicy
) -> MarketDataPort:
    """The market of `S0001`, `S0002`, ... from `first` to `last`; a symbol's bars depend on seed, symbol and date alone."""
    if symbols_count < 1:
        raise BadInput(f"a simulated market needs at least one symbol, not {symbols_count}")
    if last < first or first < policy.origin:
        raise BadInput(f"the window from {first} to {last} must not end before it starts, nor start before {policy.origin}")
    sessions = calendar.sessions(policy.origin, last)
    window = [row for row, session in enumerate(sessions) if session.date >= first]
    forced = policy.daily.clustered_gap_date
    if not window:
        raise BadInput(f"no session from {first} to {last}")
    if window[0] < policy.history_sessions:
        earliest = sessions[-1].date if policy.history_sessions >= len(sessions) else sessions[policy.history_sessions].date
        raise BadInput(f"a window from {first} has under {policy.history_sessions} sessions of history: start after {earliest}")
    if forced is not None and forced not in {sessions[row].date for row in window}:
        raise BadInput(f"clustered_gap_date {forced} is not a session from {first} to {last}")
    symbols = tuple(f"S{number:04d}" for number in range(1, symbols_count + 1))
    start = window[0] - policy.history_sessions
    days = _days_from(start, seed, symbols, tuple(session.date for session in sessions), policy.daily)
    columns = {name: getattr(days, name) for name in BAR_COLUMNS}
    return BridgedMarket(
        KnownPanels.fixed(DailyPanel.checked(symbols, sessions[start:], columns, days.split)),
        MinuteBridge(seed),
        first=first,
        last=last,
        source_id=f"simulated:{symbols_count}:{first}:{last}:seed={seed}:policy={digest(repr(policy), length=16)}",
        notice="simulated market",
        policy=policy.market,
        defects=SimulatedDefects(seed, policy.defects, policy.gaps),
    )


def _days_from(
    start: int, seed: int, symbols: tuple[str, ...], dates: tuple[date, ...], policy: DailyProcessPolicy
) -> SimulatedDays:
    """The days from row `start` on, made a block of symbols at a time: the days from the origin to it need not fit in memory."""
    blocks = [symbols[place : place + BLOCK_SYMBOLS] for place in range(0, len(symbols), BLOCK_SYMBOLS)]
    parts = [[column[start:].copy() for column in simulated_days(seed, block, dates, policy)] for block in blocks]
    return SimulatedDays(*(np.hstack(column) for column in zip(*parts, strict=True)))


def measured(seed: int, symbols_count: int, sessions_count: int) -> tuple[Figure, ...]:
    """The figures of a clean panel (no dirt: a vendor's slips are no property of the market)."""
    clean = DailyProcessPolicy(
        splits_per_symbol_year=0.05,
        bad_ticks_per_bar=0.0,
        null_bars_per_bar=0.0,
        clustered_gap_date=None,
        clustered_gap_fraction=0.0,
    )
    sessions = NewYorkCalendar().sessions(TABLE_ORIGIN, TABLE_ORIGIN.replace(year=TABLE_ORIGIN.year + 1 + sessions_count // 250))
    symbols = tuple(f"S{number:04d}" for number in range(1, symbols_count + 1))
    dates = tuple(session.date for session in sessions[: sessions_count + 1])
    return figures(simulated_days(seed, symbols, dates, clean))


def main(arguments: list[str]) -> int:
    """Print the figures of the simulated market beside the real ones (exit 3 when one lies outside its tolerance)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--table", action="store_true", required=True)
    parser.add_argument("--seed", type=int, default=TABLE_SEED)
    parser.add_argument("--symbols", type=int, default=TABLE_SYMBOLS)
    parser.add_argument("--sessions", type=int, default=TABLE_SESSIONS)
    options = parser.parse_args(arguments)
    found = measured(options.seed, options.symbols, options.sessions)
    print(f"{options.symbols} symbols, {options.sessions} sessions, seed {options.seed}")
    print(table(found))
    return 0 if all(figure.within for figure in found) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
