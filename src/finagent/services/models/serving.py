"""Scores off the event loop: what waits while the worker is busy is its next batch, of the handle that serves by then."""

import asyncio
import contextlib
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np
import numpy.typing as npt

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.domain.experiment import Subject, takes_part
from finagent.domain.ports.predictor import Predictor


class Refusal(Enum):
    """Why a row has no score."""

    QUEUE_FULL = "queue_full"
    TIMED_OUT = "timed_out"
    NO_MODEL = "no_model"
    FAILED = "failed"
    NO_SCORE = "no_score"


@dataclass(frozen=True, slots=True)
class Score:
    """What the model of that version says of a row, and whether it abstains. Without a score `value` is NaN and `reason` says
    why; `version` is empty where no model was asked, `digest` where it is a formula."""

    value: float
    version: str
    reason: str = ""
    digest: str = ""
    abstains: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """A loaded model and where its features stand in a row of the catalogue; it never changes."""

    predictor: Predictor
    columns: "npt.NDArray[np.intp] | slice"

    @classmethod
    def of(cls, predictor: Predictor, catalogue: DataSpec) -> "Handle":
        """Raises BadInput for a model that was made for other features than there are."""
        wanted = predictor.spec
        catalogue.select(catalogue.name, wanted.names).require(wanted, f"model {predictor.model_version}")
        if wanted.names == catalogue.names:
            return cls(predictor, slice(None))
        return cls(predictor, np.asarray([catalogue.columns[name] for name in wanted.names], dtype=np.intp))

    @property
    def version(self) -> str:
        return self.predictor.model_version


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves: the champion, and for its share of all subjects a canary. One value, replaced as a whole."""

    champion: Handle | None
    canary: Handle | None = None
    canary_share: float = 0.0

    def handle_of(self, subject: Subject) -> Handle | None:
        """Each version of a canary draws its own share."""
        if self.canary is not None and takes_part(self.canary.version, subject, self.canary_share):
            return self.canary
        return self.champion


@dataclass(frozen=True, slots=True)
class ServingPolicy:
    """`batch_max` rows are one call of a model; `queue_max` rows may wait or be at work, and a request that has no answer after
    `deadline_seconds` gets none, both only `on_wall_time`: in a replay wall time decides nothing."""

    batch_max: int
    queue_max: int
    deadline_seconds: float
    on_wall_time: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model: its rows, how many of them it failed at, how many it had no score for, and its wall seconds."""

    version: str
    rows: int
    failed: int
    unscored: int
    seconds: float


class InferenceObserver(Protocol):
    """Told on the event loop what the worker did."""

    def model_called(self, call: Call) -> None: ...

    def score_refused(self, refusal: Refusal, rows: int) -> None: ...

    def rows_waiting(self, rows: int) -> None: ...


@dataclass(eq=False, slots=True)
class _Request:
    rows: Floats
    subjects: Sequence[Subject]
    answer: "asyncio.Future[list[Score]]"
    deadline: float


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the worker hands back: an answer for each request that somebody still waited for."""

    requests: list[_Request]
    answers: list[list[Score] | None]
    calls: list[Call]
    refused: dict[Refusal, int]


class ModelServer:
    """One worker thread, which is one device. It waits for nothing but work: a request that finds it idle is computed at once.

    A batch is computed by the handles that serve when it is begun; `serve` replaces them by one assignment, so no reply is mixed
    and none is lost. Each score names the version that made it.
    """

    def __init__(
        self,
        catalogue: DataSpec,
        policy: ServingPolicy,
        observers: Sequence[InferenceObserver],
        monotonic: Callable[[], float],
    ) -> None:
        self._width, self._policy, self._monotonic = len(catalogue.features), policy, monotonic
        self.observers = list(observers)
        self._serving = Serving(None)
        self._inbox: SimpleQueue[_Request | None] = SimpleQueue()
        self._open: deque[_Request] = deque()  # in the order of their deadlines
        self._rows = 0
        self._timer: asyncio.TimerHandle | None = None
        self._runs = False

    @property
    def serving(self) -> Serving:
        """Who serves now."""
        return self._serving

    def serve(self, serving: Serving) -> None:
        """The next batch is computed by these handles. May be called from any thread."""
        self._serving = serving

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ModelServer"]:
        """While the block runs the worker does; whoever still waits at its end gets no score."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._work, args=(loop, ended), name="inference", daemon=True).start()
        self._runs = True
        try:
            yield self
        finally:
            self._runs = False
            self._inbox.put(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.deadline_seconds):  # a model that hangs must not hold the end up
                    await ended.wait()
            if self._timer is not None:
                self._timer.cancel()
            for request in self._open:
                self._refuse(request, Refusal.NO_MODEL, "no model serves any more")
            self._open.clear()

    async def score(self, rows: Floats, subjects: Sequence[Subject]) -> list[Score]:
        """A score a row of the catalogue [n, features], in their order; what has none says why. BadInput for another shape."""
        if rows.shape != (len(subjects), self._width):
            raise BadInput(f"the rows are {rows.shape}: they must be {len(subjects)} x {self._width} features")
        if not len(rows):
            return []
        loop, policy = asyncio.get_running_loop(), self._policy
        request = _Request(rows, subjects, loop.create_future(), loop.time() + policy.deadline_seconds)
        if not self._runs:
            self._refuse(request, Refusal.NO_MODEL, "no model serves")
        elif policy.on_wall_time and self._rows + len(rows) > policy.queue_max:
            self._refuse(request, Refusal.QUEUE_FULL, f"{self._rows} rows wait for a score already")
        else:
            self._enter(loop, request)
        return await request.answer

    # -- on the loop ---------------------------------------------------------------------------------------------------------

    def _enter(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        self._rows += len(request.rows)
        for observer in self.observers:
            observer.rows_waiting(self._rows)
        self._open.append(request)
        if self._policy.on_wall_time and self._timer is None:
            self._timer = loop.call_at(request.deadline, self._expire, loop)
        self._inbox.put(request)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer stands for all that wait: it is set for the first. Their rows count until the worker has passed them."""
        self._timer = None
        while self._open and (self._open[0].answer.done() or self._open[0].deadline <= loop.time()):
            self._refuse(self._open.popleft(), Refusal.TIMED_OUT, f"no score within {self._policy.deadline_seconds:g} s")
        if self._open:
            self._timer = loop.call_at(self._open[0].deadline, self._expire, loop)

    def _refuse(self, request: _Request, refusal: Refusal, reason: str) -> None:
        if request.answer.done():
            return
        request.answer.set_result([Score(math.nan, "", reason)] * len(request.rows))
        for observer in self.observers:
            observer.score_refused(refusal, len(request.rows))

    def _answered(self, batch: _Batch) -> None:
        for request, scores in zip(batch.requests, batch.answers, strict=True):
            self._rows -= len(request.rows)
            if scores is not None and not request.answer.done():
                request.answer.set_result(scores)
        while self._open and self._open[0].answer.done():
            self._open.popleft()
        for observer in self.observers:
            observer.rows_waiting(self._rows)
            for call in batch.calls:
                observer.model_called(call)
            for refusal, rows in batch.refused.items():
                observer.score_refused(refusal, rows)

    # -- in the worker -------------------------------------------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        while (first := self._inbox.get()) is not None:
            batch = self._computed(self._gathered(first))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._answered, batch)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    def _gathered(self, first: _Request) -> list[_Request]:
        """All that waits by now, as far as it fills a batch."""
        requests, rows = [first], len(first.rows)
        while rows < self._policy.batch_max:
            try:
                following = self._inbox.get_nowait()
            except Empty:
                break
            if following is None:
                self._inbox.put(None)
                break
            requests.append(following)
            rows += len(following.rows)
        return requests

    def _computed(self, requests: list[_Request]) -> _Batch:
        serving, policy = self._serving, self._policy  # read once: a batch never mixes two of them
        waited = [request for request in requests if not request.answer.done()]
        subjects = [subject for request in waited for subject in request.subjects]
        rows = np.concatenate([request.rows for request in waited]) if waited else np.empty((0, self._width))
        scores: list[Score] = [Score(math.nan, "", "no model serves")] * len(rows)
        calls: list[Call] = []
        refused: dict[Refusal, int] = {}
        for handle, places in _by_handle(serving, subjects):
            if handle is None:
                refused[Refusal.NO_MODEL] = len(places)
                continue
            for start in range(0, len(places), policy.batch_max):
                some = places[start : start + policy.batch_max]
                made, call = _called(handle, rows[some], self._monotonic)
                calls.append(call)
                for place, score in zip(some, made, strict=True):
                    scores[place] = score
        refused |= {Refusal.FAILED: sum(call.failed for call in calls), Refusal.NO_SCORE: sum(call.unscored for call in calls)}
        answers, at = dict[int, list[Score]](), 0
        for request in waited:
            answers[id(request)] = scores[at : at + len(request.rows)]
            at += len(request.rows)
        told = {refusal: count for refusal, count in refused.items() if count}
        return _Batch(requests, [answers.get(id(request)) for request in requests], calls, told)


def _by_handle(serving: Serving, subjects: Sequence[Subject]) -> list[tuple[Handle | None, list[int]]]:
    """The places of the rows of each handle, in their order."""
    if serving.canary is None or not subjects:
        return [(serving.champion, list(range(len(subjects))))] if subjects else []
    of_canary: list[int] = []
    of_champion: list[int] = []
    for place, subject in enumerate(subjects):
        (of_canary if serving.handle_of(subject) is serving.canary else of_champion).append(place)
    both: list[tuple[Handle | None, list[int]]] = [(serving.champion, of_champion), (serving.canary, of_canary)]
    return [(handle, places) for handle, places in both if places]


def _called(handle: Handle, rows: Floats, monotonic: Callable[[], float]) -> tuple[list[Score], Call]:
    began = monotonic()
    values, abstains, errors = _predicted(handle, rows[:, handle.columns])
    seconds = monotonic() - began
    version = handle.version
    scores, unscored = [], 0
    for value, abstaining, error in zip(values, abstains, errors, strict=True):
        if error:
            scores.append(Score(math.nan, version, error))
        elif 0.0 <= value <= 1.0:
            scores.append(Score(value, version, digest=handle.predictor.digest, abstains=abstaining))
        else:  # NaN, too
            unscored += 1
            scores.append(Score(math.nan, version, f"no score in [0, 1]: {value}"))
    return scores, Call(version, len(rows), sum(map(bool, errors)), unscored, seconds)


def _predicted(handle: Handle, rows: Floats) -> tuple[list[float], list[bool], list[str]]:
    """Scores, abstentions, and why the model failed where it did: a batch that fails is asked row by row."""
    try:
        told = handle.predictor.predict(rows)
        if np.shape(told.scores) != (len(rows),) or np.shape(told.abstains) != (len(rows),):
            raise BadInput(f"it answers {len(rows)} rows with the shape {np.shape(told.scores)}")  # noqa: TRY301 - one end for all that fails
    except Exception as error:  # noqa: BLE001 - whatever a model raises costs its own row alone
        if len(rows) == 1:
            return [math.nan], [False], [f"model {handle.version} failed: {type(error).__name__}: {error}"]
        alone = [_predicted(handle, rows[place : place + 1]) for place in range(len(rows))]
        values, abstains, errors = zip(*alone, strict=True)
        return [one[0] for one in values], [one[0] for one in abstains], [one[0] for one in errors]
    return np.asarray(told.scores, dtype=np.float64).tolist(), np.asarray(told.abstains).tolist(), [""] * len(rows)
