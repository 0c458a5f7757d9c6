"""Past gaps to learn from: what was known at each open, and what became of the day."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.evaluation.labels import Barriers, Outcome, Path, label_days
from finagent.quant.features.candidate_features import gap_features
from finagent.quant.features.catalogue import BARS, CANDIDATE, GAP
from finagent.services.market_data.daily_features import DailyFeatures

AT_THE_OPEN = CANDIDATE.select("gap at the open", (*CANDIDATE.names[: len(GAP)], *BARS.names))
PERCENT = 100.0
_NATR = BARS.columns["natr_14"]


def index_closes(history: DailyHistory, index: int | None) -> Floats:
    """A level of the market at each close [sessions]: that of the column `index`, or what the mean return of all adds up to; NaN
    where nobody has one."""
    closes = history.close * np.cumprod(history.split, axis=0)
    if index is not None:
        return np.asarray(closes[:, index])
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = np.log(closes[1:] / closes[:-1])
    known = np.isfinite(moves)
    mean = np.where(known, moves, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.exp(np.concatenate(([0.0], np.cumsum(mean))))


@dataclass(frozen=True, slots=True)
class GapPastPolicy:
    """A row is a gap of at least `gap_fraction_min` and of `gap_natr_min` times natr_14, of a symbol of that price and mean
    dollar volume before the open."""

    gap_fraction_min: float
    gap_natr_min: float
    price_usd_min: float
    dollar_volume_usd_min: float
    barriers: Barriers


@dataclass(frozen=True, slots=True)
class GapPast:
    """`features` [rows, features] of AT_THE_OPEN; `outcome` [rows] as Outcome; `net_return` [rows] of a trade the way of the gap
    from the open, as a fraction; `target_atr` [rows] of one that buys, as labels.Labels has it; `gap` [rows]; `days` [rows] the
    place of the session in `sessions`, ascending."""

    sessions: tuple[Session, ...]
    features: Floats
    outcome: NDArray[np.int64]
    net_return: Floats
    target_atr: Floats
    gap: Floats
    days: NDArray[np.int64]

    @property
    def won(self) -> NDArray[np.bool_]:
        """[rows]: the price went the way of the gap first."""
        return np.asarray(self.outcome == np.where(self.gap > 0.0, Outcome.UP, Outcome.DOWN))


async def gap_past(
    market: MarketDataPort,
    sessions: Sequence[Session],
    days: DailyFeatures,
    policy: GapPastPolicy,
    done: Callable[[], None] = lambda: None,
) -> GapPast:
    """Every gap of all but the last of the sessions, with its label by the bar of its day; `done` is called after each. BadInput
    where there is none."""
    found = []
    for number, (session, following) in enumerate(pairwise(sessions)):
        found.append(await _of_session(market, session, following, days, policy, number))
        done()
    rows = [np.concatenate(columns) for columns in zip(*found, strict=True)] if found else []
    if not rows or not len(rows[0]):
        raise BadInput(f"no gap to learn from in {len(sessions)} sessions: a longer window or a smaller gap is needed")
    features, outcome, net_return, target, gap, place = rows
    return GapPast(tuple(sessions[:-1]), features, outcome.astype(np.int64), net_return, target, gap, place.astype(np.int64))


async def _of_session(
    market: MarketDataPort, session: Session, following: Session, days: DailyFeatures, policy: GapPastPolicy, place: int
) -> tuple[Floats, ...]:
    prior, own = await market.prior_facts(session, ()), await market.daily_history(following, session.date)
    known = await days.before(session)
    if not own.sessions or own.sessions[0] != session.date:
        return np.empty((0, len(AT_THE_OPEN.names))), *(np.empty(0) for _ in range(5))
    open_, high, low, close = own.open[0], own.high[0], own.low[0], own.close[0]
    natr = known[:, _NATR] / PERCENT
    with np.errstate(all="ignore"):
        gap = open_ / prior.previous_close - 1.0
        wide = np.abs(gap) >= np.maximum(policy.gap_fraction_min, policy.gap_natr_min * natr)
        traded = (prior.previous_close >= policy.price_usd_min) & (prior.dollar_volume_mean >= policy.dollar_volume_usd_min)
    chosen = wide & traded & np.asarray([symbol not in prior.excluded for symbol in market.symbols])
    features = np.concatenate((gap_features(gap, known), known), axis=1)
    place_of = np.full(len(gap), place)
    labels = label_days(open_, Path(high, low, close), natr, place_of, policy.barriers)
    mine = label_days(open_, Path(high, low, close), natr, place_of, policy.barriers, np.where(gap > 0.0, 1.0, -1.0))
    rows = np.flatnonzero(chosen & labels.known)
    columns = (labels.outcome.astype(np.float64), mine.target_atr * natr, labels.target_atr, gap, place_of.astype(np.float64))
    return features[rows], *(column[rows] for column in columns)
