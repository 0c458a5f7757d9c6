"""The contest of inference is fair: the same net, an open loop, every reply checked, and an absent peer is named."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from finagent.bench.convolution_net import COLUMNS, onnx_model, package_of, rows_of, unbatched_onnx, weights_of
from finagent.bench.inference import ONNX, TORCH, Effort, inference_contest
from finagent.bench.poisson import Load, endured
from finagent.domain.errors import InvariantViolated
from finagent.policies import follow_policy, serving_policy
from finagent.settings import load_settings

EFFORT = Effort(rates=(50,), seconds=0.2, swaps=30)


def contest(torch: Any) -> dict[str, Any]:
    settings = load_settings()
    return inference_contest(5, serving_policy(settings), follow_policy(settings), EFFORT, torch).as_json()


def no_torch(_weights: Any) -> Any:
    raise ImportError("no torch", name="torch")


def test_the_rows_have_the_documented_form_and_an_absent_peer_is_named() -> None:
    document = contest(no_torch)
    json.dumps(document, allow_nan=False)
    rows = {row["figure"]: row for row in document["rows"]}
    assert document["absent"] == [f"{TORCH}: torch is not installed"]
    latency = rows["latency at 50 requests/s, p95"]
    assert (latency["better"], latency["unit"], latency["repeats"], set(latency["peers"])) == ("lower", "ms", 5, {ONNX})
    assert 0 < rows["latency at 50 requests/s, p50"]["ours"] <= latency["ours"]
    (swaps,) = (row for figure, row in rows.items() if figure.startswith("right replies of"))
    assert swaps["figure"].endswith("over 30 swaps and rollbacks")
    assert swaps["ours"] == 100.0
    assert swaps["goals"] == [{"goal": "not below 100", "met": True}]
    assert rows["rollback to the first prediction"]["ours"] > 0


def test_a_peer_that_scores_otherwise_stops_the_contest() -> None:
    with pytest.raises(InvariantViolated, match="torch, unbatched scores otherwise"):
        contest(lambda _weights: lambda rows: np.full(len(rows), 0.5))


def test_the_net_is_of_the_size_that_it_says_and_its_versions_differ() -> None:
    assert sum(value.size for value in weights_of(0).values()) == 56_137
    rows, models = rows_of(4), [onnx_model(weights_of(number)) for number in (0, 1)]
    one, other = (unbatched_onnx(model)(rows) for model in models)
    assert np.abs(one - other).min() > 1e-3
    assert len(set(one.tolist())) == 4
    assert package_of(0, models[0]).manifest.data_spec_hash == COLUMNS.hash


def test_an_open_loop_does_not_wait_for_answers_and_counts_from_when_a_request_was_due() -> None:
    async def held() -> None:
        gate, asked = asyncio.Event(), list[int]()

        async def ask(number: int) -> bool:
            asked.append(number)
            if len(asked) == 20:
                gate.set()
            await gate.wait()
            return number % 2 == 0

        seen = await endured(Load(rate=1000, seconds=0.02, patience_seconds=60), ask, 1)
        assert asked == list(range(20)), "all were asked although none was answered before the last"
        assert seen.answered == 0.5
        assert (seen.latency_seconds > 0).all()
        assert seen.latency_seconds[0] > seen.latency_seconds[18], "the first one waited longest"

    asyncio.run(held())


def test_who_is_answered_too_late_is_not_answered() -> None:
    async def late() -> None:
        async def ask(_number: int) -> bool:
            await asyncio.sleep(0.02)
            return True

        assert (await endured(Load(1000, 0.005, 0.01), ask, 1)).answered == 0.0
        never = asyncio.Event()
        seen = await endured(Load(1000, 0.005, 0.01), lambda _number: never.wait(), 1)
        assert seen.answered == 0.0
        assert np.isfinite(seen.latency_seconds).all()

    asyncio.run(late())
