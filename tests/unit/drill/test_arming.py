"""Passages are counted on a page that outlives its processes, and the armed one is the last thing a process does."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finagent.drill.arming import AgentFailpoints, Arm, BrokerFailpoints
from finagent.drill.control import BrokerOrderToKill, Control
from finagent.drill.labels import LABELS

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "control.page"
    Control(path)
    return path


def in_child(page: Path, arm: Arm | None, *labels: str, linger: bool = False) -> int:
    """The exit code of a process that passes the labels under the arm."""

    def work() -> None:
        with Control(page) as control:
            failpoints = AgentFailpoints(control, arm)
            for label in labels:
                failpoints(label)
            if linger:
                signal.pause()

    process = FORK.Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode


def test_an_unarmed_process_counts_and_lives(page: Path) -> None:
    assert in_child(page, None, "send.before", "send.after", "send.before", "no such label") == 0

    with Control(page) as control:
        assert (control.passed("send.before"), control.passed("send.after")) == (2, 1)
        assert sum(control.passed_all().values()) == 3


@pytest.mark.parametrize(("arm", "survived"), [(Arm("send.before", 3), 3), (Arm(None, 2), 1)])
def test_the_armed_passage_is_the_last(page: Path, arm: Arm, survived: int) -> None:
    passes = ["send.before", "send.after"] * 5

    assert in_child(page, arm, *passes) == -signal.SIGKILL
    with Control(page) as control:
        assert control.passed("send.before") == survived


def test_a_passage_that_never_comes_ends_nothing(page: Path) -> None:
    assert in_child(page, Arm("send.before", 3), "send.before", "send.after", "send.before") == 0


def test_a_delayed_end_comes_between_the_labels(page: Path) -> None:
    assert in_child(page, Arm("send.before", 1, delay_seconds=0.01), "send.before", "send.after", linger=True) == -signal.SIGKILL

    with Control(page) as control:
        assert control.passed("send.after") == 1


def test_a_stop_lasts_until_somebody_lets_it_go_on_and_the_end_comes_some_passages_later(page: Path) -> None:
    def work() -> None:
        with Control(page) as control:
            failpoints = AgentFailpoints(control, Arm("send.before", 1, fault="stop", passages_on=2))
            for label in ("send.before", "send.after", "claim.before", "claim.after"):
                failpoints(label)

    process = FORK.Process(target=work)
    process.start()
    assert process.pid is not None
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    with Control(page) as control:
        assert os.WIFSTOPPED(status)
        assert sum(control.passed_all().values()) == 1

        os.kill(process.pid, signal.SIGCONT)
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
        assert {label for label, passed in control.passed_all().items() if passed} == {
            "send.before",
            "send.after",
            "claim.before",
        }


def test_no_memory_is_an_error_at_the_passage_and_the_end_comes_later(page: Path) -> None:
    with Control(page) as control:
        failpoints = AgentFailpoints(control, Arm("send.before", 2, fault="no memory", passages_on=10))
        failpoints("send.before")
        with pytest.raises(MemoryError, match=r"at send\.before"):
            failpoints("send.before")
        failpoints("send.before")

        assert control.passed("send.before") == 3


def test_an_arm_without_a_passage_counts_from_the_start(page: Path) -> None:
    assert in_child(page, Arm(None, 0, delay_seconds=0.01), linger=True) == -signal.SIGKILL


def test_the_page_says_when_the_agent_was_recovered(page: Path) -> None:
    in_child(page, None, "recovery.before")
    with Control(page) as control:
        assert control.recovered_at == 0.0

    in_child(page, None, "recovery.after")
    with Control(page) as control:
        assert control.recovered_at > 0.0


def test_the_broker_ends_the_agent_at_the_ordered_passage_and_only_once(page: Path) -> None:
    agent = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    with Control(page) as control:
        broker = BrokerFailpoints(control)
        control.order_broker(BrokerOrderToKill("broker_commit.after", 2, agent.pid))

        broker("broker_commit.after")
        broker("broker_commit.before")
        assert agent.poll() is None
        broker("broker_commit.after")

        assert agent.wait(30) == -signal.SIGKILL
        broker("broker_commit.after")
        broker("broker_commit.after")
        assert control.passed("broker_commit.after") == 4


def test_a_withdrawn_order_ends_nobody(page: Path) -> None:
    with Control(page) as control:
        control.order_broker(BrokerOrderToKill(None, 1, os.getpid()))
        control.order_broker(None)
        for label in LABELS:
            BrokerFailpoints(control)(label)
