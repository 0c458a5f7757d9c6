"""What an onlooker sees: each candidate and why, orders, fills and results, on a terminal and in a pipe."""

import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from finagent.cli.live_view import LiveView, PlainLines
from finagent.cli.narration import Happening, Narrator
from finagent.cli.result_table import print_result, recovery_text
from finagent.domain.effect import Effect, Set
from finagent.domain.orders import BrokerOrder, SendOutcome
from finagent.domain.trading_state import TradingState, TradingStateRecord
from finagent.services.progress import ProgressObserver, RecoveryInfo, StartInfo
from finagent.services.reporting.day_report import day_report

NOTICE = "real daily bars, simulated intraday path"


@pytest.fixture
def start(sessions: Any) -> StartInfo:
    return StartInfo(
        "replay", "sample:test", NOTICE, 5, sessions[0].date, sessions[-1].date, 2, 780, Decimal(100_000), 7, "led-1"
    )


@pytest.fixture
def narrator(ledger: Any) -> Narrator:
    made = Narrator()
    made.reads = ledger
    return made


def told(narrator: Narrator, records: list[Any]) -> list[Happening]:
    return list(narrator.tell(Effect(records=tuple(records))))


def test_every_candidate_has_its_reason(narrator: Narrator, ledger_records: list[Any]) -> None:
    """Taken, reduced, refused by the gate, refused before it, ended unfilled: each with the words why."""
    happenings = told(narrator, ledger_records)
    by_symbol = {(one.symbol, one.kind): one.text for one in happenings}

    assert by_symbol["GOOG", "taken"].startswith("reduced to 40 shares: SECTOR_EXPOSURE, limit 5")
    assert by_symbol["IBM", "refused"].startswith("RISK_DENIED: POSITION_COUNT")
    assert by_symbol["FB", "refused"] == "NO_TRADE: SHORT_SELLING: gap down, short selling is off"
    assert by_symbol["GOOG", "ended"].startswith("CANCELLED: entry not triggered")
    assert by_symbol["AAPL", "exit"] == "TIME +35.75 USD"
    assert by_symbol["GE", "near miss"].startswith("RELATIVE_VOLUME_BELOW_MINIMUM")
    assert sum(one.kind == "candidate" for one in happenings) == 7
    assert sum(one.kind == "fill" for one in happenings) == 9


def test_a_near_miss_is_told_once_a_session(narrator: Narrator, ledger_records: list[Any]) -> None:
    """Three scans a day would say the same thing three times."""
    assert sum(one.kind == "near miss" for one in [*told(narrator, ledger_records), *told(narrator, ledger_records)]) == 1


def test_an_unanswered_send_and_a_halt_are_told(narrator: Narrator, ledger: Any, sessions: Any) -> None:
    """What we do not know is said as such, with the order's symbol and leg."""
    parked = next(one for one in ledger.records if isinstance(one, BrokerOrder) and one.symbol == "KO")
    narrator.time_is(sessions[1].opens_at)
    happenings = told(
        narrator,
        [
            Set(BrokerOrder, (parked.client_order_id,), {"outcome": SendOutcome.UNRESOLVED}),
            Set(TradingStateRecord, (1,), {"state": TradingState.HALTED, "reason": "a person"}),
        ],
    )

    assert [(one.kind, one.symbol, one.text) for one in happenings] == [
        ("order", "KO", "entry UNRESOLVED: no usable answer, looking it up"),
        ("trading state", "", "HALTED: a person"),
    ]


def watch(observer: ProgressObserver, start: StartInfo, ledger_records: list[Any], sessions: Any) -> None:
    """A short replay, as its observer is told of it."""
    observer.started(start)
    observer.recovered(RecoveryInfo(sessions[0].opens_at, 3, {"send": 2, "risk": 1}, 2, 1, 1, False))
    observer.instant(sessions[0].opens_at, sessions[0], 1, 780)
    observer.committed(Effect(records=tuple(ledger_records)))


def test_in_a_pipe_each_event_is_one_plain_line(
    narrator: Narrator, start: StartInfo, ledger_records: list[Any], sessions: Any
) -> None:
    """No escape sequence, no line broken at 80 columns, the notice and what was recovered on top."""
    out = io.StringIO()
    watch(PlainLines(Console(file=out, width=80), narrator), start, ledger_records, sessions)

    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert lines[0].startswith("finagent replay: 2 sessions 2008-10-01 to 2008-10-02, 5 symbols")
    assert lines[1] == f"data: {NOTICE}"
    assert lines[2].startswith("recovered: 3 jobs in flight given back (2 send, 1 risk); 2 orders open, 1 of them unresolved")
    assert "2008-10-01 09:35  refused    IBM    RISK_DENIED: POSITION_COUNT: 6 over the limit 5" in lines
    assert any(line.startswith("2008-10-01 09:39  fill       AAPL   buy 60 at 104.02") for line in lines)


def test_the_live_picture_shows_progress_candidates_and_result(
    narrator: Narrator, start: StartInfo, ledger_records: list[Any], sessions: Any
) -> None:
    """Market time, equity, each candidate with what became of it, the last events."""
    out = io.StringIO()
    clock: Callable[[], float] = iter(range(100)).__next__
    console = Console(file=out, width=120, height=50, force_terminal=True)
    with LiveView(console, narrator, clock) as view:
        watch(view, start, ledger_records, sessions)
        picture = Console(width=120, record=True, file=io.StringIO())
        picture.print(view.picture())
    text = picture.export_text()

    assert "2008-10-01 09:30" in text
    assert "equity 100,228.05 +228.05" in text
    assert "7 candidates, 9 fills" in text
    assert NOTICE in text
    assert "RISK_DENIED: POSITION_COUNT: 6 over the limit 5" in text
    assert "exit: STOP -205.25 USD" in text
    assert "recovered: 3 jobs" in out.getvalue()


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_result_fits_the_terminal_and_keeps_the_reasons(ledger: Any, width: int) -> None:
    """A narrow terminal gets fewer columns; symbol, outcome, result and reason are always there."""
    console = Console(width=width, record=True, file=io.StringIO())
    print_result(console, day_report(ledger, "sample:test", NOTICE))
    text = console.export_text()

    assert all(len(line) <= width for line in text.splitlines())
    for word in ("GOOG", "RISK_DENIED", "+398.75", "POSITION_COUNT", NOTICE, "3 FILLED"):
        assert word in text
    assert ("score" in text) == (width >= 110)


def test_a_finished_replay_says_so() -> None:
    """A start that has nothing to do says why."""
    assert "finished already" in recovery_text(RecoveryInfo(None, 0, {}, 0, 0, 0, True))
