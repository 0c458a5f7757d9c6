"""Holds the coverage of a whole `make test` to its promise; reads the report of `coverage json`.

Every line of what decides about orders and money is executed: the domain, the queue, orders and risk. Over everything,
child processes included, at least 90 % of the branches are taken.
"""

import json
import sys
from fnmatch import fnmatch
from pathlib import Path

BRANCH_PERCENT_MIN = 90.0
EVERY_LINE = (
    "src/finagent/domain/*",
    "src/finagent/quant/risk/*",
    "src/finagent/services/queue/*",
    "src/finagent/services/execution/*",
    "src/finagent/services/pipeline/risk.py",
    "src/finagent/services/pipeline/execution.py",
    "src/finagent/adapters/job_queue/*",
)


def breaches(report: dict[str, dict[str, dict[str, object]]]) -> list[str]:
    """What falls short, one sentence each."""
    found = []
    for path, entry in sorted(report["files"].items()):
        missing = entry["missing_lines"]
        if missing and any(fnmatch(path, pattern) for pattern in EVERY_LINE):
            found.append(f"{path}: lines never executed: {missing}")
    totals = report["totals"]
    taken, branches = float(str(totals["covered_branches"])), float(str(totals["num_branches"]))
    percent = 100.0 * taken / branches if branches else 0.0
    print(f"branches taken: {percent:.1f} % ({taken:.0f} of {branches:.0f}), at least {BRANCH_PERCENT_MIN} % wanted")
    if percent < BRANCH_PERCENT_MIN:
        found.append(f"only {percent:.1f} % of branches taken; the least covered files:")
        found.extend(f"  {line}" for line in least_covered(report))
    return found


def least_covered(report: dict[str, dict[str, dict[str, object]]], count: int = 15) -> list[str]:
    """The files with the most branches not taken."""
    missed = []
    for path, entry in report["files"].items():
        summary = entry["summary"]
        assert isinstance(summary, dict)
        missed.append((int(summary["missing_branches"]), path))
    return [f"{branches:4d} {path}" for branches, path in sorted(missed, reverse=True)[:count] if branches]


if __name__ == "__main__":
    sentences = breaches(json.loads(Path(sys.argv[1]).read_text()))
    print("\n".join(sentences))
    sys.exit(int(bool(sentences)))
