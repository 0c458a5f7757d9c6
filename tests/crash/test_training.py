"""A training survives what kills its processes or itself: nothing is lost, nothing is there twice, the same comes of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from tests.crash.training_kills import DESCENT, EPOCHS, gone, killed

COUNT = 4


@pytest.mark.drill
def test_killed_children_and_a_killed_parent_change_nothing(tmp_path: Path) -> None:
    undisturbed = killed(tmp_path / "undisturbed", COUNT, DESCENT, children=0, parents=0, mlflow=False)
    left = killed(tmp_path / "killed", COUNT, DESCENT, children=2, parents=1, mlflow=False)

    assert left.success_rate == 1.0
    assert left.orphans == 0, "children end with their parent"
    assert set(left.metrics.values()) == {1}
    assert {key[2] for key in left.metrics} == set(range(1, EPOCHS + 1))
    assert left.metrics == undisturbed.metrics
    assert left.states == undisturbed.states


AGENT = """
import asyncio, sys
from pathlib import Path
from finagent.adapters.models.training_command import TrainingCommand
from finagent.settings import environment_without_settings, load_settings

async def main(folder):
    settings = load_settings(overrides=(f"storage.directory={folder}", "market_data.first_session=2004-08-19"))
    runner = TrainingCommand(Path(folder), settings.model_dump_json(), {"gap": ()}, environment_without_settings(), 10)
    await runner.keep_running("gap", "gap@1")
    print(runner.running["gap@1"].pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.drill
def test_a_scheduled_training_ends_with_a_killed_agent(tmp_path: Path) -> None:
    """Which goes on with it after its next start: two of them would be in each other's way."""
    with subprocess.Popen([sys.executable, "-c", AGENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        while b"setpriv" in (command := Path(f"/proc/{pid}/cmdline").read_bytes()) or not command:
            Event().wait(0.01)
        assert b"finagent.cli" in command
        assert os.getpriority(os.PRIO_PROCESS, pid) == 10
        agent.send_signal(signal.SIGKILL)
    assert gone(pid)
