"""What the simulated broker charges, allows and breaks."""

from dataclasses import dataclass, fields
from decimal import Decimal

from finagent.domain.errors import BadInput
from finagent.domain.finite import require_finite


@dataclass(frozen=True, slots=True)
class FaultRates:
    """The chance in [0, 1] of each thing that brokers and networks do; those of one kind of request add up to at most 1.

    submit: `dropped` (nothing applied, no answer), `reply_lost` (applied, no answer), `late` (no answer, applied 1 to
    `late_minutes_max` minutes later), `refused`. Look-up: `look_up_withheld`. Cancel: `cancel_dropped`, `cancel_reply_lost`.
    Activity: each execution `execution_repeated`, the whole answer `activity_shuffled`.
    """

    dropped: float
    reply_lost: float
    late: float
    late_minutes_max: int
    refused: float
    look_up_withheld: float
    cancel_dropped: float
    cancel_reply_lost: float
    execution_repeated: float
    activity_shuffled: float

    def __post_init__(self) -> None:
        require_finite(self)
        for field in fields(self):
            rate = getattr(self, field.name)
            if field.name != "late_minutes_max" and not 0 <= rate <= 1:
                raise BadInput(f"broker fault rate {field.name} is {rate}: not between 0 and 1")
        if self.late_minutes_max < 1:
            raise BadInput(f"broker fault late_minutes_max is {self.late_minutes_max}: at least 1")
        for names in (("dropped", "reply_lost", "late", "refused"), ("cancel_dropped", "cancel_reply_lost")):
            if sum(getattr(self, name) for name in names) > 1:
                raise BadInput(f"broker fault rates {', '.join(names)} add up to more than 1")


NO_FAULTS = FaultRates(
    dropped=0,
    reply_lost=0,
    late=0,
    late_minutes_max=1,
    refused=0,
    look_up_withheld=0,
    cancel_dropped=0,
    cancel_reply_lost=0,
    execution_repeated=0,
    activity_shuffled=0,
)


@dataclass(frozen=True, slots=True)
class BrokerPolicy:
    """The broker's terms. Bps are hundredths of a percent of the price; `volume_fraction` is the share of a bar's volume that
    all our orders of a symbol can get; a fill is cut short by chance at `partial_fill_rate`.

    Buying power is `leverage` x equity, less what is held and what open orders reserve; a market order reserves
    `market_order_buffer_bps` above the last price. `stop_entry_brackets`: a bracket may enter by a stop or stop-limit order
    (Alpaca takes market and limit entries only). `double_fill_rate`: the chance that both target and stop of a group fill, which
    brokers warn of.
    """

    account_id: str
    start_cash_usd: Decimal
    leverage: Decimal
    market_order_buffer_bps: Decimal
    spread_bps: Decimal
    slippage_bps: Decimal
    commission_usd_per_share: Decimal
    volume_fraction: Decimal
    partial_fill_rate: float
    deduplicates_forever: bool
    short_selling: bool
    stop_entry_brackets: bool
    faults: FaultRates
    double_fill_rate: float = 0

    def __post_init__(self) -> None:
        require_finite(self)
        for name in ("market_order_buffer_bps", "spread_bps", "slippage_bps", "commission_usd_per_share"):
            if getattr(self, name) < 0:
                raise BadInput(f"broker {name} is {getattr(self, name)}: not negative")
        if self.start_cash_usd <= 0 or self.leverage <= 0:
            raise BadInput(f"broker start_cash_usd {self.start_cash_usd} and leverage {self.leverage} must be positive")
        if not 0 <= self.double_fill_rate <= 1:
            raise BadInput(f"broker double_fill_rate is {self.double_fill_rate}: not between 0 and 1")
        if not 0 < self.volume_fraction <= 1 or not 0 <= self.partial_fill_rate <= 1:
            raise BadInput(
                f"broker volume_fraction {self.volume_fraction} must be in (0, 1], "
                f"partial_fill_rate {self.partial_fill_rate} in [0, 1]"
            )
