"""Evidence on a challenger comes from what was decided, traded by somebody, and not seen in training."""

import shutil
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.adapters.models import packages

from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import MODEL, write_package
from finagent.adapters.models.registry_files import VERSIONS, RegistryFiles
from finagent.bootstrap.models import _decided_health
from finagent.domain.gap import SIMULATED, Direction, FeatureVector, GapCandidate, GapFacts
from finagent.quant.evaluation.labels import Barriers
from finagent.quant.evaluation.promotion import Gate
from finagent.quant.features.catalogue import CANDIDATE
from finagent.services.models.review import Decided, ReviewPolicy, decided_since
from finagent.settings import load_settings

POLICY = ReviewPolicy(Gate(), Barriers(0.5, 0.5, 0.001), 0.35, 10)
RANGE = 2.0  # natr_14 in percent: the barriers stand 1 % from the entry
LAST = 100.0


async def store(desk: Any, run: str, symbol: str, direction: Direction = Direction.UP, **vector: Any) -> GapCandidate:
    """A candidate at 100.00 with a whole row of features, five minutes into the session."""
    now = desk.clock.now()
    facts = GapFacts(0.04, 96.0, LAST, LAST, LAST, LAST, 2e6, 2.0, 9e8, 5)
    candidate = GapCandidate(f"dec-{symbol}", run, symbol, desk.session.date, direction, f"trace-{symbol}", now, facts)
    values = np.zeros(len(CANDIDATE.names))
    values[CANDIDATE.columns["natr_14"]] = RANGE
    told = {"data_spec_hash": CANDIDATE.hash, "values": tuple(values.tolist()), "quality": "OK"} | vector
    await desk.commit(candidate, FeatureVector(candidate.decision_id, candidate.as_of, candidate.as_of, **told))
    return candidate


@pytest.fixture
async def run(desk: Any) -> str:
    fired: str = await desk.run()
    return fired


async def decided(desk: Any, market: Any, after: date | None = None) -> Decided:
    return await decided_since(desk.reads, market.sessions(), market.session_bars, after, POLICY)


def moves(market: Any, symbol: str, minute: int, price: float) -> None:
    """From that minute on the symbol stands there."""
    column = market.symbols.index(symbol)
    for array in (market.bars.open, market.bars.high, market.bars.low, market.bars.close):
        array[minute:, column] = price


async def test_a_win_is_the_way_of_the_gap_first(desk: Any, market: Any, run: str) -> None:
    await store(desk, run, "AAPL")
    await store(desk, run, "GOOG", Direction.DOWN)
    await store(desk, run, "IBM")
    moves(market, "AAPL", 100, 101.5)
    moves(market, "GOOG", 100, 98.5)
    moves(market, "IBM", 100, 98.0)
    found = await decided(desk, market)
    assert found.left_out == {}
    assert found.rows.won.tolist() == [True, True, False]
    assert found.rows.net_return == pytest.approx([0.009, 0.009, -0.011])
    assert set(found.rows.days.tolist()) == {desk.session.date.toordinal()}


async def test_only_what_came_after_the_scan_and_before_flat_decides(desk: Any, market: Any, run: str) -> None:
    await store(desk, run, "AAPL")
    column = market.symbols.index("AAPL")
    market.bars.high[4, column], market.bars.close[4, column] = 105.0, 100.0  # the last minute that the scan saw
    moves(market, "AAPL", desk.session.minutes - 10, 105.0)  # everything is out by then
    found = await decided(desk, market)
    assert found.rows.won.tolist() == [False]
    assert found.rows.net_return == pytest.approx([-0.001])


async def test_what_nobody_traded_is_no_evidence(desk: Any, market: Any, run: str) -> None:
    await store(desk, run, "AAPL", quality=f"{SIMULATED}, 3 unknown")
    await store(desk, run, "GOOG", data_spec_hash="0123456789abcdef")
    await store(desk, run, "IBM", values=tuple(np.full(len(CANDIDATE.names), np.nan).tolist()))
    await store(desk, run, "MSFT")
    market.bars.quality[:, market.symbols.index("MSFT")] = 3
    await store(desk, run, "GONE")
    found = await decided(desk, market)
    assert len(found.rows.won) == 0
    assert found.left_out == {
        "its minutes are simulated: nobody traded so": 1,
        f"its features are of data spec 0123456789abcdef, not {CANDIDATE.hash}": 1,
        "no sound price or range to label it with": 3,
    }
    market.bars = replace(market.bars, simulated=True)
    assert (await decided(desk, market)).left_out["its minutes are simulated: nobody traded so"] == 4


@pytest.mark.parametrize("harm", ["none", "bytes", "manifest", "gone"])
async def test_a_champion_is_weighed_also_where_the_one_before_it_is_damaged(
    desk: Any, market: Any, run: str, tmp_path: Path, harm: str
) -> None:
    """One breached guard is enough, whatever became of the way back."""
    await store(desk, run, "AAPL")
    settings = load_settings(overrides=("model.review.predictions_min=1", "model.review.days_min=1"))
    registry = RegistryFiles(tmp_path / "models", lambda package: OnnxPredictor(package, CANDIDATE))
    for version in "12":
        write_package(tmp_path / version, packages.logistic_package(version=version))
        registry.register(tmp_path / version)
    damaged = tmp_path / "models" / VERSIONS / "gap-logistic@1"
    if harm == "gone":
        shutil.rmtree(damaged)
    elif harm != "none":
        (damaged / {"bytes": MODEL, "manifest": "manifest.json"}[harm]).write_bytes(b"")

    closes_at: datetime = desk.session.closes_at
    found = await _decided_health(settings, registry, desk.reads, market, lambda: closes_at, "gap-logistic@2", "gap-logistic@1")

    assert found.calibration_error is not None
    assert found.drawdown_fraction is not None
    assert (found.evidence_against is None) is (harm != "none")


async def test_what_a_model_was_trained_on_is_no_evidence(desk: Any, market: Any, run: str) -> None:
    await store(desk, run, "AAPL")
    day = desk.session.date
    assert (await decided(desk, market, day)).left_out == {"the session was there when one of the models was trained": 1}
    assert len((await decided(desk, market, day - timedelta(days=1))).rows.won) == 1
