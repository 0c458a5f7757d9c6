"""The row of a candidate: what is known of its session, side by side with its days."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from finagent.domain.bars import BarBlock, Floats, PriorFacts, Quotes, no_quotes
from finagent.domain.data_spec import Group
from finagent.domain.sessions import Session
from finagent.quant.features.candidate_features import candidate_rows
from finagent.quant.features.catalogue import BARS, CANDIDATE, NEWS
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanResult, ScanRules, scan
from finagent.quant.features.news_features import no_news

OPENS_AT = datetime(2008, 10, 9, 13, 30, tzinfo=UTC)
SESSION = Session(date(2008, 10, 9), OPENS_AT, OPENS_AT + timedelta(minutes=390))
SYMBOLS = ("UP", "DOWN", "FLAT")
Bars = tuple[Floats, Floats, Floats, Floats, Floats]


def scanned(*minutes: Bars) -> tuple[ScanResult, FeatureState]:
    """After bars (open, high, low, close, volume) of one minute each, against a previous close of 100 and 1,000 shares."""
    state = FeatureState(SYMBOLS)
    state.reset(SESSION)
    for number, each in enumerate(minutes, 1):
        state.update(BarBlock(SESSION.instant_of(number), *each, quality=np.zeros(3, dtype=np.uint8)))
    minute = len(minutes)
    prior = PriorFacts(SESSION, SYMBOLS, np.full(3, 100.0), np.full(3, 1e9), (minute,), np.full((1, 3), 1000.0), {})
    return scan(state, prior, minute, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50)), state


def rows(
    found: ScanResult, _state: FeatureState, days: Floats, quotes: Quotes | None = None, news: Floats | None = None
) -> dict[str, dict[str, float]]:
    names = [found.symbols[column] for column in found.ranked.columns]
    quotes, news = quotes or no_quotes(3), no_news(len(names)) if news is None else news
    table = candidate_rows(found, SESSION, days, quotes, news).tolist()
    return {name: dict(zip(CANDIDATE.names, row, strict=True)) for name, row in zip(names, table, strict=True)}


def days() -> Floats:
    values = np.zeros(BARS.shape(3))
    values[:, BARS.columns["natr_14"]] = (4.0, 5.0, 6.0)
    values[:, BARS.columns["overnight_volatility_20"]] = (0.01, 0.02, 0.03)
    return values


def bars(up: tuple[float, ...], down: tuple[float, ...], flat: tuple[float, ...]) -> Bars:
    open_, high, low, close, volume = np.array([up, down, flat]).T
    return open_, high, low, close, volume


QUIET = (100.0, 101.0, 99.0, 100.0, 10.0)
FIRST = bars((104.0, 106.0, 103.0, 105.0, 2000.0), (96.0, 97.0, 94.0, 95.0, 3000.0), QUIET)
SECOND = bars((105.0, 107.0, 101.0, 102.0, 1000.0), (95.0, 98.0, 95.0, 97.0, 1000.0), QUIET)


def test_a_gap_and_its_session_by_hand() -> None:
    told = rows(*scanned(FIRST, SECOND), days())
    up, down = told["UP"], told["DOWN"]
    assert up["gap"] == pytest.approx(0.04)
    assert down["gap"] == pytest.approx(-0.04)
    assert down["gap_magnitude"] == pytest.approx(0.04)
    assert up["gap_over_natr"] == pytest.approx(1.0)
    assert down["gap_z"] == pytest.approx(-2.0)
    assert (up["gap_rank"], down["gap_rank"]) == (1.0, 0.0)
    assert up["log_relative_volume"] == pytest.approx(np.log(3.0))
    assert up["position_in_range"] == pytest.approx((102 - 101) / (107 - 101))
    assert down["position_in_range"] == pytest.approx(1 - (97 - 94) / (98 - 94))
    assert up["session_return"] == pytest.approx(102 / 104 - 1)
    assert up["session_range"] == pytest.approx(0.06)
    assert up["session_range_over_natr"] == pytest.approx(1.5)
    assert down["day_return"] == pytest.approx(-0.03)
    assert up["gap_filled"] == pytest.approx((104 - 101) / 4)
    assert down["gap_filled"] == pytest.approx((98 - 96) / 4)
    vwap = (2000 * (106 + 103 + 105) / 3 + 1000 * (107 + 101 + 102) / 3) / 3000
    assert up["session_vwap_distance"] == pytest.approx(102 / vwap - 1)
    assert (up["price_age"], up["minutes_since_open"], up["minutes_to_close"], up["weekday"]) == (0.0, 2.0, 388.0, 3.0)


def test_a_range_of_zero_counts_as_its_middle() -> None:
    told = rows(*scanned(bars((104.0,) * 4 + (2000.0,), (96.0,) * 4 + (3000.0,), QUIET)), days())
    assert told["UP"]["position_in_range"] == told["DOWN"]["position_in_range"] == 0.5


def test_without_days_only_what_is_made_of_them_is_unknown() -> None:
    told = rows(*scanned(FIRST), np.full(BARS.shape(3), np.nan))["UP"]
    unknown = {name for name, value in told.items() if np.isnan(value)}
    of_others = {feature.name for feature in CANDIDATE.features if feature.group in (Group.QUOTES, Group.NEWS)}
    assert unknown == {*BARS.names, *of_others, "gap_over_natr", "gap_z", "session_range_over_natr"}


def quoted(bid: float, bid_size: float, ask: float, ask_size: float, age_seconds: float) -> dict[str, float]:
    """What the row of UP, whose price is 105, says of that quote."""
    quotes = Quotes(*np.array([[bid, bid_size, ask, ask_size, age_seconds]] * 3).T)
    told = rows(*scanned(FIRST, SECOND, FIRST), days(), quotes)["UP"]
    return {name: told[name] for name in ("spread_bps", "quote_imbalance", "microprice_bps", "price_to_mid_bps", "quote_age")}


def test_a_quote_by_hand() -> None:
    told = quoted(104.9, 300.0, 105.3, 100.0, 12.0)
    assert told["spread_bps"] == pytest.approx(0.4 / 105.1 * 1e4)
    assert told["quote_imbalance"] == pytest.approx(0.5)
    assert told["microprice_bps"] == pytest.approx(((105.3 * 3 + 104.9) / 4 / 105.1 - 1) * 1e4)
    assert told["price_to_mid_bps"] == pytest.approx((105.0 / 105.1 - 1) * 1e4)
    assert told["quote_age"] == 12.0


def test_a_quote_without_sizes_is_balanced() -> None:
    told = quoted(104.9, 0.0, 105.3, 0.0, 12.0)
    assert (told["quote_imbalance"], told["microprice_bps"]) == (0.0, 0.0)


def test_unknown_sizes_are_not_balanced() -> None:
    told = quoted(104.9, np.nan, 105.3, 100.0, 12.0)
    assert np.isnan([told["quote_imbalance"], told["microprice_bps"]]).all()
    assert told["spread_bps"] > 0


@pytest.mark.parametrize(
    ("bid", "ask", "age_seconds"),
    [
        (105.3, 104.9, 1.0),  # crossed
        (0.0, 105.3, 1.0),  # no bid
        (104.9, np.inf, 1.0),
        (104.9, np.nan, 1.0),
        (104.9, 105.3, 181.0),  # three minutes after the open: from before it
        (104.9, 105.3, np.nan),
    ],
)
def test_what_is_no_quote_is_unknown(bid: float, ask: float, age_seconds: float) -> None:
    assert np.isnan(list(quoted(bid, 1.0, ask, 1.0, age_seconds).values())).all()


def test_news_stand_in_the_row_of_their_candidate() -> None:
    news = np.arange(2.0 * len(NEWS)).reshape(2, -1)
    found = scanned(FIRST)
    told = rows(*found, days(), news=news)
    first = found[0].symbols[found[0].ranked.columns[0]]
    assert [told[first][name] for name in ("news_count_24h", "news_age")] == [0.0, 1.0]
    assert {told[name]["news_count_24h"] for name in told} == {0.0, 4.0}


def test_bars_that_come_after_the_scan_change_nothing() -> None:
    """The row may be made a little later: on wall time the days have to be waited for."""
    found, state = scanned(FIRST)
    told = candidate_rows(found, SESSION, days(), no_quotes(3), no_news(2))
    state.update(BarBlock(SESSION.instant_of(2), *SECOND, quality=np.zeros(3, dtype=np.uint8)))
    np.testing.assert_array_equal(candidate_rows(found, SESSION, days(), no_quotes(3), no_news(2)), told)
