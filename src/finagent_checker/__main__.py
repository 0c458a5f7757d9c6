"""`python -m finagent_checker FOLDER`: exit 0 clean, 3 violations, 2 bad usage."""

import argparse
import json
import sys
from pathlib import Path

from finagent_checker.check import check_folder
from finagent_checker.finding import Report
from finagent_checker.folder import Missing

CLEAN, BAD_USAGE, VIOLATED = 0, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Check one folder, print what was found, say the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m finagent_checker",
        description="Checks the folder of a replay against the broker's ledger in it. Changes nothing.",
        epilog="example: python -m finagent_checker var --complete --json",
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="holds finagent.db and broker-simulator.db")
    parser.add_argument("--serve", action="store_true", help="answer questions on stdin, a JSON line each, until it ends")
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="a replay whose rows must be the same")
    parser.add_argument("--anchor", type=Path, metavar="FILE", help="where the anchor lies (default: anchor in the folder)")
    parser.add_argument("--complete", action="store_true", help="fail unless a finished replay with orders is there to see")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if options.serve:
        return _serve()
    if options.folder is None:
        parser.error("name a FOLDER")
    try:
        report = check_folder(options.folder, options.reference, complete=options.complete, anchor=options.anchor)
    except Missing as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USAGE
    sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n" if options.json else _as_text(report))
    return VIOLATED if report.violations else CLEAN


def _serve() -> int:
    """`{"folder": ..., "reference": ..., "complete": ...}` in, the document of the folder out; `{"missing": why}` where there is
    nothing to judge."""
    for line in sys.stdin:
        asked = json.loads(line)
        reference = asked.get("reference")
        try:
            report = check_folder(
                Path(asked["folder"]), Path(reference) if reference else None, complete=asked.get("complete", False)
            )
            answer = report.as_json()
        except Missing as error:
            answer = {"missing": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return CLEAN


def _as_text(report: Report) -> str:
    counts = f"{report.candidates} candidates, {report.orders} orders, {report.executions} executions, {report.events} events"
    verdict = f"{report.lost} lost, {report.duplicate} duplicate, {report.unequal} unequal, {report.parked} parked"
    lines = [f"{report.folder}: {counts}", f"{verdict}, {len(report.violations)} violations"]
    lines += [f"  {found.invariant.value} {found.subject}: {found.message}" for found in report.violations]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
