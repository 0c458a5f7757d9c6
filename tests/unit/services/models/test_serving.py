"""What waits is one batch; what has no score says why, alone; a swap mixes and loses nothing."""

import asyncio
import math
from datetime import date

import numpy as np
import pytest
from tests.unit.services.models.linear_models import CATALOGUE, Constant, Faulty, Turns, rows_of, server_of

from finagent.domain.errors import BadInput
from finagent.domain.experiment import Subject
from finagent.domain.ports.predictor import Forecasts
from finagent.services.metering import InferenceMeter
from finagent.services.models.serving import Handle, ModelServer, Score, Serving
from finagent.telemetry.metrics import Metrics

ONE = [Subject("IBM", date(2008, 10, 1))]


async def reached(model: Constant) -> None:
    await asyncio.to_thread(model.reached.wait)


async def held(model: Constant, server: ModelServer) -> "asyncio.Future[list[Score]]":
    """A request that the model has begun and does not answer before its gate is opened."""
    model.gate.clear()
    first = asyncio.ensure_future(server.score(rows_of(1.0), ONE))
    await reached(model)
    return first


async def test_a_request_that_finds_the_worker_idle_waits_for_nobody_and_what_waits_is_one_batch() -> None:
    model = Constant("m@1")
    server = server_of(model, batch_max=8)
    async with server.running():
        first = await held(model, server)
        waiting = [asyncio.ensure_future(server.score(rows_of(value / 10), ONE)) for value in range(10)]
        await asyncio.sleep(0)
        model.gate.set()
        assert await first == [Score(0.5, "m@1")]
        answers = [await one for one in waiting]
    assert model.asked == [1, 8, 2]
    assert [answer[0].value for answer in answers] == pytest.approx([value / 20 for value in range(10)], abs=1e-12)


async def test_rows_of_one_request_stay_together_and_in_order() -> None:
    model = Constant("m@1")
    server = server_of(model, batch_max=4, on_wall_time=False)
    async with server.running():
        answers = await server.score(rows_of(*np.arange(10) / 10), ONE * 10)
        assert await server.score(rows_of()[:0].reshape(0, 3), []) == []
    assert model.asked == [4, 4, 2]
    assert [answer.value for answer in answers] == pytest.approx(np.arange(10) / 20)


async def test_a_bad_row_costs_nobody_but_itself() -> None:
    metrics = Metrics()
    server = server_of(Faulty("m@1"), observers=[InferenceMeter(metrics)])
    async with server.running():
        answers = await server.score(rows_of(1.0, math.inf, math.nan, 3.0, 0.2), ONE * 5)
    assert [answer.reason for answer in answers] == [
        "",
        "model m@1 failed: ValueError: infinite",
        "no score in [0, 1]: nan",
        "no score in [0, 1]: 1.5",
        "",
    ]
    assert [answer.value for answer in answers] == pytest.approx([0.5, math.nan, math.nan, math.nan, 0.1], nan_ok=True)
    assert {answer.version for answer in answers} == {"m@1"}
    told = metrics.exposition().decode()
    assert 'finagent_inference_refused_total{reason="failed"} 1.0' in told
    assert 'finagent_inference_refused_total{reason="no_score"} 2.0' in told
    assert "finagent_inference_batch_size_sum 5.0" in told


async def test_an_answer_of_another_shape_is_no_score() -> None:
    model = Constant("m@1")
    model.predict = lambda rows: Forecasts.sure(np.zeros((len(rows), 2)))  # type: ignore[method-assign] # a model that is wrong
    server = server_of(model)
    async with server.running():
        answers = await server.score(rows_of(1.0, 2.0), ONE * 2)
    assert all("BadInput: it answers 1 rows with the shape (1, 2)" in answer.reason for answer in answers)


async def test_who_abstains_has_a_score_all_the_same() -> None:
    model = Constant("m@1")
    model.predict = lambda rows: Forecasts(rows[:, 0], rows[:, 0] < 0.5)  # type: ignore[method-assign] # a model that is wary
    server = server_of(model)
    async with server.running():
        answers = await server.score(rows_of(0.4, 0.6), ONE * 2)
    assert answers == [Score(0.4, "m@1", abstains=True), Score(0.6, "m@1")]


async def test_a_request_of_another_shape_is_refused_before_it_meets_others() -> None:
    server = server_of(Constant("m@1"))
    async with server.running():
        with pytest.raises(BadInput, match=r"the rows are \(1, 2\): they must be 1 x 3 features"):
            await server.score(np.zeros((1, 2)), ONE)
        with pytest.raises(BadInput, match=r"they must be 1 x 3 features"):
            await server.score(np.zeros((2, 3)), ONE)
        assert await server.score(rows_of(1.0), ONE) == [Score(0.5, "m@1")]


async def test_without_a_model_there_is_no_score_and_it_is_said() -> None:
    server = server_of()
    assert (await server.score(rows_of(1.0), ONE))[0].reason == "no model serves"
    async with server.running():
        (answer,) = await server.score(rows_of(1.0), ONE)
        assert (math.isnan(answer.value), answer.version, answer.reason) == (True, "", "no model serves")
        server.serve(Serving(Handle.of(Constant("m@1"), CATALOGUE)))
        assert await server.score(rows_of(1.0), ONE) == [Score(0.5, "m@1")]


async def test_a_model_that_hangs_is_a_time_out_of_each_request_and_fills_the_queue_no_further() -> None:
    model, metrics, turns = Constant("m@1"), Metrics(), Turns()
    server = server_of(model, queue_max=3, deadline_seconds=0.2, observers=[InferenceMeter(metrics), turns])
    async with server.running():
        first = await held(model, server)
        second = asyncio.ensure_future(server.score(rows_of(1.0, 1.0), ONE * 2))
        await asyncio.sleep(0)
        (full,) = await server.score(rows_of(1.0), ONE)
        assert full.reason == "3 rows wait for a score already"
        assert [answer.reason for answer in (*await first, *await second)] == ["no score within 0.2 s"] * 3
        (still,) = await server.score(rows_of(1.0), ONE)
        assert still.reason == "3 rows wait for a score already", "what timed out still waits at the worker"
        model.gate.set()
        await turns.another()
        (answer,) = await server.score(rows_of(1.0), ONE)
    assert answer == Score(0.5, "m@1")
    assert model.asked == [1, 1], "nobody waited for the two rows any more"
    told = metrics.exposition().decode()
    assert 'finagent_inference_refused_total{reason="timed_out"} 3.0' in told
    assert "finagent_inference_queue_depth 0.0" in told


async def test_wall_time_decides_nothing_in_a_replay() -> None:
    """Neither a deadline nor a full queue: both depend on how fast the worker is."""
    model = Constant("m@1")
    server = server_of(model, queue_max=1, deadline_seconds=0.01, on_wall_time=False)
    async with server.running():
        first = await held(model, server)
        more = [asyncio.ensure_future(server.score(rows_of(1.0), ONE)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not first.done()
        model.gate.set()
        assert [await one for one in (first, *more)] == [[Score(0.5, "m@1")]] * 6


async def test_whoever_waits_at_the_end_is_told() -> None:
    model = Constant("m@1")
    server = server_of(model, deadline_seconds=0.05, on_wall_time=False)
    async with server.running():
        first = await held(model, server)
    assert (await first)[0].reason == "no model serves any more"
    model.gate.set()


async def test_a_caller_that_gives_up_takes_its_row_along() -> None:
    model = Constant("m@1")
    server = server_of(model)
    async with server.running():
        first = await held(model, server)
        waiting = asyncio.ensure_future(server.score(rows_of(1.0), ONE))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        model.gate.set()
        await first
        assert await server.score(rows_of(1.0), ONE) == [Score(0.5, "m@1")]
    assert model.asked == [1, 1]


async def test_a_swap_in_the_middle_of_a_batch_waits_for_the_next_one() -> None:
    """Two calls of one batch, and another model serves between them."""
    old, new = Constant("m@1", 0.1), Constant("m@2", 0.2)
    server = server_of(old, batch_max=1)
    async with server.running():
        old.gate.clear()
        both = asyncio.ensure_future(server.score(rows_of(1.0, 1.0), ONE * 2))
        await reached(old)
        server.serve(Serving(Handle.of(new, CATALOGUE)))
        old.gate.set()
        assert await both == [Score(0.1, "m@1")] * 2
        assert await server.score(rows_of(1.0), ONE) == [Score(0.2, "m@2")]


async def test_a_hundred_swaps_under_load_lose_and_mix_nothing() -> None:
    """Each version scores with a number of its own: a mixed reply would show."""
    swaps, callers = 100, 8
    handles = [Handle.of(Constant(f"m@{number}", (number + 1) / 10), CATALOGUE) for number in range(3)]
    turns, answers, stop = Turns(), list[Score](), asyncio.Event()
    server = server_of(observers=[turns])
    server.serve(Serving(handles[0]))

    async def load() -> None:
        while not stop.is_set():
            answers.extend(await server.score(rows_of(1.0, 0.5), ONE * 2))

    async with server.running(), asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(load())
        for number in range(1, swaps + 1):
            before = len(answers)
            server.serve(Serving(handles[number % 3]))
            while len(answers) < before + 2 * callers or answers[-1].version != f"m@{number % 3}":
                await turns.another()
        stop.set()
    told = {f"m@{number}": (number + 1) / 10 for number in range(3)}
    assert all(not answer.reason for answer in answers)
    assert {answer.version for answer in answers} == set(told)
    for pair in zip(answers[::2], answers[1::2], strict=True):
        assert pair[0].version == pair[1].version
        assert [answer.value for answer in pair] == pytest.approx([told[pair[0].version], told[pair[0].version] / 2], abs=1e-12)


async def test_a_canary_serves_its_share_and_says_so() -> None:
    subjects = [Subject(f"S{number}", date(2008, 10, 1)) for number in range(200)]
    champion, canary = Constant("m@1", 0.2), Constant("m@2", 0.4)
    server = server_of(champion, canary, canary_share=0.3)
    async with server.running():
        answers = await server.score(rows_of(*[1.0] * 200), subjects)
        again = await server.score(rows_of(*[1.0] * 200), subjects)
    assert answers == again
    assert {(answer.version, round(answer.value, 9)) for answer in answers} == {("m@1", 0.2), ("m@2", 0.4)}
    assert 30 < sum(answer.version == "m@2" for answer in answers) < 90
    everybody = Serving(server.serving.champion, server.serving.canary, 1.0)
    assert all(everybody.handle_of(subject) is everybody.canary for subject in subjects)
    nobody = Serving(server.serving.champion, server.serving.canary, 0.0)
    assert all(nobody.handle_of(subject) is nobody.champion for subject in subjects)
