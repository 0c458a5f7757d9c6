"""Real SIGKILLs of a real process in the middle of its commits: nothing acknowledged is lost, nothing happens twice."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

STAGES = ("scan", "score", "plan", "gather", "risk")
ROOTS = 120
KILLS = 10
SEED = 1

# One process imports the program and forks a child a start; a child says each root of which it was told that it is committed.
FORK_SERVER = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.jobs import Next
from finagent.services.failpoints import unarmed

STAGES = ("scan", "score", "plan", "gather", "risk")
NOW = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)

async def trade(path, roots):
    writer_policy = WriterPolicy(5, 100, 500, 0, 4096)
    upgrade(path, writer_policy, unarmed)
    reads = SqliteReads(path)
    queue = SqliteJobQueue(
        path, reads=reads, clock=VirtualClock(NOW), policy=DurableQueuePolicy(16, 10, 5, 10, 30, 500, 2000, 5),
        writer_policy=writer_policy, failpoints=unarmed, build_hash="b", settings_hash="s", worker_id="w",
        carries_market_clock=False,
    )
    await queue.recover()
    waiting = asyncio.Queue(maxsize=10_000)
    idle = asyncio.Event()
    unfinished = 0

    def offer(jobs):
        nonlocal unfinished
        for job in jobs:
            unfinished += 1
            waiting.put_nowait(job)

    async def work():
        nonlocal unfinished
        while True:
            job = await waiting.get()
            root, stage = job.payload["root"], STAGES.index(job.type)
            event = DecisionEvent(SubjectType.DECISION, root, job.type, NOW)
            following = tuple(Next(name, f"{name}:{root}", {"root": root}) for name in STAGES[stage + 1 : stage + 2])
            published = await queue.submit(Effect(next=following, events=(event,)), job)
            unfinished -= 1
            offer(published)
            if not unfinished:
                idle.set()

    async def publish(root):
        offer(await queue.submit(Effect(next=(Next("scan", f"scan:{root}", {"root": str(root)}),))))
        os.write(1, f"{root}\\n".encode())

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(8)]
        for first in range(0, roots, 4):
            await asyncio.gather(*(publish(root) for root in range(first, first + 4)))
        while queue.counts()["DONE"] < roots * len(STAGES):
            offer(await queue.claim(NOW, 16))
            idle.clear()
            if unfinished:
                await idle.wait()
        for worker in workers:
            worker.cancel()
    await queue.close()

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        with DatabaseLock(Path(sys.argv[1])):
            asyncio.run(trade(Path(sys.argv[1]), int(sys.argv[2])))
        os._exit(0)
    os.write(1, f"pid {child}\\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(1, f"end {os.waitstatus_to_exitcode(status)}\\n".encode())
"""


class Agents:
    """Starts one agent after the other on the same store; remembers every acknowledged root."""

    def __init__(self, database: Path, server: "subprocess.Popen[str]") -> None:
        self.database, self._server = database, server
        self.acknowledged: set[int] = set()

    def start(self, kill_after: int | None) -> int:
        """Run one agent, killed as soon as it has acknowledged so many roots; its exit code."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write("start\n")
        self._server.stdin.flush()
        pid, said = 0, 0
        for line in self._server.stdout:
            word, _, number = line.strip().partition(" ")
            if word == "end":
                return int(number)
            if word == "pid":
                pid = int(number)
                continue
            self.acknowledged.add(int(word))
            said += 1
            if said == kill_after:
                os.kill(pid, signal.SIGKILL)
        raise AssertionError("the fork server ended")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@pytest.mark.drill
def test_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    database = tmp_path / "finagent.db"
    draw = Random(SEED)
    command = [sys.executable, "-c", FORK_SERVER, str(database), str(ROOTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        agents = Agents(database, server)
        for _ in range(KILLS):
            assert agents.start(kill_after=draw.randint(1, ROOTS)) == -signal.SIGKILL
            assert agents.rows("PRAGMA integrity_check") == [("ok",)]
            kept = {int(key.partition(":")[2]) for (key,) in agents.rows("SELECT dedup_key FROM job_queue WHERE type = 'scan'")}
            assert agents.acknowledged <= kept, "an acknowledged job was lost"
        assert agents.start(kill_after=None) == 0
        assert server.stdin is not None
        server.stdin.close()

    assert agents.acknowledged == set(range(ROOTS))
    assert agents.rows("SELECT status, count(*) FROM job_queue GROUP BY status") == [("DONE", ROOTS * len(STAGES))]
    story = agents.rows("SELECT subject_id, group_concat(kind) FROM (SELECT * FROM decision_event ORDER BY event_id) GROUP BY 1")
    assert Counter(kinds for _, kinds in story) == {",".join(STAGES): ROOTS}, "each stage of each root happened once, in order"
    ((rescued,),) = agents.rows("SELECT sum(crashes > 0) FROM job_queue")
    assert rescued >= KILLS, "kills that meet no running job prove nothing"
