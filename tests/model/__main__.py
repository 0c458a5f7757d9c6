"""`python -m tests.model`: the whole search as JSON; exits 3 when the protocol is found wrong or a variant is not."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.model.protocol import IN_A_WINDOW, PROTOCOLS, VARIANTS, WINDOWS, Protocol
from tests.model.search import Search, Trace

SECONDS_MAX = 60.0


def report(
    protocols: Mapping[str, Protocol], variants: Mapping[str, Protocol], windows: Mapping[str, Protocol]
) -> dict[str, Any]:
    """Search all of them.

    `held`: the protocols are safe and live, each variant and each window was found, all within a minute of processor time.
    """
    began, started = time.process_time(), time.monotonic()
    told = {name: _searched(protocol) for name, protocol in protocols.items()}
    wrong = {name: _searched(protocol) for name, protocol in variants.items()}
    open_ = {name: _searched(protocol) for name, protocol in windows.items()}
    processor_seconds = time.process_time() - began
    holds = not any("wrong" in each for each in told.values())
    found = all("wrong" in each for each in (*wrong.values(), *open_.values()))
    return {
        "held": holds and found and processor_seconds <= SECONDS_MAX,
        "states": sum(each["states"] for each in told.values()),
        "transitions": sum(each["transitions"] for each in told.values()),
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(processor_seconds, 1),
        "processor_seconds_max": SECONDS_MAX,
        "protocols": told,
        "variants": wrong,
        "windows": open_,
    }


def _searched(protocol: Protocol) -> dict[str, Any]:
    finding = Search(protocol).run()
    counts = {"states": finding.states, "transitions": finding.transitions, "seconds": round(finding.seconds, 2)}
    trace: Trace | None = finding.unsafe or finding.stuck
    if trace is None:
        return counts
    return counts | {"wrong": trace.wrong, "steps": len(trace.steps), "trace": list(trace.steps)}


def main() -> int:
    """Search and print."""
    document = report(PROTOCOLS | IN_A_WINDOW, VARIANTS, WINDOWS)
    print(json.dumps(document, indent=2))
    return 0 if document["held"] else 3


if __name__ == "__main__":
    sys.exit(main())
