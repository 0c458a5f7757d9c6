"""The agent as an ASGI application: `uvicorn --factory finagent.app:make_app` runs all of it, uvicorn owns the port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI

from finagent.api.app import add_halt_route, add_public_routes
from finagent.api.policies import readiness_policy
from finagent.api.resident import resident
from finagent.services.progress import Onlookers
from finagent.settings import Settings, api_token, load_settings
from finagent.telemetry.logging import LoggingPolicy, configure

log = structlog.get_logger(__name__)


def make_app(settings: Settings | None = None) -> FastAPI:
    """An application whose life is the agent's: it starts with it and is stopped in order with it; `state.agent` is its task.
    Settings come from file and environment where none are given."""
    chosen = settings or load_settings()
    configure(LoggingPolicy(chosen.telemetry.level, chosen.telemetry.format))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with resident(chosen, Onlookers(), asyncio.Event(), serve_http=False) as agent, asyncio.TaskGroup() as tasks:
            add_public_routes(app, agent.health, readiness_policy(chosen), agent.metrics)
            add_halt_route(app, agent.application.kill_switch, api_token(chosen))
            running = app.state.agent = tasks.create_task(agent.run(), name="agent")
            yield
            agent.interrupted.set()
            summary = await running
            log.info("agent_ended", outcome_hash=summary.outcome_hash if summary else None)

    return FastAPI(title="finagent", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
