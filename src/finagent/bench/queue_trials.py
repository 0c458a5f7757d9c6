"""Who takes part in `finagent bench queue`: our loads, the peers' scripts as they stand, and the servers that some of them need.

A further contestant is one more line in `trials`: a name, and a call that returns its figures.
"""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finagent.bench.children import answer
from finagent.bench.peers import FOLDER

SCRIPTS = FOLDER / "queue" / "peers"
# What the peers' scripts connect to. They empty both servers: never one that was there before us.
SERVER_PORTS = {"PostgreSQL": 55433, "Redis": 56380}
POSTGRES = "one caller PostgreSQL"
ON_SERVER = (
    f"storage.url=postgresql://postgres@127.0.0.1:{SERVER_PORTS['PostgreSQL']}/finagent_bench",
    "queue.backend=postgres",
)
CARRIED = "carried by Redis"
BY_REDIS = (ON_SERVER[0], "queue.backend=redis", f"queue.redis.url=redis://127.0.0.1:{SERVER_PORTS['Redis']}/0")
ON_POSTGRES = ("pgqueuer", "pgqueuer-async", "procrastinate")
ON_REDIS = ("arq", "streaq")
EMBEDDED = ("huey", "persist-queue", "litequeue")

Trial = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work a trial is."""

    jobs: int = 2000  # as many as the peers' script was measured with
    drained: int = 10_000
    layer_jobs: int = 500
    rate: int = 1000
    carried_rate: int = 100
    seconds: float = 3.0
    finished: int = 200_000
    waiting: int = 100_000


def trials(sizes: Sizes, overrides: Sequence[str], scratch: Path) -> dict[str, Trial]:
    """Name -> one measurement."""

    def ours(load: str, *more: str, **arguments: Any) -> Trial:
        wanted = json.dumps({"load": load, "overrides": [*overrides, *more], **arguments})
        return partial(answer, ["-m", "finagent.bench.queue_loads", wanted], scratch)

    def script(code: str) -> Trial:
        variables = {"QBENCH_DATA": str(scratch / "peers"), "QBENCH_OUT": str(scratch / "peers.jsonl")}
        return partial(answer, ["-c", f"import asyncio, json\n{code}"], SCRIPTS, variables)

    def proto(backend: str) -> Trial:
        return script(  # what it imports while it runs would count as its work
            "import time, sqlalchemy.ext.asyncio\nfrom b4_proto import drain\n"
            f"run = drain({sizes.drained}, backend='{backend}', sync='FULL', bulk='many')\n"
            "busy = time.process_time()\nfigures = asyncio.run(run)[1]\n"
            f"figures['cpu_us'] = (time.process_time() - busy) / {sizes.drained} * 1e6\nprint(json.dumps(figures))"
        )

    return {
        "drain": ours("drain", jobs=sizes.drained),
        "drain with history": ours("drain", jobs=sizes.drained, finished=sizes.finished),
        "one caller": ours("two_phase", jobs=sizes.jobs, callers=1),
        "one caller NORMAL": ours("two_phase", jobs=sizes.jobs, callers=1, synchronous="NORMAL"),
        POSTGRES: ours("two_phase", *ON_SERVER, jobs=sizes.jobs, callers=1),
        "8 callers": ours("two_phase", jobs=sizes.jobs, callers=8),
        "8 callers NORMAL": ours("two_phase", jobs=sizes.jobs, callers=8, synchronous="NORMAL"),
        "open loop": ours("open_loop", rate=sizes.rate, seconds=sizes.seconds),
        CARRIED: ours("carried", *BY_REDIS, rate=sizes.carried_rate, seconds=sizes.seconds),
        "start": ours("start", waiting=sizes.waiting),
        "start of an empty queue": ours("start", waiting=0),
        "raw": ours("raw", jobs=sizes.jobs),
        "raw NORMAL": ours("raw", jobs=sizes.jobs, synchronous="NORMAL"),
        "proto.py sa": proto("sa"),
        "proto.py sqlite3": proto("sqlite3"),
        "proto.py open loop": script(
            f"from b4_proto import open_loop\nrun = open_loop({sizes.rate}, {sizes.seconds}, backend='sqlite3', sync='FULL', "
            "bulk='many')\nprint(json.dumps(asyncio.run(run)['start']))"
        ),
        "AsyncSession per job": script(
            f"from b2_layers import Res, fresh, l_orm_async\nfigures = Res()\n"
            f"l_orm_async(fresh('layers'), 'FULL', {sizes.layer_jobs}, 1, figures)\n"
            "print(json.dumps({'jobs_per_s': 1e6 / sum(figures.values())}))"
        ),
        **{name: script(_peer(name, sizes.jobs)) for name in (*EMBEDDED, *ON_POSTGRES, *ON_REDIS)},
    }


def _peer(name: str, jobs: int) -> str:
    return (
        f"import b3_peers\nenqueue, process, _ = b3_peers.CASES['{name}']({jobs})\n"
        "print(json.dumps({'enqueue': enqueue, 'process': process, 'e2e': 1 / (1 / enqueue + 1 / process)}))"
    )


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """A PostgreSQL and a Redis of our own while the block runs, where they are installed and we are root; which peers cannot take
    part, with the reason."""
    taken = [name for name, port in SERVER_PORTS.items() if _answers(port)]
    if taken:
        reason = f"another server has the port of {' and '.join(taken)}, and the script would empty it"
        yield dict.fromkeys((*ON_POSTGRES, *ON_REDIS, POSTGRES, CARRIED), reason)
        return
    try:
        _servers("start", folder)
        yield {}
    finally:
        _servers("stop", folder)


def _servers(act: str, folder: Path) -> None:
    subprocess.run(  # noqa: S603 a script of this repository
        ["env", f"QBENCH_HOME={folder}", str(SCRIPTS / "servers.sh"), act],  # noqa: S607 env is where the system has it
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
