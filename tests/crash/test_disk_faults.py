"""What a disk can do to a store, one fault of the catalogue after the other: nothing that was acknowledged is lost unseen.

A real agent runs a day of the sample and writes down what its callers were told; then its files, or its system calls, go wrong.
F-05 is in `test_power_loss.py`; a writer that meets a full disk (F-10) also in `tests/unit/adapters/database/test_writer.py`.
"""

import asyncio
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import yaml

from finagent.adapters.database.writer import EXIT_CODE_UNKNOWN_OUTCOME
from finagent.api.resident import resident
from finagent.bootstrap import Application, build_application
from finagent.domain.chance import uniform
from finagent.domain.effect import Effect
from finagent.domain.errors import Transient
from finagent.domain.jobs import Next
from finagent.domain.trading_state import MarketClock
from finagent.drill.acknowledged import Promises
from finagent.drill.image import Verdict, judge
from finagent.services.progress import Onlookers
from finagent.settings import Settings, load_settings
from finagent_checker.check import check_folder

ROOT = Path(__file__).parents[2]
DAY = "2008-10-07"
SETS = (
    f"market_data.first_session={DAY}",
    f"market_data.last_session={DAY}",
    "http.enabled=false",
    "database.wal_autocheckpoint_pages=20",  # many checkpoints in a short day
)
CLEAN = Verdict([], [], [])
KILLED_AFTER = 33  # of the 38 commits of effects of the day: orders are there, and a log that was written over many times
FRAME_BYTES = 24 + 4096
pytestmark = [pytest.mark.drill, pytest.mark.timeout(300)]

AGENT = """
import asyncio, os, signal, sys
from pathlib import Path
from finagent.bootstrap import Wraps, build_application
from finagent.domain.errors import Unavailable
from finagent.drill.acknowledged import AcknowledgementLog
from finagent.settings import load_settings

def killer(after):
    passed = []
    def failpoints(label):
        passed.append(label)
        if after and passed.count("effect_commit.after") == after:
            os.kill(os.getpid(), signal.SIGKILL)
    return failpoints

async def main(folder, kill_after, *sets):
    settings = load_settings(overrides=(f"storage.directory={folder / 'storage'}", *sets))
    wraps = Wraps(queue=lambda queue: AcknowledgementLog(queue, folder / "acknowledged"))
    async with build_application(settings, failpoints=killer(kill_after), wraps=wraps) as application:
        print("started", flush=True)
        await application.run()

try:
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
except Unavailable as error:
    print(error)
    sys.exit(4)
"""


def agent(
    folder: Path, *sets: str, kill_after: int = 0, under: tuple[str, ...] = (), stderr: int = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """The agent on the folder; `under` a command such as a tracer."""
    folder.mkdir(exist_ok=True)
    command = [*under, sys.executable, "-c", AGENT, str(folder), str(kill_after), *SETS, *sets]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)


def settings_of(folder: Path, *sets: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder / 'storage'}", *SETS, *sets))


def promises_of(folder: Path) -> Promises:
    log = folder / "acknowledged"
    return Promises(log.read_bytes().splitlines() if log.exists() else ())


def verdict_on(folder: Path, promises: Promises) -> Verdict:
    """Start the agent on what is in the folder, stop it again, and look for what was promised."""
    return asyncio.run(judge(folder / "storage", promises, promises.lines, partial(build_application, settings_of(folder))))


def finish(folder: Path) -> None:
    """Start the agent on the folder and let it go on to the end of the day."""

    async def run() -> None:
        async with build_application(settings_of(folder)) as application:
            assert await application.run()

    asyncio.run(run())


def ends_as(folder: Path, reference: Path) -> bool:
    """Whether the day of the folder ended, row by row, like the undisturbed one."""
    found = check_folder(folder / "storage", reference / "storage")
    return found.finished and found.violations == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day that nothing went wrong in."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed agent leaves: the database, a log with commits that are in no other file, its index, the broker's files."""
    folder = tmp_path_factory.mktemp("killed")
    process = agent(folder, kill_after=KILLED_AFTER)
    process.communicate(timeout=100)
    assert process.returncode == -9
    assert (folder / "storage" / "finagent.db-wal").stat().st_size > FRAME_BYTES
    return folder


@pytest.fixture
def copy(killed: Path, tmp_path: Path) -> Path:
    """The killed agent's folder, to be damaged."""
    shutil.copytree(killed, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_a_kill_leaves_is_whole(copy: Path, undisturbed: Path) -> None:
    """The ground that the other tests stand on."""
    promises = promises_of(copy)

    assert promises.told(promises.lines) >= KILLED_AFTER - 1
    assert verdict_on(copy, promises) == CLEAN
    finish(copy)
    assert ends_as(copy, undisturbed)


# -- system calls that fail --------------------------------------------------------------------------------------------------

# A thread counts its own calls, on the named files. The migration makes 7 syncs and 223 writes in its thread; the writer makes 69
# syncs and 470 writes of the log, all of them in commits where no checkpoint comes.
NO_CHECKPOINT = "database.wal_autocheckpoint_pages=1000"
LOG = ("finagent.db-wal",)
FAILING = {
    "migration_sync": ("fdatasync", "EIO", 2, ("finagent.db", "finagent.db-wal", "finagent.db-journal")),
    "first_commit_sync": ("fdatasync", "EIO", 4, LOG),
    "commit_sync": ("fdatasync", "EIO", 30, LOG),
    "commit_sync_without_room": ("fdatasync", "ENOSPC", 55, LOG),
    "log_write": ("pwrite64", "EIO", 300, LOG),
    "log_write_read_only": ("pwrite64", "EROFS", 400, LOG),
}


def failing(folder: Path, call: str, error: str, number: int, files: tuple[str, ...]) -> tuple[str, ...]:
    """strace, set to let one call fail."""
    paths = [part for file in files for part in ("-P", str(folder / "storage" / file))]
    fault = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
    return ("strace", "-f", "-qq", "-o", str(folder / "trace"), *paths, *fault)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, strace: str) -> Iterator[dict[str, tuple[Path, "subprocess.Popen[str]"]]]:
    """All agents at once. The log of one of them is on a full disk, too (F-11): it must end no less."""
    place = tmp_path_factory.mktemp("failing").resolve()
    running = {}
    with Path("/dev/full").open("w") as full:
        for name, fault in FAILING.items():
            stderr = full.fileno() if name == "commit_sync_without_room" else subprocess.PIPE
            process = agent(place / name, NO_CHECKPOINT, under=failing(place / name, *fault), stderr=stderr)
            running[name] = (place / name, process)
    yield running
    for _, process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", FAILING)
def test_a_write_or_sync_that_fails_ends_the_process_and_loses_nothing(
    failed: dict[str, tuple[Path, "subprocess.Popen[str]"]], undisturbed: Path, name: str
) -> None:
    """F-13, and F-12 for a file that turned read-only: nobody is told of a commit that may not be on the disk, nothing is tried
    again in that process, and the next start is whole."""
    folder, process = failed[name]
    said, complaint = process.communicate(timeout=200)

    assert "INJECTED" in (folder / "trace").read_text()
    assert process.returncode == EXIT_CODE_UNKNOWN_OUTCOME, complaint
    if name == "migration_sync":
        assert "cannot write the database" in said
    elif name != "commit_sync_without_room":
        assert "database writer stopped: COMMIT: disk I/O error" in complaint
    assert verdict_on(folder, promises_of(folder)) == CLEAN
    finish(folder)
    assert ends_as(folder, undisturbed)


def test_a_sync_that_fails_in_a_checkpoint_costs_nothing(tmp_path: Path, undisturbed: Path, strace: str) -> None:
    """F-13: the pages stay in the log until a checkpoint has written and synced all of them, so the agent goes on."""
    folder = tmp_path.resolve() / "checkpoint"
    process = agent(folder, under=failing(folder, "fdatasync", "EIO", 4, ("finagent.db",)))
    _, complaint = process.communicate(timeout=200)

    assert "INJECTED" in (folder / "trace").read_text()
    assert process.returncode == 0, complaint
    assert verdict_on(folder, promises_of(folder)) == CLEAN
    assert ends_as(folder, undisturbed)


# -- no room, and no right to write ------------------------------------------------------------------------------------------

OWN_DISK = """
mount -t tmpfs -o size=1m tmpfs {disk}
ln -s {kept}/acknowledged {disk}/acknowledged
{agent}; echo "full: $?"
mount -o remount,ro {disk}
{agent}; echo "read-only: $?"
mount -o remount,rw,size=64m {disk}
{agent}; echo "room: $?"
cp -r {disk}/storage {kept}
"""


def test_an_agent_on_a_full_or_read_only_disk_stops_and_goes_on_when_there_is_room(tmp_path: Path, undisturbed: Path) -> None:
    """F-10, F-11 and F-12 on a real file system: the story of a decision is in the transaction of the decision, so where it finds
    no room nothing is traded; the agent ends with 4, says why, and the next start goes on as if nothing had happened."""
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a file system of their own")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    command = shlex.join([sys.executable, "-c", AGENT, str(disk), "0", *SETS, NO_CHECKPOINT])
    script = OWN_DISK.format(disk=disk, kept=kept, agent=command)
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200, check=True
    )

    said = [line for line in ended.stdout.splitlines() if line != "started"]
    codes = {line.partition(": ")[0]: line for line in said}
    assert codes["full"] == "full: 4", ended.stderr
    assert codes["read-only"] == "read-only: 4"
    assert codes["room"] == "room: 0", ended.stderr
    assert any("disk full: no room to write" in line for line in said)
    assert any("Read-only file system" in line for line in said)
    assert verdict_on(kept, promises_of(kept)) == CLEAN
    assert ends_as(kept, undisturbed)


def test_a_log_without_room_is_lost_and_nothing_else_is(tmp_path: Path, undisturbed: Path) -> None:
    """F-11: every line that the real command says goes to a full disk."""
    sets = [part for each in (f"storage.directory={tmp_path / 'storage'}", *SETS) for part in ("--set", each)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "finagent.cli", "orchestrate", "--json", *sets],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=full,
            timeout=100,
            check=False,
        )

    assert ended.returncode == 0
    assert ends_as(tmp_path, undisturbed)


# -- files that are damaged --------------------------------------------------------------------------------------------------


def jobs_in(database: Path, *, check: bool) -> list[tuple[int, str]]:
    """Read by a connection that changes nothing but the log's index."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        if check:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT id, status FROM job_queue ORDER BY id").fetchall()


def end_of(log: bytes) -> int:
    """Where the frames end that count: those behind them are left from before the log was last begun anew, with another salt."""
    end = 32
    while log[end + 8 : end + 16] == log[16:24]:
        end += FRAME_BYTES
    return end


def test_a_torn_log_loses_the_commit_that_it_tears_and_no_other(copy: Path) -> None:
    """F-14: the log is cut short by each number of bytes of its last frame. No power cut tears a commit that a sync covers; where
    it is torn, the commit is lost whole, the file is sound, and only a witness outside can tell (F-15)."""
    database = copy / "storage" / "finagent.db"
    log, index = database.with_name("finagent.db-wal"), database.with_name("finagent.db-shm")
    whole, size = jobs_in(database, check=True), end_of(log.read_bytes())
    found = []
    for cut in range(1, FRAME_BYTES + 1):
        os.truncate(log, size - cut)
        index.unlink(missing_ok=True)
        found.append(jobs_in(database, check=cut % 512 == 1))

    assert whole not in found
    assert all(each == found[0] for each in found)
    promises = promises_of(copy)
    verdict = verdict_on(copy, promises)
    assert verdict.corrupt == []
    told = promises.told(promises.lines)
    assert {line.partition(":")[0] for line in verdict.lost} <= {f"acknowledgement {told} of {told}"}


def test_a_changed_bit_in_the_story_of_a_decision_is_found(copy: Path) -> None:
    """F-16: SQLite checks the form of a page, not its contents; the chains of events do."""
    assert verdict_on(copy, promises_of(copy)) == CLEAN  # the log is folded into the file now
    database = copy / "storage" / "finagent.db"
    with closing(sqlite3.connect(database)) as connection:
        events = connection.execute("SELECT body FROM decision_event WHERE length(body) > 20 ORDER BY event_id").fetchall()
    sound = database.read_bytes()
    for number, (body,) in enumerate(events[:: len(events) // 10]):
        place = sound.index(body.encode()) + int(uniform(1, "bit", number) * len(body))
        damaged = bytearray(sound)
        damaged[place] ^= 1
        database.write_bytes(damaged)

        assert jobs_in(database, check=True)
        assert {violation.invariant.value for violation in check_folder(copy / "storage").violations} == {"I7"}


def test_a_damaged_index_of_the_log_is_made_anew(copy: Path, undisturbed: Path) -> None:
    """F-17: the process is down, and its shared memory file holds anything."""
    index = copy / "storage" / "finagent.db-shm"
    index.write_bytes(bytes(int(uniform(1, "index", place) * 256) for place in range(index.stat().st_size)))

    assert verdict_on(copy, promises_of(copy)) == CLEAN
    finish(copy)
    assert ends_as(copy, undisturbed)


# -- other programs on the file ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(folder: Path, *sets: str) -> AsyncIterator[Application]:
    async with build_application(settings_of(folder, *sets)) as application:
        yield application


def ballast(number: int) -> Effect:
    return Effect(next=(Next("score", f"ballast-{number}", {"text": "x" * 20_000}, run_at=datetime(2030, 1, 1, tzinfo=UTC)),))


async def test_a_foreign_writer_is_waited_for_and_the_loop_goes_on(tmp_path: Path) -> None:
    """F-19: a shell holds the write lock; it gives it back only because the loop still turns."""
    async with opened(tmp_path) as application:
        with closing(sqlite3.connect(tmp_path / "storage" / "finagent.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            waiting = asyncio.ensure_future(application.queue.submit(ballast(1)))
            for _ in range(100):
                await asyncio.sleep(0.002)
                assert application.reads.get(MarketClock, 1) is not None
            assert not waiting.done()
            shell.execute("ROLLBACK")
            assert await waiting == []


async def test_a_foreign_writer_that_stays_is_reported_and_nothing_is_lost(tmp_path: Path, undisturbed: Path) -> None:
    """F-19: the wait has an end; whoever waited is told that nothing was stored, and the same process goes on afterwards."""
    async with opened(tmp_path, "database.busy_timeout_seconds=0.1") as application:
        with closing(sqlite3.connect(tmp_path / "storage" / "finagent.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(Transient, match="another program holds the write lock"):
                await application.queue.submit(ballast(1))
            shell.execute("ROLLBACK")
        assert await application.run()
    assert ends_as(tmp_path, undisturbed)


async def test_a_reader_that_stays_makes_the_log_grow_and_the_agent_says_so(tmp_path: Path) -> None:
    """F-20: the log cannot be written over while somebody reads an old state; its size is a metric, and an alert watches it."""
    log = tmp_path / "storage" / "finagent.db-wal"
    interrupted = asyncio.Event()
    async with resident(settings_of(tmp_path), Onlookers(), interrupted, serve_http=False) as agent:
        queue = agent.application.queue

        async def grown_by(first: int) -> int:
            before = log.stat().st_size
            for number in range(first, first + 20):
                await queue.submit(ballast(number))
            agent.refresh_gauges()
            shown = agent.metrics.registry.get_sample_value("finagent_wal_bytes")
            assert shown == log.stat().st_size
            return log.stat().st_size - before

        await grown_by(0)
        assert await grown_by(100) == 0
        with closing(sqlite3.connect(tmp_path / "storage" / "finagent.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM job_queue").fetchall()
            assert await grown_by(200) > 20 * 20_000
            reader.execute("ROLLBACK")
        await queue.submit(ballast(300))
        assert await grown_by(301) == 0
    alerts = yaml.safe_load((ROOT / "dashboards" / "prometheus" / "alerts.yml").read_text())
    rules = {rule["alert"]: rule for group in alerts["groups"] for rule in group["rules"]}
    assert rules["WriteAheadLogGrows"]["expr"] == f"finagent_wal_bytes > {256 * 1024 * 1024}"
