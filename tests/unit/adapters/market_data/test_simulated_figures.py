"""The simulated market has the figures of real shares: medians within 25 %, clustering within 40 %."""

import numpy as np
import pytest

from finagent.adapters.market_data.simulated import TABLE_SEED, main, measured
from finagent.adapters.market_data.simulated_daily import SimulatedDays
from finagent.adapters.market_data.simulated_figures import CLUSTERING_TOLERANCE, MEDIAN_TOLERANCE, figures, table

SYMBOLS, SESSIONS = 400, 750


@pytest.mark.statistics
def test_the_table_of_the_default_seed_is_within_every_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table"]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith(f"{SYMBOLS} symbols, {SESSIONS} sessions, seed {TABLE_SEED}\n")
    assert "OUTSIDE" not in printed
    assert len(printed.splitlines()) > 25


@pytest.mark.statistics
def test_the_figures_do_not_hang_on_the_seed() -> None:
    runs = [measured(seed, SYMBOLS, SESSIONS) for seed in (1, 2, 3, 4, 5)]

    for kinds in zip(*runs, strict=True):
        first = kinds[0]
        if first.tolerance is not None:
            assert first.tolerance in (MEDIAN_TOLERANCE, CLUSTERING_TOLERANCE)
            mean = float(np.mean([figure.value for figure in kinds]))
            assert abs(mean - first.target) <= first.tolerance * first.target, f"{first.name}: {mean} for {first.target}"


def test_independent_normal_moves_do_not_pass_for_a_market() -> None:
    chance = np.random.Generator(np.random.Philox(key=1))
    overnight, intraday = 0.0100 * chance.standard_normal((751, 100)), 0.0160 * chance.standard_normal((751, 100))
    close = 50.0 * np.exp(np.cumsum(overnight + intraday, axis=0))
    open_ = close * np.exp(-intraday)
    volume = 1e6 * np.exp(0.52 * chance.standard_normal((751, 100)))
    days = SimulatedDays(open_, np.maximum(open_, close), np.minimum(open_, close), close, volume, np.ones_like(close))

    found = {figure.name: figure for figure in figures(days)}

    assert found["daily sd of log return, %"].within
    assert found["overnight share of variance"].within
    for name in ("excess kurtosis, daily", "autocorrelation of |return|, lag 1", "autocorrelation of log volume, lag 1"):
        assert not found[name].within
    assert "OUTSIDE" in table(figures(days))
