"""What commands print: one JSON document, or text for people."""

import json
import sys
from typing import Any

from finagent.services.progress import ReplaySummary
from finagent.services.reporting.canonical import as_plain


def print_json(document: Any) -> None:
    """One JSON document on stdout; records become objects, decimals text, times UTC."""
    sys.stdout.write(json.dumps(as_plain(document), indent=2) + "\n")
    sys.stdout.flush()


def summary_document(summary: ReplaySummary) -> dict[str, Any]:
    """The final document of a replay under the names of the interface."""
    document: dict[str, Any] = as_plain(summary)
    return {"source": document.pop("source_id"), **document, "report": document.pop("report_path")}
