"""Adds up junit files and prints the closing line of `make test`: exit 1 when a test failed or none ran."""

import sys
from xml.etree import ElementTree


def main(paths: list[str]) -> int:
    """Print "N passed, N failed, N skipped" over all files."""
    tests = failed = skipped = 0
    for path in paths:
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            tests += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
    print(f"{tests - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0 or tests == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
