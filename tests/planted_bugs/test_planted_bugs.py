"""The proof proves something: each planted bug is found, by the rule that it breaks."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.planted_bugs.hunt import Bug, hunt

from finagent.drill import replay

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.drill, pytest.mark.timeout(400)]

BUGS = {
    # orders
    "send_before_commit": Bug("send_before_commit:application", frozenset({"I2"}), "intent_commit.before"),
    "new_id_on_timeout": Bug("new_id_on_timeout:application", frozenset({"I2"})),
    "new_id_on_restart": Bug("around_the_parts:new_id_on_restart", frozenset({"I2"}), "send.after"),
    # money
    "fill_counted_twice": Bug("fill_counted_twice:application", frozenset({"I3"})),
    # jobs
    "acknowledge_before_effect": Bug(
        "acknowledge_before_effect:application", frozenset({"I1", "EQUALITY"}), "intent_commit.before"
    ),
    "publish_after_commit": Bug("around_the_parts:publish_after_commit", frozenset({"I1"}), "intent_commit.after"),
    "nothing_is_rescued": Bug("in_the_queue:nothing_is_rescued", frozenset({"I1"}), "handler.send.after"),
    "buried_at_once": Bug("in_the_queue:buried_at_once", frozenset({"JOBS"}), "send.after"),
    "run_again": Bug("in_the_queue:run_again", frozenset({"DRILL", "JOBS"})),
    "cursor_left_open": Bug("in_the_queue:cursor_left_open", frozenset({"DRILL"})),
    # time and chance
    "clock_stands_still": Bug("in_the_queue:clock_stands_still", frozenset({"I3", "EQUALITY"}), "send.after"),
    "start_after_market_clock": Bug("start_after_market_clock:application", frozenset({"I3", "EQUALITY"}), "send.after"),
    "fault_by_count": Bug("fault_by_count:application", frozenset({"EQUALITY"}), "send.after"),
    # the story
    "heads_in_memory": Bug("in_the_queue:heads_in_memory", frozenset({"I7"}), "handler.plan.before"),
    "intent_without_event": Bug("around_the_parts:intent_without_event", frozenset({"STORY"})),
}


# What a process alone on its file in lock-step never meets: found by the contract of the queue, by the test that names the rule.
CONTRACT_BUGS = {
    "unfenced": "test_an_acknowledgement_of_an_earlier_process_stores_nothing",
    "attempts_not_counted": "test_a_failed_job_comes_back_one_attempt_older",
    "keys_forgotten": "test_a_key_is_published_once_for_ever",
    "told_before_commit": "test_a_job_due_now_is_handed_out_running",
    "live_jobs_rescued": "test_a_claim_leaves_alone_what_runs",
}
HANGS_AFTER_SECONDS = 20.0  # a job that nobody gives back is waited for


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the fork server finds the bugs as modules
        patch.setattr(replay, "HANGS_AFTER_SECONDS", HANGS_AFTER_SECONDS)
        return hunt(BUGS, tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("bug", BUGS)
def test_a_killed_replay_shows_the_planted_bug(found: dict[str, list[dict[str, str]]], bug: str) -> None:
    assert BUGS[bug].rules & {violation["invariant"] for violation in found[bug]}, found[bug][:5]


@pytest.mark.parametrize("bug", CONTRACT_BUGS)
def test_the_contract_of_the_queue_shows_the_planted_bug(bug: str) -> None:
    test = f"tests/contract/test_job_queue.py::{CONTRACT_BUGS[bug]}[sqlite]"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "tests.planted_bugs.plugin", "--planted", bug, test]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert ended.returncode == 1, ended.stdout[-2000:]
    assert f"FAILED {test}" in ended.stdout
