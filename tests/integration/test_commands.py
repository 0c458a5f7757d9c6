"""The commands against real stores and real processes: what is printed, what is recorded, how it ends."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from tests.integration.command import finagent

from finagent.cli.app import run
from finagent.domain.risk import RiskCode

WINDOW = ("--set", "market_data.first_session=2008-10-13", "--set", "market_data.last_session=2008-10-14")
START = (sys.executable, "-m", "finagent.cli")
PATIENCE_SECONDS = 60


def of(folder: Path) -> tuple[str, ...]:
    return (*WINDOW, "--set", f"storage.directory={folder}", "--set", "http.port=0")


class Agent:
    """A running `finagent` process whose stderr is read as it comes."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([*START, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stderr that matches."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            line = self._lines.get(timeout=PATIENCE_SECONDS)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"no line like {pattern!r} in {self.said}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put("(stderr closed)")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a finished replay of two sessions, and the document it printed."""
    folder = tmp_path_factory.mktemp("replayed")
    answer = finagent("orchestrate", "--json", *of(folder))
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(answer.stdout)


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON document of a command run in this process."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_final_document_has_the_names_of_the_interface(replayed: tuple[Path, dict[str, Any]]) -> None:
    """Source, notice, counts, money, hash, report and how long it took; the report is where it says."""
    _, final = replayed

    assert final["notice"] == "real daily bars, simulated intraday path"
    assert final["sessions"] == 2
    assert final["candidates"] == sum(final["outcomes"].values()) > 3
    assert final["outcomes"]["FILLED"] == sum(final["exits"].values()) > 0
    assert final["orders"] >= final["outcomes"]["FILLED"]
    assert final["fills"] >= 2 * final["outcomes"]["FILLED"]
    assert float(final["end_equity"]) - float(final["start_equity"]) == pytest.approx(float(final["pnl"]))
    assert re.fullmatch(r"[0-9a-f]{64}", final["outcome_hash"])
    assert final["recovered"] is None
    assert final["duration_seconds"] > 0
    assert Path(final["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_finished_replay_prints_its_report_again(replayed: tuple[Path, dict[str, Any]]) -> None:
    """The same result, quickly, and the word that it had finished; nothing is traded again."""
    folder, final = replayed
    again = finagent("orchestrate", "--json", *of(folder))

    told = json.loads(again.stdout)
    assert again.returncode == 0
    assert told["recovered"]["finished"] is True
    assert {name: told[name] for name in ("outcome_hash", "orders", "fills", "pnl")} == {
        name: final[name] for name in ("outcome_hash", "orders", "fills", "pnl")
    }


def test_the_risk_of_a_finished_replay_and_of_an_instant_in_it(replayed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Flat at the end, with the instant to ask for; there, the position with its value at risk, in a page where it is wanted."""
    folder, final = replayed
    flat = json.loads(finagent("risk", "report", "--json", *of(folder)).stdout)
    (note,) = flat["notes"]
    busy = re.search(r"largest at (\S+),", note)
    assert busy is not None
    page = tmp_path / "risk.html"
    asked = finagent("risk", "report", "--at", busy.group(1), "--out", str(page), "--json", *of(folder))
    held = json.loads(asked.stdout)

    assert (flat["holdings"], flat["forecasts"], flat["equity"]) == ([], [], final["end_equity"])
    assert Path(flat["report"]).parent == folder / "reports"
    assert "The book is empty" in Path(flat["report"]).read_text(encoding="utf-8")
    assert max(line["shares"] for line in held["holdings"]) > 0
    assert held["forecasts"][0]["coverage"]["days"] > 500
    assert held["report"] == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "VaR 95 %" in finagent("risk", "report", "--at", busy.group(1), *of(folder)).stdout
    limits = json.loads(finagent("risk", "limits", "--at", busy.group(1), "--json", *of(folder)).stdout)
    used = {gauge["name"]: gauge["utilisation"] for gauge in limits["limits"]}
    assert 0 < used["POSITION_SIZE"] <= 1
    assert 0 < used["VALUE_AT_RISK"] <= 1
    full = finagent("risk", "limits", "--at", busy.group(1), *of(folder), "--set", "risk.positions_max=1")
    assert (full.returncode, finagent("risk", "limits", "--at", busy.group(1), *of(folder)).returncode) == (3, 0)
    assert re.search(r"POSITION_COUNT +\d of +1 count +used up", full.stdout)
    few, many, none = (
        finagent("risk", "check", *asked, "--at", busy.group(1), "--json", *of(folder))
        for asked in (("MSFT", "--quantity", "1"), ("MSFT", "--quantity", "9000"), ("NOSUCH", "--quantity", "1"))
    )
    assert (few.returncode, many.returncode, none.returncode) == (0, 3, 2)
    assert json.loads(few.stdout)["approved"] is True
    cut = json.loads(many.stdout)
    assert (cut["verdict"], cut["approved"]) == ("REDUCED", False)
    assert 0 < cut["allowed_quantity"] < 9000
    assert min(one["allowed_quantity"] for one in cut["checks"]) == cut["allowed_quantity"]
    assert float(cut["after"]["value_at_risk"]) > float(json.loads(few.stdout)["after"]["value_at_risk"]) > 0
    shown = finagent("risk", "check", "MSFT", "--quantity", "9000", "--price", "25.50", "--at", busy.group(1), *of(folder)).stdout
    assert shown.startswith("REFUSED: 0 of 9000 shares of MSFT, by PRICE_COLLAR"), "far from the last price"
    assert "at most" in shown
    assert "POSITION_SIZE" in finagent("risk", "limits", "--at", busy.group(1), *of(folder)).stdout


@pytest.mark.parametrize(
    ("asked", "cure"),
    [
        (("--at", "2030-01-01T00:00:00Z"), "the story ends at"),
        (("--at", "yesterday"), "an instant such as"),
        (("--at", "2008-10-01T14:00:00Z"), "the first session of the market data opens at"),
        (("--set", "features.index_symbol=SPY"), "features.index_symbol: SPY is not among"),
        (("--set", "replay.seed=8"), "give the settings of that replay"),
    ],
)
def test_risk_that_cannot_be_reported_says_why(asked: tuple[str, ...], cure: str, replayed: tuple[Path, dict[str, Any]]) -> None:
    refused = finagent("risk", "report", *asked, *of(replayed[0]))

    assert refused.returncode == 2
    assert cure in refused.stderr


def test_a_different_replay_on_the_folder_is_refused_and_fresh_archives_it(
    replayed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Exit 2 names the difference; --fresh keeps the old one in runs/ and starts anew."""
    folder, final = replayed
    other = ("--set", "replay.seed=8")
    refused = finagent("orchestrate", "--json", *of(folder), *other)
    assert refused.returncode == 2
    assert "seed" in refused.stderr

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
    anew = finagent("orchestrate", "--fresh", "--json", *of(copy), *other)
    assert anew.returncode == 0, anew.stderr
    assert json.loads(anew.stdout)["outcome_hash"] != final["outcome_hash"]
    archived = finagent("report", "--canonical", "--json", *WINDOW, "--set", f"storage.directory={copy}/runs/0001")
    assert json.loads(archived.stdout)["outcome_hash"] == final["outcome_hash"]


def test_canonical_rows_hash_to_the_outcome_hash(
    replayed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """`finagent report --canonical | sha256sum` is the outcome_hash."""
    folder, final = replayed
    assert run(["report", "--canonical", *of(folder)]) == 0

    text = capsys.readouterr().out
    assert hashlib.sha256(text.encode()).hexdigest() == final["outcome_hash"]


def test_report_agrees_with_the_final_document(replayed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """The report of the store is the report of the replay; as text it names every candidate's reason."""
    folder, final = replayed
    again = document(capsys, "report", *of(folder))
    assert {name: again[name] for name in ("outcome_hash", "pnl", "outcomes", "exits", "report")} == {
        name: final[name] for name in ("outcome_hash", "pnl", "outcomes", "exits", "report")
    }

    assert run(["report", *of(folder)]) == 0
    text = capsys.readouterr().out
    for row in again["figures"]["decisions"]:
        assert row["symbol"] in text
        assert row["outcome"] in text
    assert final["outcome_hash"] in text


def test_explain_tells_a_trade_from_scan_to_exit(
    replayed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """One trace id from scan to fill; the order ids, the jobs and the trace lead to the same story; so does text."""
    folder, final = replayed
    decision = final["examples"][0]
    told = document(capsys, "explain", decision, *of(folder))

    kinds = [step["kind"] for step in told["steps"]]
    assert {"scan", "candidate", "prediction", "plan", "verdict", "intent", "send", "fill", "outcome", "exit"} <= set(kinds)
    assert told["ending"].startswith("FILLED")
    assert {job["type"] for job in told["jobs"]} >= {"score", "plan", "execute", "send"}
    assert {job["trace_id"] for job in told["jobs"]} == {told["trace_id"]}
    assert [event["at"] for event in told["events"]] == sorted(event["at"] for event in told["events"])
    for asked in (told["related"]["orders"][0], str(told["jobs"][0]["id"]), told["trace_id"], told["subject_id"][:14]):
        assert document(capsys, "explain", asked, *of(folder))["steps"] == told["steps"]
    run_story = document(capsys, "explain", told["related"]["run"][0], *of(folder))
    assert decision in run_story["related"]["decisions"]

    (verdict,) = [step for step in told["steps"] if step["kind"] == "verdict"]
    assert (verdict["facts"]["checks"].keys(), verdict["facts"]["checks"]["GROSS_LEVERAGE"].keys()) == (
        {code.value for code in RiskCode if code is not RiskCode.OK},
        {"limit", "value", "utilisation", "allowed"},
    )
    assert 0 < verdict["facts"]["checks"]["GROSS_LEVERAGE"]["utilisation"] < 1
    assert verdict["facts"]["checks"]["TRADING_STATE"]["utilisation"] is None

    assert run(["explain", decision, *of(folder)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"verdict +(APPROVED, .*, nearest [A-Z_]+ at \d+%|REDUCED: )", text)
    assert re.search(r"check +value +limit +used +at most", text)
    assert re.search(r"GROSS_LEVERAGE +[\d,.]+ +150,000.00 +\d+% +\d+", text)


def test_the_log_has_one_trace_id_from_scan_to_fill(tmp_path: Path) -> None:
    """Each line of stderr is JSON; the lines of a filled decision share its trace id, from the gap to the flat position."""
    answer = finagent("orchestrate", "--json", *of(tmp_path), "--set", "market_data.last_session=2008-10-13")
    lines = [json.loads(line) for line in answer.stderr.splitlines() if not line.startswith("finagent: ")]
    decision = json.loads(answer.stdout)["examples"][0]
    story = [line for line in lines if line.get("decision_id") == decision]

    assert {line["trace_id"] for line in story} == {story[0]["trace_id"]}
    assert {line["symbol"] for line in story} == {story[0]["symbol"]}
    assert story[0]["event"] == "gap_found"
    assert {"risk_decided", "intent_committed", "order_filled", "position_flat"} <= {line["event"] for line in story}
    assert all({"timestamp", "level", "event", "logger"} <= line.keys() for line in lines)


def test_an_unknown_id_exits_2_with_help(replayed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """The message gives a real id as an example."""
    folder, _ = replayed

    assert run(["explain", "dec-nonsense", *of(folder)]) == 2
    assert re.search(r"such as dec-[0-9a-f]{20}", capsys.readouterr().err)


def test_status_and_jobs_of_a_folder_at_rest(replayed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """No agent, nothing open, every job done, and each job can be shown."""
    folder, _ = replayed
    told = document(capsys, "status", *of(folder))

    assert told["agent"]["presence"] == "ABSENT"
    assert told["trading_state"]["state"] == "ACTIVE"
    assert told["market_clock"]["state"] == "FINISHED"
    assert (told["positions"], told["orders_open"], told["orders_unresolved"], told["orders_parked"]) == ({}, [], [], [])
    assert set(told["queue"]) == {"DONE"}
    assert told["model"]

    assert sum(row["jobs"] for row in document(capsys, "jobs", "stats", *of(folder))) == told["queue"]["DONE"]
    sends = document(capsys, "jobs", "list", "--type", "send", "--limit", "1", *of(folder))
    assert document(capsys, "jobs", "show", str(sends[0]["id"]), *of(folder)) == sends[0]
    assert run(["jobs", "list", "--status", "DEAD", *of(folder)]) == 0
    assert capsys.readouterr().out == "no jobs\n"
    assert run(["status", *of(folder)]) == 0
    assert "positions      flat" in capsys.readouterr().out


def test_reading_commands_change_nothing(replayed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """Status, explain and jobs work on a store they may not write."""
    folder, final = replayed
    database = folder / "finagent.db"
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    database.chmod(stat.S_IRUSR)
    try:
        for command in (["status"], ["explain", final["examples"][0]], ["jobs", "stats"], ["report", "--canonical"]):
            document(capsys, *command, *of(folder))
    finally:
        database.chmod(stat.S_IRUSR | stat.S_IWUSR)

    assert hashlib.sha256(database.read_bytes()).hexdigest() == before


def test_one_strategy_is_locked_and_released_without_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` names it, the trading state and the HALT file are left alone; what cannot be meant is refused by name."""
    folder = tmp_path / "var"
    one_day = (*of(folder), "--set", "market_data.last_session=2008-10-13")
    assert run(["halt", "--strategy", "first", "--reason", "no store", *one_day]) == 4
    assert finagent("orchestrate", "--json", *one_day).returncode == 0

    locked = document(capsys, "halt", "--strategy", "first", "--reason", "fills look wrong", *one_day)
    assert (locked["locked"], locked["state"]) == (True, "ACTIVE")
    told = document(capsys, "status", *one_day)
    assert (told["locked_strategies"], told["trading_state"]["state"], told["halt_file"]) == (
        {"first": "fills look wrong"},
        "ACTIVE",
        False,
    )
    assert "LOCKED         strategy first: fills look wrong" in finagent("status", *one_day).stdout
    assert run(["halt", "--strategy", "frist", "--reason", "a slip", *one_day]) == 2
    assert run(["halt", "--strategy", "first", "--flatten", "--reason", "both", *one_day]) == 2
    assert run(["arm", "--strategy", "second", "--reason", "never locked", *one_day]) == 2

    assert document(capsys, "arm", "--strategy", "first", "--reason", "looked", *one_day)["released"] is True
    assert document(capsys, "status", *one_day)["locked_strategies"] == {}


def test_halt_and_arm_without_an_agent_are_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is the writer: state, reason and person are in the store, the HALT file comes and goes."""
    folder = tmp_path / "var"
    one_day = (*of(folder), "--set", "market_data.last_session=2008-10-13")
    assert finagent("orchestrate", "--json", *one_day).returncode == 0

    halted = document(capsys, "halt", "--reason", "a test", *one_day)
    assert (halted["state"], halted["recorded_by"]) == ("HALTED", "command")
    told = document(capsys, "status", *one_day)
    assert (told["trading_state"]["state"], told["trading_state"]["reason"], told["halt_file"]) == ("HALTED", "a test", True)

    document(capsys, "arm", "--reason", "tested", *one_day)
    told = document(capsys, "status", *one_day)
    assert (told["trading_state"]["state"], told["trading_state"]["reason"], told["halt_file"]) == ("ACTIVE", "tested", False)


def test_stopped_by_sigterm_it_goes_on_to_the_same_end(replayed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Exit 130 in order; the next start says what it found and ends as if nothing had been."""
    _, final = replayed
    agent = Agent("orchestrate", "--json", *of(tmp_path))
    agent.until("start_reconciled")
    assert agent.end() == 130
    assert any("goes on from here" in line for line in agent.said)

    resumed = json.loads(finagent("orchestrate", "--json", *of(tmp_path)).stdout)
    assert resumed["recovered"]["finished"] is False
    assert resumed["outcome_hash"] == final["outcome_hash"]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Agent, str]]:
    """An agent that stays up after a replay of one session: its folder, the process, its address."""
    folder = tmp_path_factory.mktemp("serving")
    agent = Agent(
        "orchestrate", *of(folder), "--set", "market_data.last_session=2008-10-13", "--set", "orchestrate.after_end=serve"
    )
    address = agent.until(r"(http://127\.0\.0\.1:\d+)").group(1)
    agent.until("serving until SIGTERM")
    yield folder, agent, address
    assert agent.end() == 0
    assert not any("Traceback" in line for line in agent.said)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_and_metrics_of_a_running_agent(serving: tuple[Path, Agent, str]) -> None:
    """Live, ready, and the figures of the day."""
    _, _, address = serving

    assert get(f"{address}/health/live")[0] == 200
    code, ready = get(f"{address}/health/ready")
    assert (code, json.loads(ready)["start_gate"]) == (200, "OPEN")
    figures = get(f"{address}/metrics")[1]
    assert 'finagent_trading_state{state="ACTIVE"} 1.0' in figures
    values = {name: float(value) for name, value in re.findall(r"^(finagent_\S+) (\S+)$", figures, re.MULTILINE)}
    assert values['finagent_jobs{status="DONE"}'] > 10
    assert values["finagent_candidates_total"] > 0
    assert values["finagent_wal_bytes"] >= 0


def test_a_second_instance_on_the_folder_is_refused(serving: tuple[Path, Agent, str]) -> None:
    """Exit 2, naming the process that holds it, also where it would want the first one's port."""
    folder, agent, address = serving
    port = address.rsplit(":", 1)[1]
    for http in ("http.port=0", f"http.port={port}"):
        second = finagent("orchestrate", *of(folder), "--set", "market_data.last_session=2008-10-13", "--set", http)

        assert second.returncode == 2
        assert str(agent.process.pid) in second.stderr


def test_a_taken_port_exits_4(serving: tuple[Path, Agent, str], tmp_path: Path) -> None:
    """The message names the port and the cure, and nothing was started."""
    port = serving[2].rsplit(":", 1)[1]
    answer = finagent("orchestrate", *of(tmp_path / "var"), "--set", f"http.port={port}")

    assert answer.returncode == 4
    assert f"http.port {port}" in answer.stderr
    assert not (tmp_path / "var").exists()


def test_the_running_agent_records_halt_and_arm(serving: tuple[Path, Agent, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Asked over its socket (0600), it answers with the new state; reading commands see it at once."""
    folder, _, address = serving
    assert stat.S_IMODE((folder / "finagent.sock").stat().st_mode) == 0o600

    halted = document(capsys, "halt", "--reason", "a drill", *of(folder))
    assert (halted["state"], halted["recorded_by"]) == ("HALTED", "agent")
    told = document(capsys, "status", *of(folder))
    assert (told["agent"]["presence"], told["trading_state"]["state"], told["halt_file"]) == ("RUNNING", "HALTED", True)
    assert 'finagent_trading_state{state="HALTED"} 1.0' in get(f"{address}/metrics")[1]

    locked = document(capsys, "halt", "--strategy", "first", "--reason", "a drill", *of(folder))
    assert (locked["locked"], document(capsys, "status", *of(folder))["locked_strategies"]) == (True, {"first": "a drill"})
    assert document(capsys, "arm", "--strategy", "first", "--reason", "drill over", *of(folder))["released"] is True

    armed = document(capsys, "arm", "--reason", "drill over", *of(folder))
    assert armed["state"] == "ACTIVE"
    assert not (folder / "HALT").exists()


def test_a_hung_agent_is_halted_by_the_file_within_five_seconds(
    serving: tuple[Path, Agent, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped process answers nothing; the halt stands all the same and says so. Arming it is refused."""
    folder, agent, _ = serving
    agent.process.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        halted = document(capsys, "halt", "--reason", "hung", *of(folder))
        assert time.monotonic() - begun < 5
        assert (halted["halted"], halted["recorded_by"]) == (True, "file")
        assert (folder / "HALT").exists()
        assert document(capsys, "status", *of(folder))["agent"]["presence"] == "NOT_ANSWERING"
        assert run(["arm", "--reason", "too early", *of(folder)]) == 4
        assert (folder / "HALT").exists()
    finally:
        os.kill(agent.process.pid, signal.SIGCONT)
    capsys.readouterr()
    woken = document(capsys, "status", *of(folder))
    assert woken["trading_state"]["state"] != "ACTIVE" or woken["halt_file"], "the lapsed arm must not have armed anything"
    document(capsys, "arm", "--reason", "it answers again", *of(folder))


def test_doctor_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All there: exit 0. A folder that is a file: exit 3, named with its cure."""
    told = document(capsys, "doctor", *of(tmp_path / "var"))
    assert told["ready"] is True
    assert {"settings", "folder", "disk", "database", "data", "sqlite", "clock", "calendar", "strace"} <= {
        finding["name"] for finding in told["findings"]
    }
    assert not (tmp_path / "var").exists()

    (tmp_path / "file").write_text("in the way")
    assert run(["doctor", *of(tmp_path / "file")]) == 3
    assert re.search(r"MISSING\s+folder\s+.*cannot be written\n\s+-> .*storage\.directory", capsys.readouterr().out)
    assert run(["doctor", "--set", "risk.no_such_limit=1"]) == 3
    assert "no_such_limit" in capsys.readouterr().out


def test_doctor_finds_a_damaged_database(replayed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """A page of noise in the middle of the file is found before the agent trips over it."""
    data = bytearray((replayed[0] / "finagent.db").read_bytes())
    middle = len(data) // 8192 * 4096
    data[middle : middle + 4096] = os.urandom(4096)
    (tmp_path / "finagent.db").write_bytes(data)
    answer = finagent("doctor", "--json", *of(tmp_path))

    assert answer.returncode == 3
    findings = {one["name"]: one for one in json.loads(answer.stdout)["findings"]}
    assert findings["database"]["verdict"] == "MISSING"
