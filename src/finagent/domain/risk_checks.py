"""The gate: one small pure check a limit, each answering the largest quantity that meets it.

Every check reads the run's snapshot and the run's earlier verdicts; those of PAST_CHECKS also what is known of the past, and are
asked where the question brings it. Verdicts count, not orders: an approval that
was not sent yet is exposure. A comparison is written so that anything unknown refuses.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from math import isfinite

from finagent.domain.money import ZERO, rounded
from finagent.domain.orders import Side
from finagent.domain.risk import (
    CheckResult,
    Exposure,
    Past,
    RankedPlan,
    RiskCode,
    RiskDecision,
    RiskProfile,
    RiskSnapshot,
    Verdict,
)
from finagent.domain.trade_plan import TradePlan

_UNKNOWN = Decimal("NaN")


@dataclass(frozen=True, slots=True)
class Held:
    """What positions and orders bind, in USD: by symbol, by sector, together. What is not finite makes its sums unknown."""

    symbols: Mapping[str, Decimal]
    sectors: Mapping[str, Decimal]
    gross: Decimal
    finite: bool

    @classmethod
    def of(cls, exposures: Iterable[Exposure]) -> "Held":
        symbols: dict[str, Decimal] = {}
        sectors: dict[str, Decimal] = {}
        gross = ZERO
        for exposure in exposures:
            usd = abs(exposure.notional) if exposure.notional.is_finite() else _UNKNOWN
            symbols[exposure.symbol] = symbols.get(exposure.symbol, ZERO) + usd
            sectors[exposure.sector] = sectors.get(exposure.sector, ZERO) + usd
            gross += usd
        return cls(symbols, sectors, gross, gross.is_finite())


@dataclass(frozen=True)
class Question:
    """One plan before the gate, with all that its checks may read. `held` is what the snapshot's exposures add up to: who asks
    for many plans of one snapshot adds them up once."""

    plan: TradePlan
    line: RankedPlan
    snapshot: RiskSnapshot
    profile: RiskProfile
    earlier: tuple[RiskDecision, ...]
    past: Past | None = None
    held: Held | None = None

    @cached_property
    def holdings(self) -> Held:
        """What positions and orders of the snapshot bind."""
        return self.held if self.held is not None else Held.of(self.snapshot.exposures)

    @cached_property
    def price(self) -> Decimal:
        """The worse price: what a share may cost at most (long), or what it is worth now if that is more. A last price that is no
        number is refused by `finite_input`, and compares with nothing here."""
        last = self.line.last_price
        return max(self.plan.entry_limit, last) if last is not None and last.is_finite() else self.plan.entry_limit

    @cached_property
    def bound(self) -> "Bound":
        """What positions, orders and this run's approvals bind already."""
        mine, sector, held = self.plan.symbol, self.line.sector, self.holdings
        lines = {line.decision_id: line for line in self.snapshot.ranked}
        approved = [(lines[decision.decision_id], decision.notional) for decision in self.earlier if decision.quantity > 0]
        in_symbol = [usd for line, usd in approved if line.symbol == mine]
        in_sector = [usd for line, usd in approved if line.sector == sector]
        return Bound(
            sum(in_symbol, held.symbols.get(mine, ZERO)),
            sum(in_sector, held.sectors.get(sector, ZERO)),
            sum((usd for _, usd in approved), held.gross),
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """USD bound in the symbol of a plan, in its sector, and in everything together."""

    symbol: Decimal
    sector: Decimal
    gross: Decimal


def _yes_or_no(code: RiskCode, question: Question, limit: Decimal, value: Decimal, *, met: bool) -> CheckResult:
    return CheckResult(code, limit, value, question.plan.quantity if met else 0)


def _room(code: RiskCode, question: Question, limit: Decimal, bound: Decimal) -> CheckResult:
    """The largest quantity whose notional fits between what is bound and the limit, both in USD."""
    room = max(ZERO, limit - bound)
    allowed = int(room // question.price)  # a division would round, and a quotient just under a whole number would pass
    return CheckResult(code, limit, bound + question.plan.quantity * question.price, min(allowed, question.plan.quantity))


def trading_state(question: Question) -> CheckResult:
    """New risk only while ACTIVE."""
    met = question.snapshot.trading_state.new_risk
    return _yes_or_no(RiskCode.TRADING_STATE, question, Decimal(1), Decimal(int(met)), met=met)


def finite_input(question: Question) -> CheckResult:
    """A last price, a positive equity and everything that is bound are known and finite."""
    last, snapshot = question.line.last_price, question.snapshot
    amounts = [snapshot.equity, snapshot.session_open_equity]
    amounts += [question.past.peak_equity] if question.past is not None else []
    known = question.holdings.finite and all(map(Decimal.is_finite, amounts)) and snapshot.equity > 0
    met = known and last is not None and last.is_finite() and last > 0
    return _yes_or_no(RiskCode.BAD_INPUT, question, Decimal(1), Decimal(int(met)), met=met)


def fresh_price(question: Question) -> CheckResult:
    """The last price is young enough."""
    age, limit = question.line.price_age_seconds, question.profile.price_age_seconds_max
    met = 0 <= age <= limit
    return _yes_or_no(RiskCode.STALE_PRICE, question, Decimal(repr(limit)), Decimal(repr(age)), met=met)


def price_collar(question: Question) -> CheckResult:
    """The worst entry price lies near the last price."""
    last, limit = question.line.last_price, question.profile.price_collar_fraction
    distance = abs(question.plan.entry_limit / last - 1) if last is not None and last > 0 else Decimal(1)
    return _yes_or_no(RiskCode.PRICE_COLLAR, question, limit, rounded(distance, 6), met=distance <= limit)


def symbol_lock(question: Question) -> CheckResult:
    """No order of the symbol is parked, and nobody else trades in it."""
    met = question.plan.symbol not in question.snapshot.locked_symbols
    return _yes_or_no(RiskCode.SYMBOL_LOCKED, question, Decimal(0), Decimal(int(not met)), met=met)


def strategy_lock(question: Question) -> CheckResult:
    """No person has locked the strategy that asks."""
    met = question.snapshot.strategy_lock is None
    return _yes_or_no(RiskCode.STRATEGY_LOCKED, question, Decimal(0), Decimal(int(not met)), met=met)


def short_selling(question: Question) -> CheckResult:
    """A short plan needs the permission to sell short."""
    met = question.plan.side is Side.BUY or question.profile.short_selling
    return _yes_or_no(
        RiskCode.SHORT_SELLING, question, Decimal(int(question.profile.short_selling)), Decimal(int(not met)), met=met
    )


def daily_loss(question: Question) -> CheckResult:
    """Equity has not fallen by more than the limit since the session's open."""
    opened = question.snapshot.session_open_equity
    loss = (opened - question.snapshot.equity) / opened if opened > 0 else Decimal(1)
    limit = question.profile.daily_loss_fraction_max
    return _yes_or_no(RiskCode.DAILY_LOSS, question, limit, rounded(loss, 6), met=loss < limit)


def position_count(question: Question) -> CheckResult:
    """At most so many symbols at once."""
    passed = {decision.decision_id for decision in question.earlier if decision.quantity > 0}
    approved = {line.symbol for line in question.snapshot.ranked if line.decision_id in passed}
    held = question.holdings.symbols
    count = len(held) + sum(1 for symbol in approved | {question.plan.symbol} if symbol not in held)
    limit = question.profile.positions_max
    return _yes_or_no(RiskCode.POSITION_COUNT, question, Decimal(limit), Decimal(count), met=count <= limit)


def order_count(question: Question) -> CheckResult:
    """At most so many entry orders a session."""
    count = question.snapshot.orders_today + sum(1 for d in question.earlier if d.quantity > 0) + 1
    limit = question.profile.orders_per_day_max
    return _yes_or_no(RiskCode.ORDER_COUNT, question, Decimal(limit), Decimal(count), met=count <= limit)


def message_rate(question: Question) -> CheckResult:
    """At most so many messages to the broker in a minute."""
    count = question.snapshot.messages_last_minute + sum(1 for d in question.earlier if d.quantity > 0) + 1
    limit = question.profile.messages_per_minute_max
    return _yes_or_no(RiskCode.MESSAGE_RATE, question, Decimal(limit), Decimal(count), met=count <= limit)


def position_size(question: Question) -> CheckResult:
    """One symbol binds at most its fraction of equity."""
    limit = question.profile.position_fraction_max * question.snapshot.equity
    return _room(RiskCode.POSITION_SIZE, question, limit, question.bound.symbol)


def sector_exposure(question: Question) -> CheckResult:
    """One sector binds at most its fraction of equity; symbols of unknown sector count together."""
    limit = question.profile.sector_fraction_max * question.snapshot.equity
    return _room(RiskCode.SECTOR_EXPOSURE, question, limit, question.bound.sector)


def gross_leverage(question: Question) -> CheckResult:
    """Everything together binds at most the leverage times equity."""
    limit = question.profile.gross_leverage_max * question.snapshot.equity
    return _room(RiskCode.GROSS_LEVERAGE, question, limit, question.bound.gross)


def drawdown(past: Past, question: Question) -> CheckResult:
    """Equity stands less than the limit below the highest it ever had."""
    peak = max(past.peak_equity, question.snapshot.equity)
    below, limit = (peak - question.snapshot.equity) / peak, question.profile.portfolio.drawdown_fraction_max
    return _yes_or_no(RiskCode.DRAWDOWN, question, limit, rounded(below, 6), met=below < limit)


def repeated_entry(past: Past, question: Question) -> CheckResult:
    """At most so many entries of one symbol a session: a strategy that repeats itself is a broken one."""
    earlier = {decision.decision_id for decision in question.earlier if decision.quantity > 0}
    same = sum(1 for line in question.snapshot.ranked if line.decision_id in earlier and line.symbol == question.plan.symbol)
    count, limit = past.entries_today + same + 1, question.profile.portfolio.entries_per_symbol_max
    return _yes_or_no(RiskCode.REPEATED_ENTRY, question, Decimal(limit), Decimal(count), met=count <= limit)


def day_trades(past: Past, question: Question) -> CheckResult:
    """A small account has few day trades in five sessions, and every entry of a one-day agent becomes one; those of a larger one
    do not count."""
    limits = question.profile.portfolio
    free = question.snapshot.equity >= limits.day_trade_equity_min
    count = 0 if free else past.day_trades + sum(1 for decision in question.earlier if decision.quantity > 0) + 1
    met = free or count <= limits.day_trades_max
    return _yes_or_no(RiskCode.DAY_TRADES, question, Decimal(limits.day_trades_max), Decimal(count), met=met)


def order_notional(past: Past, question: Question) -> CheckResult:
    """One order is worth at most so much."""
    return _room(RiskCode.ORDER_NOTIONAL, question, question.profile.portfolio.order_notional_max, ZERO)


def participation(past: Past, question: Question) -> CheckResult:
    """One order is at most a fraction of what is traded on a mean day; nothing where that is not known."""
    dollars = past.dollar_volume_mean
    known = dollars is not None and 0 < dollars < float("inf")
    volume = Decimal(repr(dollars)) if known else ZERO
    return _room(RiskCode.PARTICIPATION, question, question.profile.portfolio.participation_fraction_max * volume, ZERO)


def value_at_risk(past: Past, question: Question) -> CheckResult:
    """The book loses no more than the fraction of equity in a day, at 95 %, with the trade in it."""
    limit = question.profile.portfolio.value_at_risk_fraction_max * question.snapshot.equity
    measured = None if past.trade is None else (past.trade.value_at_risk, past.trade.value_at_risk_quantity)
    return _measured(RiskCode.VALUE_AT_RISK, question, limit, measured)


def beta(past: Past, question: Question) -> CheckResult:
    """The book moves with the market by no more than so many times equity, up or down, with the trade in it."""
    limit = question.profile.portfolio.beta_max * question.snapshot.equity
    measured = None if past.trade is None else (abs(past.trade.beta), past.trade.beta_quantity)
    return _measured(RiskCode.BETA, question, limit, measured)


def correlation(past: Past, question: Question) -> CheckResult:
    """The trade is not the same bet as the book."""
    limit = question.profile.portfolio.correlation_max
    measured = None if past.trade is None else (past.trade.correlation, past.trade.correlation_quantity)
    return _measured(RiskCode.CORRELATION, question, limit, measured)


def _measured(code: RiskCode, question: Question, limit: Decimal, measured: tuple[float, int] | None) -> CheckResult:
    """A limit that was measured against; what was not, or is no number, passes nothing and is shown as over the limit."""
    if measured is None or not isfinite(measured[0]):
        return CheckResult(code, limit, limit + 1, 0)
    value, allowed = measured
    return CheckResult(code, limit, rounded(Decimal(repr(value)), 6), min(max(allowed, 0), question.plan.quantity))


CHECKS: tuple[Callable[[Question], CheckResult], ...] = (
    finite_input,
    trading_state,
    daily_loss,
    symbol_lock,
    strategy_lock,
    short_selling,
    fresh_price,
    price_collar,
    position_count,
    order_count,
    message_rate,
    position_size,
    sector_exposure,
    gross_leverage,
)

PAST_CHECKS: tuple[Callable[[Past, Question], CheckResult], ...] = (
    drawdown,
    repeated_entry,
    day_trades,
    order_notional,
    participation,
    value_at_risk,
    beta,
    correlation,
)


def warnings(question: Question, decision: RiskDecision) -> tuple[str, ...]:
    """What a person should know of a plan that passed: limits that are nearly used up at the quantity that was allowed, and a
    symbol sold at a loss within 30 days, whose loss a new purchase makes void for tax (26 U.S.C. 1091)."""
    limits, found = question.profile.portfolio, []
    if decision.quantity == 0:
        return ()
    position = question.bound.symbol + decision.notional
    if position >= limits.position_warning_fraction * question.snapshot.equity:
        found.append(f"{question.plan.symbol} is {position / question.snapshot.equity:.1%} of equity")
    whole = decision.quantity == question.plan.quantity  # the values of the checks are those of the whole plan
    used = [(check.code, check.utilisation) for check in decision.checks if whole]
    found += [f"{code.value} is used to {part:.0%}" for code, part in used if part and part >= limits.utilisation_warning]
    if decision.quantity < question.plan.quantity:
        found.append(f"{decision.code.value} cut {question.plan.quantity} to {decision.quantity}")
    if question.past is not None and question.past.sold_at_loss:
        found.append(f"{question.plan.symbol} was sold at a loss within 30 days: a wash sale")
    return tuple(found)


def decide(question: Question, rank: int, at: datetime) -> RiskDecision:
    """The verdict: the first check in the order of CHECKS that allows least decides and is named.

    A refusal by `finite_input` ends the questioning, since the other checks compute with what it refused.
    """
    results: list[CheckResult] = []
    for check in CHECKS:
        results.append(check(question))
        if results[-1].code is RiskCode.BAD_INPUT and results[-1].allowed_quantity == 0:
            break
    else:
        results += [check(question.past, question) for check in PAST_CHECKS] if question.past is not None else []
    binding = min(results, key=lambda result: result.allowed_quantity)
    quantity = binding.allowed_quantity
    approved = quantity >= question.plan.quantity
    verdict = Verdict.APPROVED if approved else Verdict.REDUCED if quantity > 0 else Verdict.REFUSED
    return RiskDecision(
        decision_id=question.plan.decision_id,
        run_id=question.plan.run_id,
        rank=rank,
        verdict=verdict,
        code=RiskCode.OK if approved else binding.code,
        limit_value=ZERO if approved else binding.limit,
        value=ZERO if approved else binding.value,
        quantity=quantity,
        notional=quantity * question.price if quantity else ZERO,
        checks=tuple(results),
        at=at,
    )
