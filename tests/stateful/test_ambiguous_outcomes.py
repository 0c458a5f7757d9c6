"""Hundreds of sends without an answer: none lost, doubled, taken for refused or left in doubt. The long form is a proof."""

import asyncio
from pathlib import Path

import pytest
from tests.stateful.ambiguous_outcomes import DECISIONS_A_DAY, Tally, day

WANTED = 150
DAYS_MAX = 20


@pytest.mark.parametrize("forever", [True, False], ids=["used once", "used while open"])
def test_what_becomes_of_a_send_without_an_answer_is_found_out(tmp_path: Path, forever: bool) -> None:
    total = Tally()
    for seed in range(DAYS_MAX):
        folder = tmp_path / str(seed)
        folder.mkdir()
        total += asyncio.run(day(folder, DECISIONS_A_DAY, seed, forever=forever))
        if total.ambiguous >= WANTED:
            break
    assert total.wrong == 0, total
    assert total.ambiguous >= WANTED
