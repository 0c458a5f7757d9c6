"""The ledger of the accelerator: training never takes what inference has, and nothing that fits waits for ever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from finagent.domain.errors import BadInput
from finagent.services.models.accelerator import ESTIMATE_FACTOR, AcceleratorLedger, AcceleratorMemory, Device

SIZES = st.integers(min_value=0, max_value=1 << 40)


class Ledger(RuleBasedStateMachine):
    """Trainings come, are measured and go, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = AcceleratorMemory(1000, 300, 100)
        self.ledger = AcceleratorLedger(self.memory)
        self.running: dict[str, tuple[str, int]] = {}
        self.peaks: dict[str, int] = {}
        self.count = 0

    @rule(architecture=st.sampled_from("abcd"), cpu_only=st.booleans())
    def ask(self, architecture: str, cpu_only: bool) -> None:
        self.count += 1
        key, before = str(self.count), self.ledger.in_use
        device = self.ledger.place(key, architecture, cpu_only=cpu_only)
        wanted = int(self.peaks[architecture] * ESTIMATE_FACTOR) if architecture in self.peaks else self.memory.for_training
        if cpu_only or wanted > self.memory.for_training:
            assert device is Device.CPU
        elif before + wanted > self.memory.for_training:
            assert device is None
        else:
            assert device is Device.ACCELERATOR
            self.running[key] = (architecture, wanted)
            with pytest.raises(BadInput, match="already"):
                self.ledger.place(key, architecture)

    @precondition(lambda self: self.running)
    @rule(place=st.integers(min_value=0, max_value=50), peak=st.integers(min_value=1, max_value=900))
    def end(self, place: int, peak: int) -> None:
        key = sorted(self.running)[place % len(self.running)]
        architecture, held = self.running.pop(key)
        peak = min(peak, held or peak)
        self.peaks[architecture] = max(peak, self.peaks.get(architecture, 0))
        self.ledger.measured(architecture, Device.ACCELERATOR, peak)
        self.ledger.release(key)
        self.ledger.release(key)

    @invariant()
    def inference_has_its_share(self) -> None:
        assert self.ledger.in_use == sum(held for _, held in self.running.values())
        assert self.ledger.in_use + self.memory.inference_reserve + self.memory.headroom <= self.memory.total

    @invariant()
    def who_is_alone_runs(self) -> None:
        if not self.running:
            assert AcceleratorLedger(self.memory).place("alone", "new") is Device.ACCELERATOR


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@given(total=SIZES, reserve=SIZES, headroom=SIZES)
def test_no_size_lets_training_into_the_reserve(total: int, reserve: int, headroom: int) -> None:
    memory = AcceleratorMemory(total, reserve, headroom)
    device = AcceleratorLedger(memory).place("one", "new")
    room = total - reserve - headroom
    assert device is (Device.ACCELERATOR if room > 0 else Device.CPU)
    assert memory.for_training == max(room, 0)


def test_what_does_not_fit_now_may_take_the_cpu_meanwhile_and_cpu_figures_are_none_of_the_device() -> None:
    ledger = AcceleratorLedger(AcceleratorMemory(1000, 0, 0), cpu_meanwhile=True)
    assert ledger.place("one", "a") is Device.ACCELERATOR
    assert ledger.place("two", "a") is Device.CPU
    ledger.measured("b", Device.CPU, 10)
    assert ledger.estimate("b") == 1000
    with pytest.raises(BadInput, match="below zero"):
        AcceleratorMemory(-1, 0, 0)
