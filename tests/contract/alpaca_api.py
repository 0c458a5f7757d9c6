"""Alpaca's official OpenAPI as a judge of answers, and a simulated Alpaca to ask."""

import functools
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from tests.conftest import REPOSITORY
from tests.unit.adapters.broker.scripted_market import SESSIONS, ScriptedMarket, broker_policy, make_broker

from finagent.adapters.broker.alpaca_simulator.halts import HaltingMarket
from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy
from finagent.adapters.broker.alpaca_simulator.server import alpaca_simulator
from finagent.domain.sessions import Session

KEYS = {"APCA-API-KEY-ID": "PKSIMULATOR", "APCA-API-SECRET-KEY": "simulator"}


class OpenApi:
    """The schemas of one official file."""

    def __init__(self, file: Path) -> None:
        self._document = _modern(json.loads(file.read_text()))

    def template(self, path: str) -> str | None:
        """The path of the operation that serves a path: the one with the fewest placeholders."""
        found = [
            name for name in self._document["paths"] if re.fullmatch(re.sub(r"\\{[^}]+\\}", "[^/:]+", re.escape(name)), path)
        ]
        return min(found, key=lambda name: name.count("{"), default=None)

    def judge_response(self, answer: httpx.Response) -> None:
        """Fails unless a body of success is what the operation answers; the file has few bodies of refusals."""
        template = self.template(answer.request.url.path)
        if template is not None and answer.status_code in (200, 207):
            self.judge(answer.request.method, template, answer.status_code, answer.json())

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


@functools.cache
def official() -> tuple[OpenApi, ...]:
    """The official files, where they are (see the fixture `market_data_folder`)."""
    folder = Path(os.environ.get("FINAGENT_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "alpaca-openapi"
    return tuple(OpenApi(file) for file in sorted(folder.glob("*.json")))


async def judged_by_all(answer: httpx.Response) -> None:
    await answer.aread()
    for api in official():
        api.judge_response(answer)


@asynccontextmanager
async def alpaca(
    folder: Path,
    market: ScriptedMarket | None = None,
    policy: AlpacaSimulatorPolicy | None = None,
    *,
    judged: bool = True,
    **terms: Any,
) -> AsyncIterator[Alpaca]:
    """A simulated Alpaca on a ledger in the folder. Where the official OpenAPI is, it judges every answer to `http`."""
    market, policy = market or ScriptedMarket(), policy or AlpacaSimulatorPolicy()
    halting = HaltingMarket(market, policy.seed, policy.halts)
    broker = make_broker(folder, halting, **terms)
    hooks = {"response": [judged_by_all]} if judged else {}
    async with (
        alpaca_simulator(broker, broker_policy(**terms), halting, policy) as url,
        httpx.AsyncClient(base_url=url, headers=KEYS, timeout=10, verify=False, event_hooks=hooks) as http,
    ):
        yield Alpaca(url, http, market)


def _modern(node: Any) -> Any:
    """OpenAPI 3.0 writes `nullable: true` where JSON schema says that null is one of the types. `oneOf` becomes `anyOf`: a fill
    has the fields of both kinds of activity that the official file tells apart."""
    if isinstance(node, list):
        return [_modern(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: _modern(value) for name, value in node.items()}
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    if made.pop("nullable", False) is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        if isinstance(made.get("enum"), list):
            made["enum"] = [*made["enum"], None]
    return made
