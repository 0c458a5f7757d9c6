"""I6: whichever way somebody halts, in the middle of sends and also while the loop stalls, nothing begins to leave after it.

How long after the halt the broker may still see what had begun (100 ms) is measured by the long form, which is a proof: here
other tests keep the machine busy.
"""

import asyncio
from pathlib import Path

from tests.stateful.halt_presses import pressed

PRESSES = 8  # every way, with and without a stall


def test_no_send_begins_after_a_halt(tmp_path: Path) -> None:
    total = asyncio.run(pressed(tmp_path, PRESSES, seed=1))

    assert (total.presses, total.stalled, total.begun_after) == (PRESSES, PRESSES // 2, 0)
    assert total.sent > 0
    assert total.kept_back > 0
