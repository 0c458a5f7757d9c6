"""Twenty thousand signals that want too much: none of what the gate lets through breaks a limit that somebody else computes."""

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.properties import adversarial_signals as adversarial
from tests.properties import ledger_replayer

from finagent.domain.risk_checks import Bound, Question
from finagent.quant.risk.exposure import Book

SIGNALS = 20_000  # a million: make proof ONLY=risk-gate


def test_no_approval_breaks_a_limit_and_every_limit_binds() -> None:
    told = adversarial.run(SIGNALS).document()

    assert told["first_breaches"] == []
    assert told["bound_too_seldom"] == []
    assert told["parts"]["APPROVED"] >= adversarial.APPROVED_MIN
    assert told["parts"]["REDUCED"] >= adversarial.REDUCED_MIN
    assert told["refused_at_the_edge"] > 0
    assert told["held"]


HONEST_BOUND = Question.__dict__["bound"].func


def _forgets_approvals(question: Question) -> Bound:
    found: Bound = HONEST_BOUND(replace(question, earlier=()))
    return found


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("approvals of the run bind nothing", {"POSITION_SIZE", "SECTOR_EXPOSURE", "GROSS_LEVERAGE"}),
        ("a plan costs its limit price, whatever the market says", {"POSITION_SIZE", "ORDER_NOTIONAL", "PARTICIPATION"}),
        ("the book does not know the approvals before", {"VALUE_AT_RISK", "BETA"}),
    ],
)
def test_a_gate_with_a_planted_bug_is_found_out(name: str, broken: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("approvals"):
        monkeypatch.setattr(Question, "bound", property(_forgets_approvals))
    elif name.startswith("a plan"):
        monkeypatch.setattr(Question, "price", property(lambda question: question.plan.entry_limit))
    else:
        monkeypatch.setattr(Book, "with_trade", lambda book, _symbol, _usd: book)
    found = Counter(line.split(": ")[1].split()[0] for line in adversarial.run(4_000).breaches)

    assert broken <= set(found)


def test_the_replayer_has_code_of_its_own() -> None:
    """Of the product it knows words: neither the checks, nor the measures of a book, nor any service."""
    tree = ast.parse(Path(ledger_replayer.__file__).read_text())
    known = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    known |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    ours = {module for module in known if module.startswith(("finagent", "tests"))}

    assert ours == {f"finagent.domain.{word}" for word in ("orders", "risk", "trade_plan", "trading_state")}
