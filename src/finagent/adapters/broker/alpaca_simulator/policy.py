"""The terms of the simulated Alpaca."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from finagent.adapters.broker.alpaca_simulator.faults import DRAWN, DRAWN_FOR_CANCELS, DRAWN_FOR_ORDERS, OF_STREAMS, FaultKind
from finagent.domain.errors import BadInput
from finagent.domain.finite import require_finite

PAPER = "PA"


@dataclass(frozen=True, slots=True)
class AlpacaSimulatorPolicy:
    """`key_id` and `secret` open the one account; nothing about them is secret. Port 0: any that is free.

    `pace`: market seconds a wall second; 0: market time moves by POST /control/advance alone. `requests_per_minute` bounds
    requests as Alpaca does per key, in minutes of `requests_by` time; 0: no bound, for lock-step. `fault_rates`: chance of each
    kind of fault of a request, drawn by `seed`; of reads too where they are `faulty_reads`. `corrected_bars`: chance that a live
    bar is updated a minute later; `halts`: that a symbol is halted once in a session.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key_id: str = "PKSIMULATOR"
    secret: str = field(default="simulator", repr=False)
    pace: float = 0
    requests_per_minute: int = 0
    requests_by: Literal["wall", "market"] = "wall"
    fault_rates: Mapping[FaultKind, float] = field(default_factory=dict)
    faulty_reads: bool = True
    corrected_bars: float = 0
    halts: float = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.pace < 0 or self.requests_per_minute < 0:
            raise BadInput(
                f"alpaca_simulator.pace {self.pace} and requests_per_minute {self.requests_per_minute} must not be negative"
            )
        rates = self.fault_rates
        for kinds in (DRAWN + DRAWN_FOR_ORDERS, DRAWN + DRAWN_FOR_CANCELS, OF_STREAMS):
            if sum(rates.get(kind, 0.0) for kind in kinds) > 1:
                raise BadInput(f"alpaca_simulator.faults {', '.join(kind.value for kind in kinds)} add up to more than 1")
        if any(not 0 <= rate <= 1 for rate in rates.values()):
            raise BadInput("alpaca_simulator.faults: each is a chance in [0, 1]")
        if not 0 <= self.corrected_bars <= 1:
            raise BadInput(f"alpaca_simulator.corrected_bars is {self.corrected_bars}: not between 0 and 1")
        if not 0 <= self.halts <= 1:
            raise BadInput(f"alpaca_simulator.halts is {self.halts}: not between 0 and 1")
        if not self.key_id or not self.secret:
            raise BadInput("alpaca_simulator.key_id and secret must not be empty")


def paper_number(account_id: str) -> str:
    """The number of the simulated account: that of a paper account begins with PA."""
    return account_id if account_id.startswith(PAPER) else PAPER + account_id
