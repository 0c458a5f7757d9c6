"""One folder, all rules."""

from collections.abc import Callable
from pathlib import Path

from finagent_checker.equality import check_equality
from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import ANCHOR, DATABASE, Folder, Malformed, open_book, open_folder
from finagent_checker.integrity import check_integrity, check_jobs
from finagent_checker.ledger import check_ledger
from finagent_checker.orders import check_orders, trace_orders
from finagent_checker.signals import check_signals
from finagent_checker.story import check_story


def check_folder(path: Path, reference: Path | None = None, *, complete: bool = False, anchor: Path | None = None) -> Report:
    """Everything that is wrong with the folder of a replay, and with its likeness to a reference.

    `complete` demands a finished replay with candidates, orders and executions and without a dead job: nothing to see is
    then a violation. `anchor` is where the anchor lies when it is not in the folder.
    Raises Missing when a file is not there.
    """
    report = Report(str(path))
    with open_folder(path) as folder:
        _guarded(Invariant.INTEGRITY, report, lambda: check_integrity(folder, report, anchor or path / ANCHOR))
        _guarded(Invariant.SIGNAL, report, lambda: check_signals(folder.agent, report))
        _guarded(Invariant.ORDER, report, lambda: _check_broker_side(folder, report))
        _guarded(Invariant.STORY, report, lambda: check_story(folder.agent, report))
        _guarded(Invariant.JOBS, report, lambda: check_jobs(folder.agent, report))
        if reference is not None:
            with open_book(reference / DATABASE) as other:
                _guarded(Invariant.EQUALITY, report, lambda: check_equality(folder.agent, other, report))
    if complete:
        _demand_evidence(report)
    return report


def _check_broker_side(folder: Folder, report: Report) -> None:
    traced = trace_orders(folder)
    check_orders(folder, traced, report)
    _guarded(Invariant.LEDGER, report, lambda: check_ledger(folder, traced, report))


def _guarded(invariant: Invariant, report: Report, check: Callable[[], None]) -> None:
    """What cannot be read breaks the rule that needed it; the other rules are still checked."""
    try:
        check()
    except Malformed as error:
        report.add([Violation(invariant, report.folder, str(error))])


def _demand_evidence(report: Report) -> None:
    missing = [name for name in ("candidates", "orders", "executions", "events") if getattr(report, name) == 0]
    report.add(Violation(Invariant.EVIDENCE, report.folder, f"no {name} to check") for name in missing)
    if report.dead_jobs:
        report.add([Violation(Invariant.JOBS, report.folder, f"{report.dead_jobs} jobs ended DEAD")])
    if not report.finished:
        report.add([Violation(Invariant.EVIDENCE, report.folder, "the replay is not finished")])
