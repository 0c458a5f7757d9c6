"""What the driver says of the accelerator's memory; nothing is imported or allocated for that."""

import shutil
import subprocess

from finagent.services.models.accelerator import AcceleratorMemory

_QUERY = ("--query-gpu=memory.free", "--format=csv,noheader,nounits")
_MEBIBYTE = 1 << 20
_ANSWER_SECONDS = 10


def accelerator_memory(inference_reserve: int, headroom: int) -> AcceleratorMemory:
    """Of the first device, as free now; a total of zero where there is none, or its driver does not answer."""
    command = shutil.which("nvidia-smi")
    free = 0
    if command is not None:
        try:
            told = subprocess.run([command, *_QUERY], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True)  # noqa: S603 - a fixed command
            free = int(told.stdout.split()[0]) * _MEBIBYTE
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            free = 0
    return AcceleratorMemory(free, inference_reserve, headroom)
