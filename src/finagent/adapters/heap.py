"""The heap of a process that runs for long."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled_heap() -> Iterator[None]:
    """What has been loaded by now is no concern of the garbage collector while the block runs.

    A start brings some hundred thousand objects that stay (calendars, frames, settings); walking them again and again is a fifth
    of the processor time of a busy queue, and each walk a pause of many milliseconds. They are not walked a last time either: it
    would find a few megabytes that imports have left, and a start is a recovery that somebody waits for.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
