"""Commands that write, while an agent holds the folder: it records them and who asked. Served over a Unix socket only."""

from collections.abc import Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from finagent.domain.trading_state import StartGate, TradingStateRecord
from finagent.services.reporting.canonical import as_plain


class Switch(Protocol):
    """The kill switch as control needs it."""

    @property
    def gate(self) -> StartGate: ...

    def state(self) -> TradingStateRecord: ...

    async def halt(self, reason: str, by: str) -> None: ...

    async def arm(self, reason: str, by: str) -> None: ...


class Order(BaseModel):
    """What a person orders, why, and who they are."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(min_length=1, max_length=100)]


class Permission(Order):
    """An order that lapses: whoever gave it stopped waiting at `good_until` (seconds since 1970) and was told that it failed."""

    good_until: float


def control_routes(switch: Switch, wall_seconds: Callable[[], float]) -> APIRouter:
    """`POST /control/halt`, `POST /control/arm`, `GET /control/status`; each answers with the state in force after it."""
    routes = APIRouter(prefix="/control", tags=["control"])

    def state() -> dict[str, Any]:
        answer: dict[str, Any] = as_plain(switch.state())
        return answer | {"start_gate": switch.gate.value}

    @routes.post("/halt")
    async def halt(order: Order) -> dict[str, Any]:
        await switch.halt(order.reason, order.by)
        return state()

    @routes.post("/arm")
    async def arm(order: Permission) -> dict[str, Any]:
        if wall_seconds() > order.good_until:
            raise HTTPException(409, "too late: whoever asked has stopped waiting, nothing is armed")
        await switch.arm(order.reason, order.by)
        return state()

    @routes.get("/status")
    async def status() -> dict[str, Any]:
        return state()

    return routes
