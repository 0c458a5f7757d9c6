"""The queue's contest is fair: the peers' scripts are untouched, the work is equal, the absent are named, goals are not tuned."""

import hashlib
import json
import runpy
import socket
from pathlib import Path
from typing import Any

import pytest

from finagent.adapters.database import engine, sqlite
from finagent.adapters.database.sqlite import SqliteConnection
from finagent.bench import queue_trials
from finagent.bench.children import Absent, answer
from finagent.bench.contest import AtLeast, Below, Row
from finagent.bench.queue import QueuePart, figures, queue_contest, row
from finagent.bench.queue_loads import run
from finagent.bench.queue_store import Store, payload, relax_writer
from finagent.bench.queue_trials import SCRIPTS, Sizes, servers, trials
from finagent.cli.app import run as command
from finagent.domain.errors import InvariantViolated
from finagent.policies import writer_policy

SMALL = Sizes(jobs=40, drained=200, layer_jobs=20, rate=200, seconds=0.2, finished=300, waiting=300)
# The scripts as they were measured elsewhere: changing one would change the contest.
SHA256 = {
    "b2_layers.py": "1e04873ac58b08da8e30b9270d37b137a3f8615f6d528a970b540f4625a265b0",
    "b3_peers.py": "de5bb9c49795536f119300cc4bac06b7683037c9ba590c35b25c9f4d00678871",
    "b4_proto.py": "c340b21d7b24802ff96a996df7ccb2d5059fe768ed616d53757863527086fe7a",
    "common.py": "4264b92b127c6271dbdc7f3d4c0b7f288789be2cef54b1f32ff4ee0b2508e341",
    "proto.py": "c898fb894b621e4794fc435dc96006aa48a64e0163dd89361b034ddb541ac100",
    "schema.py": "45c122de55ca62c583d176cea9d84c681093363451def5ed3833a1b10ac63500",
    "servers.sh": "55532cef9e70bd6f26e383423f4775130791c3c62b74223edc2ceb7da20d7333",
}


@pytest.mark.parametrize("name", SHA256)
def test_the_peers_scripts_are_as_they_stand(name: str) -> None:
    assert hashlib.sha256((SCRIPTS / name).read_bytes()).hexdigest() == SHA256[name]


def test_ours_enqueues_the_job_that_the_peers_enqueue() -> None:
    theirs = runpy.run_path(str(SCRIPTS / "common.py"))["payload"]

    assert [payload(number) for number in range(3)] == [json.loads(theirs(number)) for number in range(3)]


@pytest.mark.parametrize(
    ("load", "arguments", "keys"),
    [
        ("drain", {"jobs": 200}, {"jobs_per_s", "cpu_us", "operations_per_commit"}),
        (
            "drain",
            {"jobs": 200, "finished": 50, "overrides": ["queue.memory_limit=20"]},
            {"jobs_per_s", "cpu_us", "operations_per_commit"},
        ),
        ("two_phase", {"jobs": 60, "callers": 8}, {"enqueue", "process", "e2e"}),
        ("open_loop", {"rate": 200, "seconds": 0.2}, {"p50_ms", "p95_ms", "p99_ms"}),
        ("start", {"waiting": 50}, {"seconds", "peak_mib"}),
        ("raw", {"jobs": 64}, {"jobs_per_s", "cpu_us", "process", "alone", "eight", "commit_ms"}),
    ],
)
async def test_every_load_ends_and_says_what_it_measured(load: str, arguments: dict[str, Any], keys: set[str]) -> None:
    measured = await run(load, **arguments)

    assert measured.keys() == keys
    assert all(value > 0 for value in measured.values())


def test_only_a_child_that_is_told_so_writes_with_less_than_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store((f"storage.directory={tmp_path}",))

    def synchronous() -> int:
        connection = SqliteConnection(store.path, writer_policy(store.settings))
        ((level,),) = connection.driver.execute("PRAGMA synchronous").fetchall()
        connection.close(sound=True)
        return int(level)

    monkeypatch.setattr(sqlite, "writer_engine", engine.writer_engine)  # put back what relax_writer replaces

    assert synchronous() == 2
    relax_writer("NORMAL")
    assert synchronous() == 1


def test_every_figure_names_trials_that_exist(tmp_path: Path) -> None:
    entered = trials(SMALL, (), tmp_path)

    assert {name for figure in figures(SMALL) for name in figure.trials} == entered.keys()


def test_a_part_runs_alone_and_has_the_documented_form() -> None:
    document = queue_contest(1, [QueuePart.start], sizes=SMALL).as_json()

    assert [part["unit"] for part in document["rows"]] == ["s", "MiB"]
    assert document["absent"] == []
    for part in document["rows"]:
        assert part["ours"] > 0
        assert part["peers"].keys() == {"ours with none"}
        assert part["ratio_to_best_peer"] == pytest.approx(next(iter(part["peers"].values())) / part["ours"])
    assert document["rows"][0]["goals"] == [{"goal": "below 5", "met": True}]
    json.dumps(document, allow_nan=False)


def test_a_peers_figures_come_from_its_script(tmp_path: Path) -> None:
    variables = {"QBENCH_DATA": str(tmp_path), "QBENCH_OUT": str(tmp_path / "out")}
    code = queue_trials._peer("proto-NORMAL", 64)

    measured = answer(["-c", f"import json\n{code}"], SCRIPTS, variables)

    assert measured["e2e"] == pytest.approx(1 / (1 / measured["enqueue"] + 1 / measured["process"]))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import finagent_no_such_peer", "No module named 'finagent_no_such_peer'"),
        ("print('no figures')", "no figures"),
        ("raise SystemExit(7)", "exit code 7"),
    ],
)
def test_who_gives_no_answer_is_absent_with_the_reason(code: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Absent, match=reason):
        answer(["-c", code], tmp_path)


def test_a_server_that_was_there_before_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        monkeypatch.setattr(queue_trials, "SERVER_PORTS", {"Redis": stranger.getsockname()[1]})
        with servers(tmp_path) as absent:
            assert "port of Redis" in absent["streaq"]
    assert list(tmp_path.iterdir()) == []


def test_an_absent_peer_leaves_its_goal_open_and_a_missed_goal_is_shown_as_missed() -> None:
    backlog = next(figure for figure in figures(SMALL) if figure.part is QueuePart.backlog)
    answers: dict[str, list[dict[str, Any]]] = {name: [{"process": 10.0}, {"process": 30.0}] for name in backlog.trials}
    absent = {"pgqueuer": "not installed"}

    measured = row(backlog, answers, absent)

    assert measured.ours == 20.0
    assert "pgqueuer" not in measured.peers
    assert measured.as_json()["goals"] == [
        {"goal": "at least 8x huey", "met": False},
        {"goal": "at least 4x pgqueuer", "met": None},
    ]
    with pytest.raises(InvariantViolated, match="'one caller' failed: out of order"):
        row(backlog, answers, {"one caller": "out of order"})


@pytest.mark.parametrize(
    ("goal", "better", "ours", "met"),
    [
        (AtLeast(2, "p"), "higher", 20.0, True),
        (AtLeast(2, "p"), "higher", 19.0, False),
        (AtLeast(2, "p"), "lower", 5.0, True),
        (AtLeast(2), "higher", 39.0, False),
        (AtLeast(2), "higher", 40.0, True),
        (Below(10), "lower", 10.0, False),
        (Below(10), "lower", 9.9, True),
    ],
)
def test_a_goal_is_met_or_missed_by_the_figures_alone(goal: AtLeast | Below, better: str, ours: float, met: bool) -> None:
    measured = Row("f", "u", better, ours, None, {"p": 10.0, "q": 20.0 if better == "higher" else 5.0}, 5, 0.1, (goal,))

    assert goal.met(measured) is met


@pytest.mark.parametrize("words", [["queue", "--only", "sink"], ["scan", "--only", "drain"]])
def test_an_unknown_part_is_refused_by_name(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["bench", *words]) == 2
    assert words[-1] in capsys.readouterr().err
