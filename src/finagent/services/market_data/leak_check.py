"""The whole catalogue, and the model behind it, on real data of which everything that was not known is replaced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import BAR_COLUMNS, BarBlock, DailyHistory, Floats, PriorFacts, SessionBars, no_quotes
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.predictor import Predictor
from finagent.domain.sessions import Session
from finagent.quant.features.bar_features import BarFeatures, over_history
from finagent.quant.features.bar_soundness import sound_bars
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.candidate_features import candidate_rows
from finagent.quant.features.catalogue import BARS, CANDIDATE
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanRules, scan
from finagent.quant.features.lookahead import Columns, Corruption, Leak, changed, decision_rows, differs, find_leaks
from finagent.quant.features.news_features import no_news
from finagent.services.market_data.daily_features import DailyFeatures, anchor
from finagent.services.market_data.feed import Feed

FeedAt = Callable[[datetime, Corruption | None, frozenset[str]], Feed]

SYMBOLS_MAX, SOURCE_MINUTES_MAX = 3, 3
SCORE = "score"
TESTED_DAYS = 60  # after the longest warm-up; a history that is too short for it is tested in its second half


@dataclass(frozen=True, slots=True)
class LeakReport:
    """`decisions` were tested of `features` and the score; `untested` are those that were known at none of them. `symbols` and
    `session` are those of the data."""

    session: Session
    symbols: tuple[str, ...]
    features: int
    decisions: int
    untested: tuple[str, ...]
    leaks: tuple[Leak, ...]


async def check_catalogue(
    market: MarketDataPort,
    session: Session,
    predictor: Predictor,
    points: int,
    days: DailyFeatures,
    tested: Callable[[], None] = lambda: None,
) -> LeakReport:
    """Of days: each feature at the close. Of the session: each feature of a candidate and its score, minute by minute. `tested`
    is called after each decision, of which there are about twice `points`. BadInput for data that are too few."""
    history = await market.daily_history(session, anchor(session))
    places = tested_places(market, days)
    longest = max(feature.warmup for feature in BARS.features)
    past = {name: getattr(history, name)[-longest - TESTED_DAYS :, places] for name in BAR_COLUMNS}
    rows = decision_rows(past, min(longest, len(history.sessions) // 2), points)
    index = None if days.index is None else places.index(days.index)
    of_days = partial(_of_days, hole_max=days.hole_sessions_max, index=index)
    leaks = find_leaks(of_days, past, BARS.names, rows, frozenset(BAR_COLUMNS), tested=tested)

    minutes = tuple(range(1, session.minutes + 1))
    prior, bars = await market.prior_facts(session, minutes), await market.session_bars(session)
    columns = {name: getattr(bars, name) for name in BAR_COLUMNS}
    chosen = decision_rows(columns, 1, points)
    names = (*CANDIDATE.names, SCORE)
    path = _ScanPath(prior, bars, await days.before(session), predictor, chosen)
    leaks += find_leaks(path.compute, columns, names, chosen, frozenset(BAR_COLUMNS), tested=tested)
    symbols = tuple(market.symbols[place] for place in places)
    known = dict(zip(names, _known(path.compute(columns)[list(chosen)]), strict=True))
    of_past = _known(of_days(past)[list(rows)])
    known |= {name: known[name] or there for name, there in zip(BARS.names, of_past, strict=True)}
    untested = tuple(name for name, there in known.items() if not there)
    return LeakReport(session, symbols, len(known) - len(untested), len(rows) + len(chosen), untested, leaks)


def tested_places(market: MarketDataPort, days: DailyFeatures) -> list[int]:
    """Columns of a few symbols, with that of the index, where there is one."""
    first = range(min(SYMBOLS_MAX, len(market.symbols)))
    return sorted({*first} if days.index is None else {*first, days.index})


def everybody(session: Session, symbols: int) -> ScanRules:
    """Rules of a scan that turn nobody away."""
    return ScanRules(0.0, 0.0, 0.0, 0.0, session.minutes, session.minutes, symbols)


def source_minutes(session: Session, count: int) -> tuple[int, ...]:
    """A few minutes of a session, at which what its sources say is tested: the first, and some in between."""
    return tuple(sorted({1, *np.linspace(5, session.minutes - 1, min(count, SOURCE_MINUTES_MAX)).astype(int).tolist()}))


async def tested_history(market: MarketDataPort, session: Session, days: DailyFeatures) -> DailyHistory:
    """The days of a few symbols up to the end of the window, as known then."""
    places = tested_places(market, days)
    known = await market.daily_history(market.sessions()[-1], anchor(session))
    columns = {name: getattr(known, name)[:, places] for name in (*BAR_COLUMNS, "split")}
    return DailyHistory(known.sessions, tuple(known.symbols[place] for place in places), **columns)


async def check_sources(
    feed_at: FeedAt, columns: Sequence[str], session: Session, minutes: Sequence[int], tested: Callable[[], None] = lambda: None
) -> tuple[Leak, ...]:
    """The first leak of each feature of a candidate through what its sources say, at scans that many minutes after the open.
    `feed_at` makes a feed whose clock stands at an instant, over sources in which those columns are replaced, by that corruption,
    wherever they are known later; `columns` are all that can be replaced. The row of a leak is its minute."""
    found: dict[str, Leak] = {}
    for minute in minutes:
        at = session.instant_of(minute)
        told = await _rows_at(feed_at(at, None, frozenset()), session, minute)
        for corruption in Corruption:
            again = await _rows_at(feed_at(at, corruption, frozenset(columns)), session, minute)
            for place in changed(told, again):
                name = CANDIDATE.names[place]
                if name not in found:
                    symbol = int(np.argmax(differs(told[:, place], again[:, place])))
                    before, after = float(told[symbol, place]), float(again[symbol, place])
                    found[name] = Leak(name, "", minute, corruption, before, after)
            found = await _named(found, feed_at, columns, session, told)
        tested()
    return tuple(found.values())


async def _named(
    found: dict[str, Leak], feed_at: FeedAt, columns: Sequence[str], session: Session, told: Floats
) -> dict[str, Leak]:
    """With the columns that change the value when they alone are replaced, of those leaks that have none yet."""
    nameless = {name: leak for name, leak in found.items() if not leak.column}
    guilty: dict[str, list[str]] = {name: [] for name in nameless}
    for column in columns if nameless else ():
        leak = next(iter(nameless.values()))
        feed = feed_at(session.instant_of(leak.row), leak.corruption, frozenset({column}))
        places = changed(told, await _rows_at(feed, session, leak.row))
        for name in nameless:
            if CANDIDATE.columns[name] in places:
                guilty[name].append(column)
    mended = {
        name: replace(leak, column=", ".join(guilty[name]) or "several columns together") for name, leak in nameless.items()
    }
    return found | mended


async def _rows_at(feed: Feed, session: Session, minute: int) -> Floats:
    """[symbols, features] of CANDIDATE, NaN for who is none."""
    await feed.open_session(session, (minute,))
    feed.advance()
    found = feed.scan()
    rows = np.full((len(feed.symbols), len(CANDIDATE.features)), np.nan)
    rows[found.ranked.columns] = await feed.candidate_rows(found)
    return rows


def _known(values: Floats) -> list[bool]:
    """Of each feature of [rows, symbols, features], whether it was known at all."""
    there: NDArray[np.bool_] = np.asarray(np.isfinite(values).any(axis=(0, 1)))
    return [bool(each) for each in there]


def _of_days(columns: Columns, hole_max: int, index: int | None) -> Floats:
    open_, high, low, close, volume = (columns[name] for name in BAR_COLUMNS)
    usable = sound_bars(open_, high, low, close, volume)
    bars = (BarRows(*row) for row in zip(open_, high, low, close, volume, usable, strict=True))
    return over_history(BarFeatures(open_.shape[1], index=index, hole_bars_max=hole_max), bars)


@dataclass(frozen=True, slots=True)
class _ScanPath:
    """From minute bars through the scan to the row of a candidate and its score, for every symbol of the universe: under rules
    that turn nobody away."""

    prior: PriorFacts
    bars: SessionBars
    days: Floats
    predictor: Predictor
    rows: Sequence[int]

    def compute(self, columns: Columns) -> Floats:
        symbols, session = self.bars.symbols, self.bars.session
        rules = everybody(session, len(symbols))
        state = FeatureState(symbols)
        state.reset(session)
        values = np.full((session.minutes, len(symbols), len(CANDIDATE.features) + 1), np.nan)
        wanted = [CANDIDATE.columns[name] for name in self.predictor.spec.names]
        for row in range(session.minutes):
            numbers = {name: columns[name][row] for name in BAR_COLUMNS}
            state.update(BarBlock(session.instant_of(row + 1), **numbers, quality=self.bars.quality[row]))
            if row in self.rows:
                found = scan(state, self.prior, row + 1, rules)
                unread = no_news(len(found.ranked.columns))
                told = candidate_rows(found, session, self.days, no_quotes(len(symbols)), unread)
                values[row, found.ranked.columns, :-1] = told
                values[row, found.ranked.columns, -1] = self.predictor.predict(told[:, wanted]).scores
        return values
