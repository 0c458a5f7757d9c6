"""The two applications: what the network may see, and what the socket's owner may do."""

from collections.abc import Callable

from fastapi import FastAPI

from finagent.api.control import KeptStore, StuckJobs, Switch, control_routes
from finagent.api.health import health_routes
from finagent.api.metrics import metrics_routes
from finagent.api.trading_state import halt_routes
from finagent.services.health import HealthFacts, ReadinessPolicy
from finagent.telemetry.metrics import Metrics


def public_app(facts: Callable[[], HealthFacts], policy: ReadinessPolicy, metrics: Metrics) -> FastAPI:
    """Health and metrics; nothing here writes."""
    app = FastAPI(title="finagent", docs_url=None, redoc_url=None, openapi_url=None)
    add_public_routes(app, facts, policy, metrics)
    return app


def add_public_routes(app: FastAPI, facts: Callable[[], HealthFacts], policy: ReadinessPolicy, metrics: Metrics) -> None:
    """Give an application the public routes."""
    app.include_router(health_routes(facts, policy))
    app.include_router(metrics_routes(metrics))


def add_halt_route(app: FastAPI, switch: Switch, token: str) -> None:
    """The one public route that writes, for whoever shows the token; without a token there is none."""
    if token:
        app.include_router(halt_routes(switch, token))


def control_app(switch: Switch, jobs: StuckJobs, store: KeptStore, wall_seconds: Callable[[], float]) -> FastAPI:
    """The control routes, for the Unix socket."""
    app = FastAPI(title="finagent control", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(control_routes(switch, jobs, store, wall_seconds))
    return app
