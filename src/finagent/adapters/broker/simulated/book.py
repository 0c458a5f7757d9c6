"""The live orders: which of them trade in a bar, and what one order's fate does to its group."""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal

from finagent.adapters.broker.simulated.matching import Bar, Costs, cross
from finagent.adapters.broker.simulated.orders import MINUTE, Execution, LedgerOrder
from finagent.adapters.broker.simulated.policy import BrokerPolicy
from finagent.domain.chance import uniform
from finagent.domain.orders import Leg, OrderClass, OrderState, TimeInForce

BPS = Decimal(10_000)


class Book:
    """Holds live orders only. `changed` and `executions` collect what happened until the caller takes them to the ledger."""

    def __init__(self, policy: BrokerPolicy, seed: int, orders: Iterable[LedgerOrder]) -> None:
        self._policy = policy
        self._seed = seed
        self._costs = Costs(policy.spread_bps / BPS / 2, policy.slippage_bps / BPS)
        self.live = {order.broker_order_id: order for order in orders if order.status.live}
        self.changed: dict[str, LedgerOrder] = {}
        self.executions: list[Execution] = []

    def open(self, orders: Iterable[LedgerOrder]) -> None:
        """Take new orders in."""
        for order in orders:
            self.live[order.broker_order_id] = order
            self.changed[order.broker_order_id] = order

    def group(self, group_id: str) -> list[LedgerOrder]:
        """The live orders of a group."""
        return [order for order in self.live.values() if order.group_id == group_id]

    def cancel(self, group_id: str, at: datetime) -> None:
        """End everything in the group that still lives."""
        for order in self.group(group_id):
            self._move(order, OrderState.CANCELLED, at)

    def replace(self, order: LedgerOrder, successor: LedgerOrder, at: datetime) -> None:
        """The old order ends, the new one takes its place in the group."""
        self._move(order, OrderState.CANCELLED, at)
        self.open([successor])

    def reject(self, group_id: str, at: datetime) -> None:
        """The venue does not take what the broker took: the first order is rejected, its legs never were."""
        for order in self.group(group_id):
            first = order.broker_order_id == group_id
            self._move(order, OrderState.REJECTED if first else OrderState.CANCELLED, at)

    def expire(self, at: datetime) -> None:
        """End the day orders received before the session's close `at`; legs that never became active are cancelled."""
        for order in list(self.live.values()):
            if order.time_in_force is TimeInForce.DAY and order.market_time < at:
                held = order.status is OrderState.HELD
                self._move(order, OrderState.CANCELLED if held else OrderState.EXPIRED, at)

    def match(self, at: datetime, bar_of: Callable[[str], Bar | None]) -> None:
        """Trade the bar complete at `at`: every working order that was there when the bar began, a stop before its target.

        All orders of a symbol share the part of the bar's volume that is ours to have.
        """
        begun = at - MINUTE
        ready = [order for order in self.live.values() if order.working and order.active_from <= begun]
        ready.sort(key=lambda order: (order.active_from, order.group_id, order.leg is not Leg.STOP))
        bars: dict[str, Bar | None] = {}
        shares_left: dict[str, int] = {}
        for order in ready:
            if not order.working:
                continue
            if order.symbol not in bars:
                bars[order.symbol] = bar = bar_of(order.symbol)
                shares_left[order.symbol] = int(bar.volume * self._policy.volume_fraction) if bar else 0
            bar = bars[order.symbol]
            if bar is not None:
                shares_left[order.symbol] -= self._trade(order, bar, shares_left[order.symbol], at)

    def _trade(self, order: LedgerOrder, bar: Bar, shares_left: int, at: datetime) -> int:
        """Trade one order in one bar; returns the shares it took."""
        result = cross(order.side, order.limit_price, order.stop_price, order.elected, bar, self._costs)
        if result.elected and not order.elected and order.stop_price is not None:
            order.elected = True
            self._touch(order, at)
            self._end_sibling(order, at)  # a stop that was elected is on its way: its target must not sell the same shares
        quantity = min(order.remaining, shares_left)
        if result.price is None or quantity == 0:
            return 0
        quantity = self._cut_short(order, quantity, at)
        self._execute(order, quantity, result.price, at)
        self._follow(order, quantity, at)
        return quantity

    def _execute(self, order: LedgerOrder, quantity: int, price: Decimal, at: datetime) -> None:
        order.filled_quantity += quantity
        order.notional += quantity * price
        self.executions.append(
            Execution(
                f"{order.broker_order_id}-{order.filled_quantity}",
                order.broker_order_id,
                order.symbol,
                order.side,
                quantity,
                price,
                quantity * self._policy.commission_usd_per_share,
                at,
            )
        )
        self._move(order, OrderState.PARTIALLY_FILLED if order.remaining else OrderState.FILLED, at)

    def _cut_short(self, order: LedgerOrder, quantity: int, at: datetime) -> int:
        """The quantity of this fill, cut short by chance."""
        key = (order.client_order_id, int(at.timestamp()))
        if quantity == 1 or uniform(self._seed, "partial", *key) >= self._policy.partial_fill_rate:
            return quantity
        return 1 + int(uniform(self._seed, "partial_fraction", *key) * (quantity - 1))

    def _follow(self, order: LedgerOrder, quantity: int, at: datetime) -> None:
        """What a fill means for the rest of the group."""
        if order.leg is Leg.ENTRY and order.status is OrderState.FILLED:
            for leg in self.group(order.group_id):
                leg.active_from = at
                self._move(leg, OrderState.ACCEPTED, at)
        elif order.leg is Leg.TARGET and order.remaining:
            for stop in self.group(order.group_id):
                if stop.leg is Leg.STOP:
                    stop.quantity -= quantity
                    self._touch(stop, at)
        elif order.leg is Leg.TARGET:
            self._end_sibling(order, at)

    def _end_sibling(self, order: LedgerOrder, at: datetime) -> None:
        """One of target and stop decides: the other is cancelled, unless both fill before the broker can."""
        if order.order_class is OrderClass.SIMPLE or order.leg is Leg.ENTRY:
            return
        for other in self.group(order.group_id):
            if other is not order and other.leg is not Leg.ENTRY:
                price = other.limit_price or other.stop_price
                if price and uniform(self._seed, "double_fill", order.group_id) < self._policy.double_fill_rate:
                    self._execute(other, other.remaining, price, at)
                else:
                    self._move(other, OrderState.CANCELLED, at)

    def _move(self, order: LedgerOrder, status: OrderState, at: datetime) -> None:
        order.status = status
        self._touch(order, at)
        if not status.live:
            del self.live[order.broker_order_id]

    def _touch(self, order: LedgerOrder, at: datetime) -> None:
        order.changed_at = at
        self.changed[order.broker_order_id] = order
