"""The independent checker, asked from outside: a process of its own that shares nothing with the drill."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from finagent.domain.errors import Unavailable

_DOCUMENT_BYTES_MAX = 64 * 1024 * 1024


class Checker:
    """A resident `python -m finagent_checker --serve`: one folder after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._questions, self._answers = process.stdin, process.stdout
        self._turn = asyncio.Lock()

    async def check_finished(self, folder: Path, reference: Path | None) -> dict[str, Any]:
        """The document on a replay that must be finished and hold orders, compared with a reference where there is one."""
        return await self._check(folder, reference=str(reference) if reference else None, complete=True)

    async def check_remains(self, folder: Path) -> dict[str, Any]:
        """The document on what a killed agent left: much may be undone, nothing may be wrong."""
        return await self._check(folder)

    async def _check(self, folder: Path, **options: Any) -> dict[str, Any]:
        """Raises Unavailable when the checker gives no document."""
        async with self._turn:
            self._questions.write(json.dumps({"folder": str(folder), **options}).encode() + b"\n")
            await self._questions.drain()
            answer = await self._answers.readline()
        found: dict[str, Any] = json.loads(answer) if answer else {"missing": "the checker ended"}
        if "missing" in found:
            raise Unavailable(f"the checker could not judge {folder}: {found['missing']}")
        return found


@asynccontextmanager
async def resident_checker() -> AsyncIterator[Checker]:
    """Start the checker; it ends with its input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "finagent_checker", "--serve",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_DOCUMENT_BYTES_MAX,
    )  # fmt: skip
    try:
        yield Checker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
