"""The HALT file: while it stands in an agent's folder, no new risk leaves."""

import os
from pathlib import Path

from finagent.domain.errors import Unavailable


def write_halt_file(path: Path, text: str) -> None:
    """On the disk before anything else is tried: a power cut does not un-halt."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unavailable(f"the HALT file {path} cannot be written: {error.strerror or error}") from error
