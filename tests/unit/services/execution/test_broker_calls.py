"""Every call of the broker goes through one seam, which marks both of its sides."""

from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import Any

import pytest

from finagent.domain.errors import Transient
from finagent.domain.ports.order_execution import OrderExecutionPort, SimulatedVenue
from finagent.services.execution.broker_calls import BrokerCalls, VenueCalls

NOW = datetime(2024, 3, 4, 15, tzinfo=UTC)
CALLS: dict[str, tuple[Any, ...]] = {
    "barrier": (),
    "submit": ("request", lambda: ""),
    "look_up": ("fa-1",),
    "cancel": ("sb-1",),
    "activity": (NOW, NOW),
    "open_orders": (),
    "positions": (),
    "account": (),
    "advance": (NOW,),
}


class Passed:
    """The labels that were passed."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def __call__(self, label: str) -> None:
        self.labels.append(label)


class Broker:
    """Answers with what it was asked; `deaf`: not at all."""

    deduplicates_forever = True

    def __init__(self) -> None:
        self.deaf = False
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        async def answer(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            if self.deaf:
                raise Transient("no answer")
            return name

        return answer


@pytest.mark.parametrize("name", CALLS)
async def test_both_sides_of_a_call_are_passed_and_its_answer_comes_back(name: str) -> None:
    broker: Any = Broker()
    passed = Passed()

    calls: Any = VenueCalls(broker, passed) if name == "advance" else BrokerCalls(broker, passed)
    answer = await getattr(calls, name)(*CALLS[name])

    label = "send" if name == "submit" else name
    assert answer == (None if name in ("barrier", "advance") else name)
    assert broker.asked == [(name, *CALLS[name])]
    assert passed.labels == [f"{label}.before", f"{label}.after"]


async def test_a_call_without_an_answer_passes_its_first_side_only() -> None:
    broker: Any = Broker()
    broker.deaf = True
    passed = Passed()

    with pytest.raises(Transient):
        await BrokerCalls(broker, passed).positions()

    assert passed.labels == ["positions.before"]


def test_no_call_of_the_ports_is_left_out() -> None:
    calls = {
        name for port in (OrderExecutionPort, SimulatedVenue) for name, part in vars(port).items() if iscoroutinefunction(part)
    }

    assert calls == set(CALLS)
    broker: Any = Broker()
    assert BrokerCalls(broker, Passed()).deduplicates_forever
