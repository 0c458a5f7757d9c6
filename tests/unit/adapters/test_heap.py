"""The heap of a process that runs for long."""

import gc

from finagent.adapters.heap import settled_heap


def test_what_was_loaded_is_left_alone_until_the_end() -> None:
    assert gc.get_freeze_count() == 0
    with settled_heap():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0
