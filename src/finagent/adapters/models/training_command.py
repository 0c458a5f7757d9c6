"""`finagent models train` beside an agent: a process of low priority that ends with it, and what such commands have left."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finagent.adapters.durable_files import append_file
from finagent.domain.errors import Permanent, Transient
from finagent.services.scheduling.scheduled_training import TrainingsEnded

OUTCOMES, SETTINGS, LOG = "outcomes.jsonl", "settings.json", "scheduled.log"
_REFUSED, _UNAVAILABLE = 2, 4  # exit codes of commands
_TAIL_BYTES = 64 << 10


def note_ended(folder: Path, ended: TrainingsEnded) -> None:
    """On the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    append_file(folder / OUTCOMES, json.dumps(asdict(ended)).encode() + b"\n")


def commands_ended(folder: Path, count: int) -> tuple[TrainingsEnded, ...]:
    """The last so many, the oldest first. Half a line, of whoever was killed in it, is none."""
    lines = _tail(folder / OUTCOMES).split(b"\n")[:-1]
    found = []
    for line in lines[-count:]:
        with contextlib.suppress(ValueError, TypeError):
            found.append(TrainingsEnded(**json.loads(line)))
    return tuple(found)


@dataclass
class TrainingCommand:
    """TrainingRunner. `settings` are those of the agent in JSON, `overrides` what an entry of the schedule sets instead;
    `environment` does not contradict them."""

    folder: Path
    settings: str
    overrides: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, str]
    nice: int
    running: dict[str, Process] = field(default_factory=dict, init=False)

    async def ended(self, version: str) -> TrainingsEnded | None:
        told = await asyncio.to_thread(commands_ended, self.folder, sys.maxsize)
        return next((each for each in reversed(told) if each.version == version), None)

    async def keep_running(self, entry: str, version: str) -> None:
        process = self.running.get(version)
        if process is None:
            self.running[version] = await self._started(entry, version)
        elif process.returncode is not None:
            del self.running[version]
            if process.returncode == _REFUSED:
                raise Permanent(f"training {version}: {await asyncio.to_thread(self._said)}")
            if process.returncode > 0 and process.returncode != _UNAVAILABLE:
                raise Transient(f"training {version} ended with {process.returncode}: {await asyncio.to_thread(self._said)}")

    async def close(self) -> None:
        """What has run goes on when it is asked for again."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self.running.clear()

    async def _started(self, entry: str, version: str) -> Process:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / SETTINGS
        file.touch(mode=0o600)  # an address may hold a password
        file.write_text(self.settings)
        name, _, number = version.partition("@")
        words = ["-m", "finagent.cli", "models", "train", name, number, "--register", "--json", "--settings", str(file)]
        words += [word for each in self.overrides[entry] for word in ("--set", each)]
        ends_with_us = ("setpriv", "--pdeathsig", "KILL")
        command = ("nice", "-n", str(self.nice), *ends_with_us, sys.executable, *words)
        said = os.open(self.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=DEVNULL, stderr=said, env=dict(self.environment)
            )
        finally:
            os.close(said)

    def _said(self) -> str:
        lines = _tail(self.folder / LOG).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _tail(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - _TAIL_BYTES, 0))
            return stream.read()
    except FileNotFoundError:
        return b""
