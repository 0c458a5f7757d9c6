"""Past gaps are rows as they were known at their open, and their labels are of that day alone."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pytest

from finagent.bootstrap import build_daily_features, open_market
from finagent.cli.options import settings_in_force
from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.regime import Regime, RegimeProbabilities
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.regime.volatility_trend import VolatilityTrend
from finagent.services.market_data.past_opens import AT_THE_OPEN
from finagent.services.models.past_candidates import PastCandidatePolicy, PastCandidates, past_candidates

WINDOW = ["market_data.first_session=2008-09-02", "market_data.last_session=2008-10-31"]


@dataclass(frozen=True)
class LastMove:
    """A market that rose last is BULL, one that fell is BEAR."""

    def probabilities(self, closes: Floats) -> Floats:
        moves = np.diff(closes, prepend=closes[:1])
        told = np.zeros((len(closes), 3))
        told[:, Regime.BULL], told[:, Regime.BEAR], told[:, Regime.SIDEWAYS] = moves > 0.0, moves < 0.0, moves == 0.0
        return told


REGIMES = VolatilityTrend()


async def found(
    policy: PastCandidatePolicy, *, count: int | None = None, regimes: RegimeProbabilities = REGIMES
) -> PastCandidates:
    settings = settings_in_force(None, WINDOW)
    async with open_market(settings) as market:
        sessions = market.sessions()[:count]
        return await past_candidates(market, sessions, build_daily_features(settings, market), regimes, policy)


@pytest.fixture(scope="module")
def autumn() -> PastCandidates:
    return asyncio.run(found(PastCandidatePolicy()))


def test_each_row_is_a_gap_that_counts_with_the_label_of_its_day(autumn: PastCandidates) -> None:
    rows, policy = autumn.rows, PastCandidatePolicy()
    gap = rows.inputs[:, 0, AT_THE_OPEN.columns["gap"]].astype(np.float64)
    atr = rows.inputs[:, 0, AT_THE_OPEN.columns["natr_14"]].astype(np.float64) / 100.0
    assert len(rows) > 60
    assert (np.abs(gap) >= np.maximum(policy.gap_fraction_min, policy.gap_atr_min * atr) * (1 - 1e-6)).all()
    assert np.array_equal(rows.starts, rows.ends)
    assert set(rows.outcomes.tolist()) == {Outcome.DOWN, Outcome.FLAT, Outcome.UP}
    np.testing.assert_allclose(rows.targets_atr[rows.outcomes == Outcome.UP], 0.5)
    np.testing.assert_allclose(rows.targets_atr[rows.outcomes == Outcome.DOWN], -0.5)
    assert rows.starts.max() == len(autumn.sessions) - 1


async def test_no_row_depends_on_a_later_session(autumn: PastCandidates) -> None:
    fewer = await found(PastCandidatePolicy(), count=25)
    early = autumn.rows.take(np.flatnonzero(autumn.rows.starts < 24))
    for name in ("inputs", "outcomes", "targets_atr", "starts", "regimes"):
        assert np.array_equal(getattr(fewer.rows, name), getattr(early, name), equal_nan=True), name


async def test_the_regime_is_that_of_the_close_before() -> None:
    rows = (await found(PastCandidatePolicy(), regimes=LastMove())).rows
    later = rows.take(np.flatnonzero(rows.starts > 0))
    moved = later.inputs[:, 0, AT_THE_OPEN.columns["market_return_1"]]
    assert np.array_equal(later.regimes[:, Regime.BULL] == 1.0, moved > 0.0)
    assert np.array_equal(later.regimes[:, Regime.BEAR] == 1.0, moved < 0.0)


async def test_a_larger_gap_is_asked_for_and_a_window_without_one_is_refused(autumn: PastCandidates) -> None:
    larger = await found(PastCandidatePolicy(gap_fraction_min=0.03))
    assert 0 < len(larger.rows) < len(autumn.rows)
    with pytest.raises(BadInput, match="no gap with a label from 2008-09-02"):
        await found(PastCandidatePolicy(gap_fraction_min=5.0))
    with pytest.raises(BadInput, match="two are needed"):
        await found(PastCandidatePolicy(), count=1)
    with pytest.raises(BadInput, match="limits from 0"):
        replace(PastCandidatePolicy(), gap_atr_min=float("nan"))
