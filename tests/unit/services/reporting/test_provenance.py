"""Every screen can say where its data is from, without loading it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from finagent.domain.trading_state import LedgerIdentity
from finagent.services.reporting.provenance import data_notice


@pytest.mark.parametrize(
    ("replay_key", "said"),
    [
        (json.dumps({"source_id": "sample:x", "notice": "real daily bars", "settings": {}}), "real daily bars"),
        (json.dumps({"source_id": "sample:x", "settings": {}}), "sample:x"),
        ("sample|2008-10", "sample|2008-10"),
        ("", "live data"),
        ("7", "7"),
    ],
)
def test_the_notice_is_the_stores_own(ledger: Any, replay_key: str, said: str) -> None:
    """The notice where the ledger keeps it, else whatever names the source."""
    identity = ledger.get(LedgerIdentity, 1)

    assert data_notice(type(ledger)([replace(identity, replay_key=replay_key)])) == said


def test_an_empty_store_has_no_data(ledger: Any) -> None:
    """Nothing is invented."""
    assert data_notice(type(ledger)([])) == "no data yet"
