"""Is the loop turning; does work get done."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from finagent.services.health import HealthFacts, ReadinessPolicy, reasons_not_ready
from finagent.services.reporting.canonical import as_plain


def health_routes(facts: Callable[[], HealthFacts], policy: ReadinessPolicy) -> APIRouter:
    """`/health/live` answers while the event loop turns; `/health/ready` is 503 with the reasons while work is not done."""
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get("/ready")
    async def ready() -> JSONResponse:
        seen = facts()
        reasons = reasons_not_ready(seen, policy)
        body: dict[str, Any] = {"status": "not ready" if reasons else "ready", "reasons": reasons, **as_plain(seen)}
        return JSONResponse(body, status_code=503 if reasons else 200)

    return routes
