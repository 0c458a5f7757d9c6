"""Alpaca's official OpenAPI as a judge of answers, and a simulated Alpaca to ask."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket, broker_policy, make_broker

from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.adapters.broker.alpaca_simulator.server import alpaca_simulator
from finagent.domain.sessions import Session

KEYS = {"APCA-API-KEY-ID": "PKSIMULATOR", "APCA-API-SECRET-KEY": "simulator"}


class OpenApi:
    """The schemas of one official file."""

    def __init__(self, file: Path) -> None:
        self._document = _modern(json.loads(file.read_text()))

    def judge(self, method: str, path: str, status: int, body: Any) -> None:
        """Fails unless the body is what the operation answers with that status."""
        answers = self._document["paths"][path][method.lower()]["responses"]
        schema = next(iter(answers[str(status)]["content"].values()))["schema"]
        validator = jsonschema.Draft202012Validator({**self._document, **schema})
        problems = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(body)]
        assert not problems, f"{method} {path}: {problems}"


@dataclass
class Alpaca:
    """A simulated Alpaca at a minute of the first session, with a plain HTTP client that holds the keys."""

    url: str
    http: httpx.AsyncClient
    market: ScriptedMarket
    session: Session = SESSIONS[0]

    async def to(self, minute: int, session: Session | None = None) -> None:
        await self.at((session or self.session).instant_of(minute))

    async def at(self, instant: datetime) -> None:
        (await self.http.post("/control/advance", json={"at": instant.isoformat()})).raise_for_status()

    async def post(self, **order: Any) -> httpx.Response:
        wanted = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **order}
        return await self.http.post("/v2/orders", json=wanted)

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def alpaca(
    folder: Path, market: ScriptedMarket | None = None, policy: AlpacaSimulatorPolicy | None = None, **terms: Any
) -> AsyncIterator[Alpaca]:
    """A simulated Alpaca on a ledger in the folder."""
    market = market or ScriptedMarket()
    broker = make_broker(folder, market, **terms)
    async with (
        alpaca_simulator(broker, broker_policy(**terms), market, policy) as url,
        httpx.AsyncClient(base_url=url, headers=KEYS, timeout=10, verify=False) as http,
    ):
        yield Alpaca(url, http, market)


def _modern(node: Any) -> Any:
    """OpenAPI 3.0 writes `nullable: true` where JSON schema says that null is one of the types."""
    if isinstance(node, list):
        return [_modern(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: _modern(value) for name, value in node.items()}
    if made.pop("nullable", False) is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        if isinstance(made.get("enum"), list):
            made["enum"] = [*made["enum"], None]
    return made
