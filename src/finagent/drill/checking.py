"""The independent checker, asked from outside: a process of its own that shares nothing with the drill."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from finagent.domain.errors import Unavailable

_JUDGED = (0, 3)


async def check_finished(folder: Path, reference: Path | None) -> dict[str, Any]:
    """The checker's document on a replay that must be finished and hold orders, compared with a reference where there is one."""
    return await _check(str(folder), "--complete", *(("--reference", str(reference)) if reference else ()))


async def check_remains(folder: Path) -> dict[str, Any]:
    """The checker's document on what a killed agent left: much may be undone, nothing may be wrong."""
    return await _check(str(folder))


async def _check(folder: str, *options: str) -> dict[str, Any]:
    """Raises Unavailable when the checker gives no document."""
    arguments = ("-m", "finagent_checker", folder, *options, "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await process.communicate()
    if process.returncode not in _JUDGED:
        raise Unavailable(f"the checker could not judge {folder}: {complaint.decode(errors='replace').strip()}")
    found: dict[str, Any] = json.loads(said)
    return found
