"""`finagent models evaluate`: specialists and baselines on past gaps that none of them had seen."""

import asyncio
import sys
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.quant.evaluation.walk_forward_report import Learner, WalkForwardReport
    from finagent.services.models.past_candidates import PastCandidates
    from finagent.settings import Settings


def evaluate(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Learn from the gaps of past sessions, block by block, and judge each model on the block that follows.

    The market is that of market_data, its window the sessions; the rest stands under learning. Nothing is registered.
    """
    settings = settings_in_force(settings_file, overrides)
    learners = _learners(settings)
    from finagent.cli.output import print_json

    found, notice = asyncio.run(_candidates(settings))
    report = _judged(settings, found, learners)
    if as_json:
        print_json(_document(report, found, notice))
    else:
        _print_table(report, found, notice)


def _learners(settings: "Settings") -> "dict[str, Learner]":
    """Baselines first. BadInput where what they need is not installed."""
    try:
        from finagent.policies import training_plan
        from finagent.quant.specialists.baselines import learn_boosting, learn_climatology, learn_logistic
        from finagent.quant.specialists.training import specialist_learner
        from finagent.quant.specialists.training_plan import Role
    except ModuleNotFoundError as error:
        raise BadInput(f"models are trained with {error.name}, which is missing: pip install 'finagent[models]'") from error
    baselines: dict[str, Learner] = {"climatology": learn_climatology, "logistic": learn_logistic, "boosting": learn_boosting}
    return baselines | {role.value: specialist_learner(training_plan(settings, role)) for role in Role}


async def _candidates(settings: "Settings") -> "tuple[PastCandidates, str]":
    from finagent.bootstrap import build_daily_features, open_market
    from finagent.policies import past_candidate_policy
    from finagent.quant.regime.volatility_trend import VolatilityTrend
    from finagent.services.models.past_candidates import past_candidates

    async with open_market(settings) as market:
        sessions, days = market.sessions(), build_daily_features(settings, market)
        with typer.progressbar(length=len(sessions) - 1, label="sessions", file=sys.stderr) as bar:
            policy = past_candidate_policy(settings)
            found = await past_candidates(market, sessions, days, VolatilityTrend(), policy, lambda: bar.update(1))
        return found, market.notice


def _judged(settings: "Settings", found: "PastCandidates", learners: "dict[str, Learner]") -> "WalkForwardReport":
    from finagent.policies import test_blocks
    from finagent.quant.evaluation.walk_forward import walk_forward
    from finagent.quant.evaluation.walk_forward_report import Judging, walk_forward_report

    splits = walk_forward(found.rows.starts, found.rows.ends, test_blocks(settings))
    judging = Judging(settings.learning.earlier_trials + len(learners), settings.learning.cost_atr)
    with typer.progressbar(length=len(splits) * len(learners), label="models", file=sys.stderr) as bar:
        return walk_forward_report(found.rows, splits, learners, judging, lambda _name, _block: bar.update(1))


def _document(report: "WalkForwardReport", found: "PastCandidates", notice: str) -> dict[str, Any]:
    from finagent.services.market_data.past_opens import AT_THE_OPEN

    known = {name: value for name, value in asdict(report).items() if name != "figures"}
    models = [
        {name: value if isinstance(value, str) or isfinite(value) else None for name, value in asdict(each).items()}
        for each in report.figures
    ]
    window = {"first": found.sessions[0].isoformat(), "last": found.sessions[-1].isoformat(), "symbols": len(found.symbols)}
    return {
        "notice": notice,
        "data_spec_hash": AT_THE_OPEN.hash,
        **window,
        "candidates": len(found.rows),
        **known,
        "models": models,
    }


def _print_table(report: "WalkForwardReport", found: "PastCandidates", notice: str) -> None:
    from rich.table import Table

    from finagent.cli.result_table import terminal

    typer.echo(
        f"{len(found.rows)} gaps of {len(found.symbols)} symbols, {found.sessions[0]} to {found.sessions[-1]}; {notice}\n"
        f"{report.rows} of {report.sessions} sessions judged in {report.blocks} blocks, {report.trials} trials counted; "
        f"probability of overfitting {report.overfitting_probability:.2f}"
    )
    columns = ("log-loss", "Brier", "ECE", "AUC", "accuracy", "+-", "coverage", "accuracy there", "Sharpe", "deflated")
    table = Table("model", *columns, box=None)
    for each in report.figures:
        name, *values = asdict(each).values()
        table.add_row(name, *("" if not isfinite(value) else f"{value:.4f}" for value in values))
    terminal().print(table, highlight=False, markup=False)
