"""Is a backtest too good? What no honest signal of a daily strategy shows is an alarm: look for what it knew too early."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.features.cross_section import ranks

SESSIONS_YEAR = 252
SHARPE_MAX, HIT_FRACTION_MAX = 3.0, 0.6
SHARPE_TO_LOSE = 2.0  # below it an honest edge of one day may be gone on the next
LAG_KEEPS_MIN = 0.5  # of the Sharpe ratio
SHUFFLED_SKILL_MAX, DEVIATIONS_MAX = 0.1, 4.0
MONTHS_MIN = 6
SESSIONS_MIN = 60  # a quarter: the Sharpe ratio of fewer sessions is noise


@dataclass(frozen=True, slots=True)
class Backtest:
    """Signals in [-1, 1] and the returns that followed them [sessions, symbols], NaN where there is none. `shuffled_skill` is the
    rank correlation with the returns of what was learned from shuffled ones."""

    days: tuple[date, ...]
    signals: Floats
    returns: Floats
    shuffled_skill: float


@dataclass(frozen=True, slots=True)
class BacktestFigures:
    """Annual Sharpe ratios without interest or costs, as told and with the signals of the session before; `hit_fraction` of the
    signals that were right; `losing_months` of `months`; `shuffled_skill` see Backtest."""

    sessions: int
    signals: int
    sharpe: float
    sharpe_lagged: float
    hit_fraction: float
    months: int
    losing_months: int
    shuffled_skill: float

    def alarms(self) -> tuple[str, ...]:
        """What is too good, a sentence each."""
        told = []
        if self.sharpe > SHARPE_MAX:
            told.append(f"the Sharpe ratio is {self.sharpe:.2f}, above {SHARPE_MAX:g}")
        if self.hit_fraction > HIT_FRACTION_MAX:
            told.append(f"{self.hit_fraction:.1%} of the signals are right, above {HIT_FRACTION_MAX:.0%}")
        if self.sharpe > SHARPE_TO_LOSE and self.sharpe_lagged < LAG_KEEPS_MIN * self.sharpe:
            told.append(
                f"with signals of the session before, the Sharpe ratio falls from {self.sharpe:.2f} to {self.sharpe_lagged:.2f}"
            )
        if abs(self.shuffled_skill) > max(SHUFFLED_SKILL_MAX, DEVIATIONS_MAX / np.sqrt(self.signals)):
            told.append(f"what is learned from shuffled returns correlates {self.shuffled_skill:+.2f} with the true ones")
        if self.months >= MONTHS_MIN and not self.losing_months:
            told.append(f"no month of {self.months} loses")
        return tuple(told)


def figures(backtest: Backtest) -> BacktestFigures:
    """BadInput for fewer than SESSIONS_MIN sessions, or no signal at all."""
    if len(backtest.days) < SESSIONS_MIN:
        raise BadInput(f"a backtest of {len(backtest.days)} sessions says nothing: {SESSIONS_MIN} are needed")
    traded = np.isfinite(backtest.signals * backtest.returns) & (backtest.signals != 0.0)
    count = int(np.count_nonzero(traded))
    if not count:
        raise BadInput("a backtest without a single signal")
    right = backtest.signals[traded] * backtest.returns[traded] > 0.0
    daily = _daily(backtest.signals, backtest.returns)
    months = [day.year * 12 + day.month for day in backtest.days]
    by_month = [float(daily[np.equal(months, month)].sum()) for month in sorted(set(months))]
    return BacktestFigures(
        sessions=len(backtest.days),
        signals=count,
        sharpe=_sharpe(daily),
        sharpe_lagged=_sharpe(_daily(backtest.signals[:-1], backtest.returns[1:])),
        hit_fraction=float(right.mean()),
        months=len(by_month),
        losing_months=sum(total <= 0.0 for total in by_month),
        shuffled_skill=backtest.shuffled_skill,
    )


def probe(rows: Floats, returns: Floats, days: Sequence[date], seed: int = 0) -> Backtest:
    """Learn returns [sessions, symbols] from features [sessions, symbols, features] of the first half of the sessions, by ridge
    regression, and trade the second half by the sign of what was learned. A feature that knows the return makes it too good."""
    half = len(days) // 2
    train, test = rows[:half], rows[half:]
    learned = _ridge(train, returns[:half])
    predicted = _predict(learned, test)
    chance = np.random.Generator(np.random.Philox(key=seed))
    known = np.flatnonzero(np.isfinite(returns[:half]))
    mixed = returns[:half].copy()
    mixed.flat[known] = chance.permutation(mixed.flat[known])
    skill = _rank_correlation(_predict(_ridge(train, mixed), test), returns[half:])
    return Backtest(tuple(days[half:]), np.sign(predicted), returns[half:], skill)


@dataclass(frozen=True, slots=True)
class _Learned:
    mean: Floats
    deviation: Floats
    weights: Floats


def _ridge(rows: Floats, returns: Floats) -> _Learned:
    known = np.isfinite(returns)
    inputs, target = rows[known], returns[known]
    there = np.isfinite(inputs)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, inputs, 0.0).sum(axis=0) / count
    deviation = np.sqrt((np.where(there, inputs - mean, 0.0) ** 2).sum(axis=0) / count)
    learned = _Learned(mean, np.where(deviation > 0.0, deviation, 1.0), np.zeros(inputs.shape[1]))
    standard = _standard(learned, inputs)
    gram = standard.T @ standard + len(standard) * np.eye(standard.shape[1])
    return _Learned(learned.mean, learned.deviation, np.linalg.solve(gram, standard.T @ (target - target.mean())))


def _standard(learned: _Learned, rows: Floats) -> Floats:
    """Without unit, at most 5 deviations from the mean, which stands for what is unknown."""
    told: Floats = np.clip(np.nan_to_num((rows - learned.mean) / learned.deviation), -5.0, 5.0)
    return told


def _predict(learned: _Learned, rows: Floats) -> Floats:
    """[sessions, symbols], NaN where no feature is known."""
    told: Floats = _standard(learned, rows) @ learned.weights
    return np.where(np.isfinite(rows).any(axis=-1), told, np.nan)


def _daily(signals: Floats, returns: Floats) -> Floats:
    """The return of each session [sessions]: the mean over its signals, nothing without one."""
    made = signals * returns
    known = np.isfinite(made) & (signals != 0.0)
    total: Floats = np.where(known, made, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return total


def _sharpe(daily: Floats) -> float:
    """Sharpe (1994), zero where nothing moves."""
    deviation = float(daily.std(ddof=1))
    return float(daily.mean()) / deviation * float(np.sqrt(SESSIONS_YEAR)) if deviation > 0.0 else 0.0


def _rank_correlation(predicted: Floats, returns: Floats) -> float:
    """Spearman's, zero where one of them never changes."""
    known = np.isfinite(predicted) & np.isfinite(returns)
    if known.sum() < 2 or np.ptp(predicted[known]) == 0.0:
        return 0.0
    one, other = (ranks(each[known]) for each in (predicted, returns))
    return float(np.corrcoef(one, other)[0, 1])
