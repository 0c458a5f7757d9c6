"""Models that are no more than a number, a list of what they were asked, and a gate that a test may keep shut."""

import asyncio
import threading
import time
from typing import Any

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.data_spec import AvailableAt, DataSpec, FeatureSpec, Group
from finagent.domain.ports.predictor import Forecasts
from finagent.services.models.serving import Call, Handle, ModelServer, Refusal, Serving, ServingPolicy

CATALOGUE = DataSpec(
    "catalogue",
    tuple(FeatureSpec(name, Group.GAP, "fraction", 1, 1, ("close",), AvailableAt.OPEN, "made up") for name in "abc"),
)


class Constant:
    """Answers `score` times the feature b. `gate` holds it back while it is shut; `asked` are the sizes of its batches."""

    spec = CATALOGUE.select("constant", ("b",))
    digest = ""

    def __init__(self, version: str, score: float = 0.5) -> None:
        self.model_version, self.score = version, score
        self.asked: list[int] = []
        self.gate, self.reached = threading.Event(), threading.Event()
        self.gate.set()

    def predict(self, rows: Floats) -> Forecasts:
        self.asked.append(len(rows))
        self.reached.set()
        self.gate.wait()
        return Forecasts.sure(rows[:, 0] * self.score)


class Faulty(Constant):
    """Fails a whole batch for a row of infinity."""

    def predict(self, rows: Floats) -> Forecasts:
        if np.isinf(rows).any():
            raise ValueError("infinite")
        return super().predict(rows)


def server_of(*models: Constant, batch_max: int = 64, queue_max: int = 512, **more: Any) -> ModelServer:
    """The first serves; a second one is canary."""
    deadline, on_wall_time = more.pop("deadline_seconds", 30.0), more.pop("on_wall_time", True)
    policy = ServingPolicy(batch_max, queue_max, deadline, on_wall_time)
    server = ModelServer(CATALOGUE, policy, more.pop("observers", []), time.perf_counter)
    if models:
        champion, *canary = (Handle.of(model, CATALOGUE) for model in models)
        server.serve(Serving(champion, canary[0] if canary else None, **more))
    return server


def rows_of(*values: float) -> Floats:
    """A row a value of the feature b."""
    return np.asarray([[7.0, value, 7.0] for value in values])


class Turns:
    """An observer that a test waits for: something was entered or answered."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def model_called(self, call: Call) -> None: ...

    def score_refused(self, refusal: Refusal, rows: int) -> None: ...

    def rows_waiting(self, rows: int) -> None:
        self._happened.set()

    async def another(self) -> None:
        self._happened.clear()
        await self._happened.wait()
