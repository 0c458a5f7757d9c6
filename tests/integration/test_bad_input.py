"""What a person gets wrong, through the real command: a clear message, the right exit code, nothing lost.

The command runs in this process, but for the disk that fails a commit: such a process ends at once, wherever it is.
"""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration import command
from tests.integration.command import Ended

from finagent.bootstrap import build_application
from finagent.services.reporting.canonical import outcome_hash
from finagent.settings import load_settings

START = (sys.executable, "-m", "finagent.cli")
ONE_DAY = ("market_data.first_session=2008-10-09", "market_data.last_session=2008-10-09", "http.enabled=false")
Here = Callable[..., Ended]
Process = Callable[..., subprocess.CompletedProcess[str]]


def arguments(*words: str, sets: tuple[str, ...]) -> list[str]:
    """The command with `--set` for each setting."""
    return [*words, *(part for one in sets for part in ("--set", one))]


@pytest.fixture
def finagent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def finagent(*words: str, sets: tuple[str, ...] = ONE_DAY) -> Ended:
        return command.finagent(*arguments(*words, sets=(f"storage.directory={tmp_path / 'var'}", *sets)))

    return finagent


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """The same in a process of its own, under `limits`."""

    def process(
        *words: str, sets: tuple[str, ...] = ONE_DAY, limits: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        given = arguments(*words, sets=(f"storage.directory={tmp_path / 'var'}", *sets))
        return subprocess.run(
            [*START, *given], cwd=tmp_path, capture_output=True, text=True, timeout=100, preexec_fn=limits, check=False
        )

    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The outcome of the day when nothing is wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = load_settings(overrides=(f"storage.directory={folder}", *ONE_DAY))

    async def replayed() -> str:
        async with build_application(settings) as application:
            assert await application.run()
            return outcome_hash(application.reads)

    return asyncio.run(replayed())


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("risk.positions_maximum=3", "risk.positions_maximum"),
        ("risk.positions_max=-1", "risk.positions_max"),
        ("risk.daily_loss_fraction_max=.nan", "risk.daily_loss_fraction_max"),
        ("market_data.source=nowhere", "market_data.source"),
        ("risk.positions_max=many", "risk.positions_max"),
        ("schedule=[{name: noon, expression: '61 9 * * *'}]", "noon"),
        ("schedule=[{name: a, expression: '0 10 * * *'}, {name: a, expression: '5 10 * * *'}]", "unique"),
        ("broker.faults.dropped=1.5", "broker.faults.dropped"),
        ("queue.poll_seconds=0", "queue.poll_seconds"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(finagent: Here, tmp_path: Path, setting: str, named: str) -> None:
    """Exit 2, and the key in the message; no folder is made that would then hold a different replay."""
    done = finagent("orchestrate", sets=(*ONE_DAY, setting))

    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("source", ["sample", "simulated"])
def test_an_unknown_symbol_is_named(finagent: Here, source: str) -> None:
    """Exit 2, and what there is instead."""
    done = finagent("orchestrate", sets=(*ONE_DAY, f"market_data.source={source}", "market_data.symbols=[AAPL, TSLA]"))

    assert done.returncode == 2, done.stderr
    assert ("TSLA" in done.stderr and "MSFT" in done.stderr) or "market_data.simulated.symbols" in done.stderr


def test_all_errors_are_told_at_once(finagent: Here) -> None:
    """Two bad keys: both in one message."""
    done = finagent("orchestrate", sets=("risk.positions_max=-1", "plan.valid_minutes=soon"))

    assert done.returncode == 2
    assert "risk.positions_max" in done.stderr
    assert "plan.valid_minutes" in done.stderr


def test_a_missing_settings_file_is_named(finagent: Here) -> None:
    done = finagent("orchestrate", "--settings", "nowhere.yaml")

    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr


def test_a_missing_folder_of_bars_is_named(finagent: Here) -> None:
    done = finagent("orchestrate", sets=(*ONE_DAY, "market_data.source=files:/nowhere/bars"))

    assert done.returncode == 2, done.stderr
    assert "/nowhere/bars" in done.stderr


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("AAA,2008-10-09T04:00:00Z,10,11,9,nan,1000", "close"),
        ("AAA,2008-10-09T04:00:00Z,10,11,9,ten,1000", "close"),
        ("AAA,2008-10-09T04:00:00Z,10,9,11,10,1000", "AAA"),
    ],
)
def test_a_malformed_bar_names_its_symbol_and_column(finagent: Here, tmp_path: Path, row: str, named: str) -> None:
    """A price that is no number, or a high below the low: refused at the edge."""
    bars = tmp_path / "bars.csv"
    bars.write_text(f"symbol,timestamp,open,high,low,close,volume\nAAA,2008-10-08T04:00:00Z,10,11,9,10,1000\n{row}\n")
    done = finagent("orchestrate", sets=(*ONE_DAY, f"market_data.source=files:{bars}"))

    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "AAA" in done.stderr


def test_a_second_instance_is_kept_out(finagent: Here, tmp_path: Path) -> None:
    """Exit 2 naming the holder; the first one is not disturbed."""
    sets = (f"storage.directory={tmp_path / 'var'}", *ONE_DAY, "orchestrate.after_end=serve", "replay.pace=60")
    first = subprocess.Popen(
        [*START, *arguments("orchestrate", "--json", sets=sets)],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert first.stderr is not None
        for line in first.stderr:
            if "start_reconciled" in line:
                break
        second = finagent("orchestrate")
    finally:
        first.terminate()
        first.communicate()

    assert second.returncode == 2, second.stderr
    assert str(first.pid) in second.stderr


def test_a_different_replay_in_the_folder_is_named(finagent: Here) -> None:
    """The same folder with another seed: exit 2 naming the difference; --fresh archives it."""
    finagent("orchestrate", "--json")
    other = finagent("orchestrate", "--json", sets=(*ONE_DAY, "replay.seed=8"))
    fresh = finagent("orchestrate", "--json", "--fresh", sets=(*ONE_DAY, "replay.seed=8"))

    assert other.returncode == 2
    assert "seed" in other.stderr
    assert "--fresh" in other.stderr
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads(fresh.stdout)["outcome_hash"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that takes no writes (root writes where permissions forbid it)."""
    folder = tmp_path / "ro"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        folder.chmod(0o555)
        if os.geteuid() == 0:
            pytest.skip("root without mount: nothing is read-only for it here")
    yield folder
    if not mounted.returncode:
        subprocess.run(["umount", str(folder)], check=True)
    folder.chmod(0o755)


def test_a_read_only_folder_is_unavailable(finagent: Here, read_only: Path) -> None:
    done = finagent("orchestrate", sets=(*ONE_DAY, f"storage.directory={read_only}"))

    assert done.returncode == 4, done.stderr
    assert str(read_only) in done.stderr


def test_a_taken_port_is_unavailable(finagent: Here) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = finagent("orchestrate", sets=(*ONE_DAY[:2], f"http.port={port}"))

    assert done.returncode == 4, done.stderr
    assert str(port) in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be made larger; skips where none may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(process: Process, finagent: Here, small_disk: Path, undisturbed: str) -> None:
    """Exit 4 on a file system without room; with room again the replay goes on to the undisturbed outcome."""
    sets = (*ONE_DAY, f"storage.directory={small_disk}")
    full = process("orchestrate", "--json", sets=sets)
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    resumed = finagent("orchestrate", "--json", sets=sets)

    assert full.returncode == 4, (full.returncode, full.stderr[-2000:])
    assert "full" in full.stderr
    assert json.loads(resumed.stdout)["outcome_hash"] == undisturbed


def test_a_file_that_may_not_grow_loses_nothing(process: Process, finagent: Here, undisturbed: str) -> None:
    """An I/O error in a commit (RLIMIT_FSIZE) leaves its outcome unknown: exit 4, and the next start finds out."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))

    full = process("orchestrate", "--json", limits=small_files)
    resumed = finagent("orchestrate", "--json")

    assert full.returncode == 4, (full.returncode, full.stderr[-2000:])
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert json.loads(resumed.stdout)["outcome_hash"] == undisturbed


def test_an_unknown_id_is_named(finagent: Here) -> None:
    finagent("orchestrate", "--json")
    done = finagent("explain", "dec-nowhere", sets=())

    assert done.returncode == 2, done.stderr
    assert "dec-nowhere" in done.stderr
