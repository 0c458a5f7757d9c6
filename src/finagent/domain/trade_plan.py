"""What we would do about a candidate, before anyone allowed it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from finagent.domain.errors import BadInput
from finagent.domain.finite import require_finite
from finagent.domain.orders import Side

SHARES_MAX = 10**9  # nobody has as many to sell
PRICE_USD_MAX = 10**7  # ten times the dearest share there is


@dataclass(frozen=True, slots=True)
class TradePlan:
    """Entry (a stop-limit: trigger `entry`, worst price `entry_limit`), protective `stop`, `target`; USD a share.

    `reason` says how the size came about. For a long plan stop < entry <= entry_limit < target, mirrored for a short one.
    """

    decision_id: str
    run_id: str
    symbol: str
    side: Side
    quantity: int
    entry: Decimal
    entry_limit: Decimal
    stop: Decimal
    target: Decimal
    valid_until: datetime
    reason: str

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 < self.quantity <= SHARES_MAX:
            raise BadInput(f"plan {self.decision_id}: quantity {self.quantity} is not between 1 and {SHARES_MAX:,}")
        ladder = (self.stop, self.entry, self.entry_limit, self.target)
        if self.side is Side.SELL:
            ladder = (self.target, self.entry_limit, self.entry, self.stop)
        low, middle, upper, high = ladder
        if not 0 < low < middle <= upper < high:
            raise BadInput(f"plan {self.decision_id}: prices out of order: {ladder}")
        if high > PRICE_USD_MAX:
            raise BadInput(f"plan {self.decision_id}: {high} USD a share is more than {PRICE_USD_MAX:,}")
