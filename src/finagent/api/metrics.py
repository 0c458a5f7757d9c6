"""The figures, in Prometheus' text form."""

from fastapi import APIRouter
from fastapi.responses import Response

from finagent.telemetry.metrics import CONTENT_TYPE, Metrics


def metrics_routes(metrics: Metrics) -> APIRouter:
    """`/metrics`."""
    routes = APIRouter(tags=["metrics"])

    @routes.get("/metrics")
    async def exposition() -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    return routes
