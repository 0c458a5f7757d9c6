"""Reports as files in a folder."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from finagent.domain.errors import Unavailable


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Writes whole files: a reader sees the old page or the new one, never a part. Raises Unavailable where it cannot write."""

    folder: Path

    def write(self, name: str, text: str) -> str:
        """Replace `name` in the folder and return its path."""
        path = self.folder / name
        half_written = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            half_written.write_text(text, encoding="utf-8")
            half_written.replace(path)
        except OSError as error:
            with suppress(OSError):
                half_written.unlink()
            raise Unavailable(f"the report cannot be written to {path}: {error.strerror or error}") from error
        return str(path)
