"""The gate against brute force: what it allows is the most that meets every limit, and nothing unknown passes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.errors import BadInput
from finagent.domain.orders import Side
from finagent.domain.risk import (
    SWITCHES,
    CheckResult,
    Exposure,
    Past,
    PortfolioLimits,
    RankedPlan,
    RiskCode,
    RiskDecision,
    RiskProfile,
    RiskSnapshot,
    TradeRisk,
    Verdict,
)
from finagent.domain.risk_checks import (
    CHECKS,
    PAST_CHECKS,
    Held,
    Question,
    decide,
    gross_leverage,
    position_size,
    sector_exposure,
    warnings,
)
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState

AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
SECTORS = {"AAPL": "hardware", "GOOG": "web", "IBM": "hardware", "MSFT": "web"}
cents = st.integers(101, 60_000).map(lambda n: Decimal(n) / 100)
usd = st.integers(1, 50_000_000).map(lambda n: Decimal(n) / 100)
fractions = st.integers(0, 200).map(lambda n: Decimal(n) / 100)


NOTHING_KNOWN = Past(Decimal(1), 0, 0, None, sold_at_loss=False, trade=None)


@st.composite
def plans(draw: st.DrawFn, decision: str = "dec-0", symbol: str | None = None) -> TradePlan:
    side = draw(st.sampled_from(Side))
    middle = draw(cents) + 5
    steps = [draw(st.integers(1, 100)) * Decimal("0.01") for _ in range(3)]
    sign = side.sign
    entry, limit = middle, middle + sign * steps[0]
    return TradePlan(
        decision,
        "run-1",
        symbol or draw(st.sampled_from(SYMBOLS)),
        side,
        draw(st.integers(1, 5_000)),
        entry,
        limit,
        entry - sign * steps[1],
        limit + sign * steps[2],
        AT + timedelta(minutes=30),
        "drawn",
    )


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """A plan behind some verdicts of its run, in an account that holds something."""
    symbols = draw(st.permutations(SYMBOLS))
    plan = draw(plans(symbol=symbols[0]))
    lines = [
        RankedPlan(f"dec-{rank}", symbol, SECTORS[symbol], 0.9 - rank / 10, draw(cents), draw(st.floats(0, 400)))
        for rank, symbol in enumerate(symbols)
    ]
    earlier = []
    for rank in range(1, draw(st.integers(1, 4))):
        quantity = draw(st.integers(0, 500))
        verdict = Verdict.APPROVED if quantity else Verdict.REFUSED
        notional = quantity * draw(cents)
        earlier.append(
            RiskDecision(f"dec-{rank}", "run-1", rank, verdict, RiskCode.OK, Decimal(0), Decimal(0), quantity, notional, (), AT)
        )
    exposures = draw(
        st.lists(
            st.builds(
                lambda symbol, quantity, notional: Exposure(symbol, SECTORS[symbol], quantity, notional),
                st.sampled_from(SYMBOLS),
                st.integers(-500, 500).filter(bool),
                st.one_of(usd, usd.map(lambda amount: -amount)),
            ),
            max_size=4,
        )
    )
    snapshot = RiskSnapshot(
        "run-1",
        AT,
        draw(st.sampled_from(TradingState)),
        draw(usd),
        draw(usd),
        draw(usd),
        tuple(exposures),
        tuple(draw(st.lists(st.sampled_from(SYMBOLS), max_size=2))),
        draw(st.integers(0, 10)),
        draw(st.integers(0, 10)),
        tuple(lines),
        draw(st.sampled_from([None, "first is locked: a test"])),
    )
    profile = RiskProfile(
        draw(fractions),
        draw(fractions),
        draw(fractions),
        draw(fractions),
        draw(st.integers(0, 6)),
        draw(st.integers(0, 12)),
        draw(st.integers(0, 12)),
        draw(fractions),
        draw(st.floats(0, 500)),
        draw(st.booleans()),
    )
    return Question(plan, lines[0], snapshot, profile, tuple(earlier))


def open_minded(question: Question) -> Question:
    """The same question with every yes-or-no limit out of the way, so that the sizes decide."""
    loose = replace(
        question.profile,
        daily_loss_fraction_max=Decimal(2),
        positions_max=99,
        orders_per_day_max=99,
        messages_per_minute_max=99,
        price_collar_fraction=Decimal(1_000_000),
        price_age_seconds_max=1e9,
        short_selling=True,
    )
    snapshot = replace(
        question.snapshot,
        trading_state=TradingState.ACTIVE,
        locked_symbols=(),
        strategy_lock=None,
        session_open_equity=Decimal(1),
    )
    return replace(question, profile=loose, snapshot=snapshot)


def bound(question: Question, chosen: set[str]) -> Fraction:
    """USD that the chosen symbols bind, counted plainly."""
    held = sum((abs(Fraction(e.notional)) for e in question.snapshot.exposures if e.symbol in chosen), Fraction(0))
    symbols = {line.decision_id: line.symbol for line in question.snapshot.ranked}
    return held + sum((Fraction(d.notional) for d in question.earlier if symbols[d.decision_id] in chosen), Fraction(0))


def meets_size_limits(question: Question, quantity: int) -> bool:
    """Whether the quantity, valued at the worse of limit and last price, stays inside all three size limits."""
    last = question.line.last_price
    assert last is not None
    cost = quantity * Fraction(max(question.plan.entry_limit, last))
    equity, profile = Fraction(question.snapshot.equity), question.profile
    peers = {symbol for symbol in SYMBOLS if SECTORS[symbol] == question.line.sector}
    return (
        bound(question, {question.plan.symbol}) + cost <= Fraction(profile.position_fraction_max) * equity
        and bound(question, peers) + cost <= Fraction(profile.sector_fraction_max) * equity
        and bound(question, set(SYMBOLS)) + cost <= Fraction(profile.gross_leverage_max) * equity
    )


@given(questions())
def test_what_is_allowed_is_the_largest_quantity_that_meets_every_size_limit(question: Question) -> None:
    question = open_minded(question)
    allowed = decide(question, 0, AT).quantity

    assert 0 <= allowed <= question.plan.quantity
    assert allowed == 0 or meets_size_limits(question, allowed)
    assert allowed == question.plan.quantity or not meets_size_limits(question, allowed + 1)


@given(questions())
def test_the_binding_check_is_named_and_its_word_is_final(question: Question) -> None:
    verdict = decide(question, 0, AT)
    least = min(result.allowed_quantity for result in verdict.checks)

    assert verdict.quantity == least
    if verdict.verdict is Verdict.APPROVED:
        assert (verdict.code, verdict.quantity) == (RiskCode.OK, question.plan.quantity)
    else:
        named = next(result for result in verdict.checks if result.code is verdict.code)
        assert named.allowed_quantity == least
        assert (verdict.verdict is Verdict.REFUSED) == (least == 0)
    assert verdict.notional == verdict.quantity * question.price


@given(questions())
def test_every_yes_or_no_limit_says_no_on_its_own(question: Question) -> None:
    profile, snapshot, plan = question.profile, question.snapshot, question.plan
    last = question.line.last_price
    assert last is not None
    passed = [d for d in question.earlier if d.quantity]
    symbols = {line.decision_id: line.symbol for line in snapshot.ranked}
    held = {e.symbol for e in snapshot.exposures} | {symbols[d.decision_id] for d in passed} | {plan.symbol}
    loss = Fraction(snapshot.session_open_equity - snapshot.equity) / Fraction(snapshot.session_open_equity)
    collar = abs(Fraction(plan.entry_limit) / Fraction(last) - 1)
    objections = {
        RiskCode.TRADING_STATE: snapshot.trading_state is not TradingState.ACTIVE,
        RiskCode.DAILY_LOSS: loss >= Fraction(profile.daily_loss_fraction_max),
        RiskCode.SYMBOL_LOCKED: plan.symbol in snapshot.locked_symbols,
        RiskCode.STRATEGY_LOCKED: snapshot.strategy_lock is not None,
        RiskCode.SHORT_SELLING: plan.side is Side.SELL and not profile.short_selling,
        RiskCode.STALE_PRICE: question.line.price_age_seconds > profile.price_age_seconds_max,
        RiskCode.PRICE_COLLAR: collar > Fraction(profile.price_collar_fraction),
        RiskCode.POSITION_COUNT: len(held) > profile.positions_max,
        RiskCode.ORDER_COUNT: snapshot.orders_today + len(passed) + 1 > profile.orders_per_day_max,
        RiskCode.MESSAGE_RATE: snapshot.messages_last_minute + len(passed) + 1 > profile.messages_per_minute_max,
    }
    said = {result.code: result.allowed_quantity == 0 for result in decide(question, 0, AT).checks}

    assert {code: said[code] for code in objections} == objections


@given(questions())
def test_exposures_that_were_added_up_before_are_judged_alike(question: Question) -> None:
    added_up = replace(question, held=Held.of(question.snapshot.exposures))

    assert decide(added_up, 0, AT) == decide(question, 0, AT)


@given(questions(), st.integers(1, 5_000))
def test_a_smaller_plan_is_never_refused_more(question: Question, smaller: int) -> None:
    less = replace(question, plan=replace(question.plan, quantity=min(smaller, question.plan.quantity)))

    assert decide(less, 0, AT).quantity == min(less.plan.quantity, decide(question, 0, AT).quantity)


@given(questions(), usd)
def test_more_exposure_never_allows_more(question: Question, notional: Decimal) -> None:
    more = Exposure(question.plan.symbol, question.line.sector, 1, notional)
    fuller = replace(question, snapshot=replace(question.snapshot, exposures=(*question.snapshot.exposures, more)))

    assert decide(fuller, 0, AT).quantity <= decide(question, 0, AT).quantity


not_numbers = st.sampled_from([Decimal("nan"), Decimal("snan"), Decimal("inf"), Decimal("-inf")])


@given(questions(), not_numbers, st.sampled_from(["last_price", "equity", "session_open_equity", "notional"]))
def test_what_is_not_a_finite_number_passes_nowhere(question: Question, poison: Decimal, where: str) -> None:
    question = open_minded(question)
    if where == "last_price":
        poisoned = replace(question, line=replace(question.line, last_price=poison))
    elif where == "notional":
        bad = Exposure("IBM", "hardware", 1, poison)
        poisoned = replace(question, snapshot=replace(question.snapshot, exposures=(*question.snapshot.exposures, bad)))
    else:
        known = question.snapshot
        equity, opened = (poison, known.session_open_equity) if where == "equity" else (known.equity, poison)
        poisoned = replace(question, snapshot=replace(known, equity=equity, session_open_equity=opened))
    verdict = decide(poisoned, 0, AT)

    assert (verdict.verdict, verdict.code, verdict.quantity) == (Verdict.REFUSED, RiskCode.BAD_INPUT, 0)
    assert verdict.notional == 0


@given(questions(), st.sampled_from([float("nan"), float("inf"), -1.0]))
def test_a_price_of_unknown_age_is_stale(question: Question, age: float) -> None:
    verdict = decide(replace(open_minded(question), line=replace(question.line, price_age_seconds=age)), 0, AT)

    assert (verdict.code, verdict.quantity) == (RiskCode.STALE_PRICE, 0)


@given(questions())
def test_without_a_price_nothing_passes(question: Question) -> None:
    verdict = decide(replace(question, line=replace(question.line, last_price=None)), 0, AT)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.BAD_INPUT)


@given(questions())
def test_a_profile_of_zeros_allows_nothing(question: Question) -> None:
    zero = Decimal(0)
    nothing = RiskProfile(zero, zero, zero, zero, 0, 0, 0, zero, 0.0, short_selling=True)

    assert decide(replace(question, profile=nothing), 0, AT).quantity == 0


def small_question(equity: Decimal) -> Question:
    prices = {"entry": Decimal("4.99"), "entry_limit": Decimal("5.00"), "stop": Decimal("4.90"), "target": Decimal("5.20")}
    plan = TradePlan("dec-0", "run-1", "IBM", Side.BUY, 5, valid_until=AT, reason="", **prices)
    line = RankedPlan("dec-0", "IBM", "hardware", 0.9, Decimal("5.00"), 0.0)
    snapshot = RiskSnapshot("run-1", AT, TradingState.ACTIVE, equity, equity, equity, (), (), 0, 0, (line,))
    one = Decimal(1)
    return Question(plan, line, snapshot, RiskProfile(one, one, one, one, 9, 9, 9, one, 9.0, short_selling=False), ())


def test_a_quotient_just_under_a_whole_number_does_not_round_up() -> None:
    """The limit leaves 9.999999999999999999999999999 USD: at 5 USD that is one share, not two."""
    question = small_question(Decimal("9.999999999999999999999999999"))

    assert [check(question).allowed_quantity for check in (position_size, sector_exposure, gross_leverage)] == [1, 1, 1]


def test_every_code_but_ok_has_its_one_check() -> None:
    question = small_question(Decimal(1))
    codes = [check(question).code for check in CHECKS] + [check(NOTHING_KNOWN, question).code for check in PAST_CHECKS]

    assert len(codes) == len(set(codes))
    assert set(codes) == set(RiskCode) - {RiskCode.OK}


counts = st.integers(0, 6)
amounts = st.floats(-100_000, 100_000)


@st.composite
def past_questions(draw: st.DrawFn) -> Question:
    """A question whose plan has a past, with every limit that needs none out of the way."""
    question = open_minded(draw(questions()))
    most = Decimal(10**9)
    loose = replace(question.profile, position_fraction_max=most, sector_fraction_max=most, gross_leverage_max=most)
    limits = PortfolioLimits(
        draw(fractions),
        draw(fractions),
        draw(usd),
        draw(fractions) / 2,
        draw(usd),
        draw(counts),
        draw(fractions),
        draw(counts),
        draw(fractions),
        draw(fractions),
        draw(fractions),
    )
    sizes = st.integers(0, 5_000)
    trade = TradeRisk(draw(amounts), draw(amounts), draw(sizes), draw(amounts), draw(sizes), draw(st.floats(-1, 1)), draw(sizes))
    volume = draw(st.none() | st.floats(0, 1e7))
    past = Past(draw(usd), draw(counts), draw(counts), volume, draw(st.booleans()), draw(st.none() | st.just(trade)))
    return replace(question, profile=replace(loose, portfolio=limits), past=past)


def past_of(question: Question) -> Past:
    assert question.past is not None
    return question.past


def allowed(question: Question) -> dict[RiskCode, int]:
    return {result.code: result.allowed_quantity for result in decide(question, 0, AT).checks}


@given(past_questions())
def test_an_account_too_far_below_its_peak_takes_no_new_risk(question: Question) -> None:
    equity, limit = Fraction(question.snapshot.equity), Fraction(question.profile.portfolio.drawdown_fraction_max)
    peak = max(Fraction(past_of(question).peak_equity), equity)

    assert (allowed(question)[RiskCode.DRAWDOWN] == 0) == ((peak - equity) / peak >= limit)


@given(past_questions(), st.booleans())
def test_a_symbol_is_entered_so_often_and_no_more(question: Question, alike: bool) -> None:
    if alike:  # another strategy found the same symbol
        lines = tuple(replace(line, symbol=question.plan.symbol) for line in question.snapshot.ranked)
        question = replace(question, snapshot=replace(question.snapshot, ranked=lines))
    symbols = {line.decision_id: line.symbol for line in question.snapshot.ranked}
    same = sum(1 for d in question.earlier if d.quantity and symbols[d.decision_id] == question.plan.symbol)
    over = past_of(question).entries_today + same + 1 > question.profile.portfolio.entries_per_symbol_max

    assert (allowed(question)[RiskCode.REPEATED_ENTRY] == 0) == over


@given(past_questions())
def test_day_trades_are_counted_where_the_account_is_small(question: Question) -> None:
    limits, small = question.profile.portfolio, question.snapshot.equity < question.profile.portfolio.day_trade_equity_min
    trades = past_of(question).day_trades + sum(1 for d in question.earlier if d.quantity) + 1

    assert (allowed(question)[RiskCode.DAY_TRADES] == 0) == (small and trades > limits.day_trades_max)


@given(past_questions())
def test_an_order_is_worth_at_most_its_limit_and_its_share_of_the_volume(question: Question) -> None:
    limits, volume = question.profile.portfolio, past_of(question).dollar_volume_mean
    most = {
        RiskCode.ORDER_NOTIONAL: Fraction(limits.order_notional_max),
        RiskCode.PARTICIPATION: Fraction(limits.participation_fraction_max) * Fraction(repr(volume or 0.0)),
    }
    price, said = Fraction(question.price), allowed(question)

    for code, limit in most.items():
        assert said[code] == min(limit // price, question.plan.quantity)


@given(past_questions())
def test_what_was_measured_of_the_book_binds_and_what_was_not_refuses(question: Question) -> None:
    trade, said = past_of(question).trade, allowed(question)
    codes = (RiskCode.VALUE_AT_RISK, RiskCode.BETA, RiskCode.CORRELATION)
    measured = (0, 0, 0) if trade is None else (trade.value_at_risk_quantity, trade.beta_quantity, trade.correlation_quantity)

    assert [said[code] for code in codes] == [min(quantity, question.plan.quantity) for quantity in measured]


@given(past_questions(), st.integers(0, 2), st.sampled_from([float("nan"), float("inf")]))
def test_a_measure_that_is_no_number_refuses(question: Question, which: int, poison: float) -> None:
    whole = question.plan.quantity
    at_risk, slope, likeness = (poison if number == which else 0.0 for number in range(3))
    trade = TradeRisk(at_risk, 0.0, whole, slope, whole, likeness, whole)

    assert decide(replace(question, past=replace(past_of(question), trade=trade)), 0, AT).verdict is Verdict.REFUSED


@given(past_questions(), st.integers(1, 5_000))
def test_the_past_never_refuses_a_smaller_plan_more(question: Question, smaller: int) -> None:
    less = replace(question, plan=replace(question.plan, quantity=min(smaller, question.plan.quantity)))

    assert decide(less, 0, AT).quantity == min(less.plan.quantity, decide(question, 0, AT).quantity)


@given(past_questions())
def test_limits_that_are_left_out_allow_nothing(question: Question) -> None:
    assert decide(replace(question, profile=replace(question.profile, portfolio=PortfolioLimits())), 0, AT).quantity == 0


@given(past_questions())
def test_without_a_past_the_answer_is_that_of_the_other_checks(question: Question) -> None:
    decision = decide(replace(question, past=None), 0, AT)

    assert [result.code for result in decision.checks] == [check(question).code for check in CHECKS]
    assert decide(question, 0, AT).checks[: len(CHECKS)] == decision.checks


@given(past_questions(), st.sampled_from([Decimal("nan"), Decimal("inf")]))
def test_a_peak_that_is_no_number_passes_nothing(question: Question, poison: Decimal) -> None:
    verdict = decide(replace(question, past=replace(past_of(question), peak_equity=poison)), 0, AT)

    assert (verdict.code, verdict.quantity) == (RiskCode.BAD_INPUT, 0)


@given(past_questions())
def test_warnings_say_what_is_nearly_used_up(question: Question) -> None:
    decision, limits = decide(question, 0, AT), question.profile.portfolio
    said = " | ".join(warnings(question, decision))
    position = bound(question, {question.plan.symbol}) + Fraction(decision.notional)

    if decision.quantity == 0:
        assert not said
        return
    large = position >= Fraction(limits.position_warning_fraction) * Fraction(question.snapshot.equity)
    assert (f"{question.plan.symbol} is" in said) == large
    assert ("wash sale" in said) == past_of(question).sold_at_loss
    assert (f"cut {question.plan.quantity} to" in said) == (decision.verdict is Verdict.REDUCED)


def test_a_warning_line_by_hand() -> None:
    """Five shares of 5 USD in 108 USD are 23.1 %: the line stands at 23 %, and the limit at 25 % is used to 93 %."""
    question = small_question(Decimal(108))
    limits = PortfolioLimits(position_warning_fraction=Decimal("0.23"), utilisation_warning=Decimal("0.92"))
    profile = replace(question.profile, position_fraction_max=Decimal("0.25"), portfolio=limits)
    question = replace(question, profile=profile)
    decision = decide(question, 0, AT)

    assert decision.verdict is Verdict.APPROVED
    assert warnings(question, decision) == ("IBM is 23.1% of equity", "POSITION_SIZE is used to 93%")
    sold = replace(question, past=Past(Decimal(108), 0, 0, None, True, None))
    assert warnings(sold, decision)[-1] == "IBM was sold at a loss within 30 days: a wash sale"
    less = replace(question, plan=replace(question.plan, quantity=4))
    assert warnings(less, decide(less, 0, AT)) == ()


def test_a_plan_that_was_cut_or_refused_warns_of_the_cut_or_nothing() -> None:
    question = small_question(Decimal(100))
    limits = PortfolioLimits(position_warning_fraction=Decimal(1), utilisation_warning=Decimal(9))
    cut = replace(question, profile=replace(question.profile, position_fraction_max=Decimal("0.10"), portfolio=limits))
    refused = replace(question, profile=replace(question.profile, position_fraction_max=Decimal(0), portfolio=limits))

    assert warnings(cut, decide(cut, 0, AT)) == ("POSITION_SIZE cut 5 to 2",)
    assert warnings(refused, decide(refused, 0, AT)) == ()


@pytest.mark.parametrize(
    ("code", "limit", "value", "used"),
    [
        (RiskCode.POSITION_SIZE, "25000", "20000", Decimal("0.8")),
        (RiskCode.POSITION_SIZE, "0", "20000", None),
        (RiskCode.STALE_PRICE, "180", "Infinity", None),
        (RiskCode.STALE_PRICE, "180", "NaN", None),
        *((switch, "1", "1", None) for switch in RiskCode if switch in SWITCHES),
    ],
)
def test_only_what_can_be_used_up_has_a_utilisation(code: RiskCode, limit: str, value: str, used: Decimal | None) -> None:
    assert CheckResult(code, Decimal(limit), Decimal(value), 0).utilisation == used


@given(
    past_questions(), st.sampled_from(["1E-300", "1E-30", "0.0001", "1E+22", "1E+300"]), st.sampled_from(["1E-30", "1", "1E+30"])
)
def test_no_amount_that_is_a_number_makes_a_check_fail(question: Question, last: str, opened: str) -> None:
    """One absurd bar or a wrong account must refuse its plan, not end the questioning of all that come after it."""
    absurd = replace(
        question,
        line=replace(question.line, last_price=Decimal(last)),
        snapshot=replace(question.snapshot, session_open_equity=Decimal(opened)),
        past=replace(past_of(question), trade=TradeRisk(1e300, 1e300, 0, -1e300, 0, 0.0, 5)),
    )
    verdict = decide(absurd, 0, AT)

    assert verdict.quantity == 0
    assert all(check.limit >= 0 for check in verdict.checks)


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"quantity": 10**9 + 1}, "between 1 and"), ({"quantity": 0}, "between 1 and"), ({"target": Decimal(10**8)}, "USD a share")],
)
def test_a_plan_beyond_what_exists_is_refused_by_name(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        replace(small_question(Decimal(1)).plan, **changed)
