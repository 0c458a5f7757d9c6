"""Halting from afar. There is no arming from afar: a person does that on the machine."""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException

from finagent.api.control import Halt, Switch
from finagent.services.reporting.canonical import as_plain


def halt_routes(switch: Switch, token: str) -> APIRouter:
    """`POST /api/v1/trading-state/halt` with `Authorization: Bearer TOKEN`: the state in force after it."""
    routes = APIRouter(prefix="/api/v1/trading-state", tags=["trading-state"])

    @routes.post("/halt")
    async def halt(order: Halt, authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "not authorized", {"WWW-Authenticate": "Bearer"})
        await switch.halt(order.reason, f"http: {order.by}", flatten=order.flatten)
        answer: dict[str, Any] = as_plain(switch.state())
        return answer

    return routes
