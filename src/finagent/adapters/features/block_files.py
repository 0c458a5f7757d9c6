"""FeatureStore in a folder, a file a block."""

import asyncio
from contextlib import suppress
from pathlib import Path

from finagent.adapters.features.blocks import decoded, encoded
from finagent.domain.bars import Floats
from finagent.domain.errors import Transient
from finagent.domain.ports.feature_store import FeatureKey

SUFFIX = ".features"


class FeatureFiles:
    """The last `blocks_max` blocks that were written; older ones are removed."""

    def __init__(self, folder: Path, blocks_max: int) -> None:
        self._folder, self._blocks_max = folder, blocks_max

    async def read(self, key: FeatureKey) -> Floats | None:
        return await asyncio.to_thread(self._read, key)

    async def write(self, key: FeatureKey, values: Floats) -> None:
        await asyncio.to_thread(self._write, key, values)

    def _read(self, key: FeatureKey) -> Floats | None:
        try:
            return decoded(key, self._file(key).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Transient(f"{self._file(key)} cannot be read: {error.strerror}") from error

    def _write(self, key: FeatureKey, values: Floats) -> None:
        file = self._file(key)
        making = file.with_name(f".{file.name}.new")  # of whoever writes it: the bytes are the same
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            making.write_bytes(encoded(key, values))
            making.replace(file)
            self._forget_oldest()
        except OSError as error:
            with suppress(OSError):
                making.unlink()
            raise Transient(f"{file} cannot be written: {error.strerror}") from error

    def _forget_oldest(self) -> None:
        kept = sorted(self._folder.rglob(f"*{SUFFIX}"), key=lambda file: (file.stat().st_mtime_ns, file.name))
        for file in kept[: max(0, len(kept) - self._blocks_max)]:
            file.unlink(missing_ok=True)

    def _file(self, key: FeatureKey) -> Path:
        return self._folder / key.timeframe / key.data_spec_hash / key.source / f"{key.day.isoformat()}{SUFFIX}"
