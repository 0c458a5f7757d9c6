"""Commands that write, while an agent holds the folder: it records them and who asked. Served over a Unix socket only."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.jobs import JobStatus
from finagent.domain.trading_state import StartGate, TradingStateRecord
from finagent.services.models.history import ChampionChange
from finagent.services.queue.by_hand import Moved, move_all
from finagent.services.reporting.canonical import as_plain

R = TypeVar("R")
JOB_ID_MAX = 2**63 - 1  # what the store can hold
JOBS_AT_ONCE_MAX = 1000


class Switch(Protocol):
    """The kill switch as control needs it."""

    @property
    def gate(self) -> StartGate: ...

    @property
    def held_back(self) -> Callable[[], str]: ...

    def state(self) -> TradingStateRecord: ...

    async def halt(self, reason: str, by: str, *, flatten: bool = False) -> None: ...

    async def arm(self, reason: str, by: str) -> None: ...

    async def lock_strategy(self, strategy: str, reason: str, by: str) -> None: ...

    async def release_strategy(self, strategy: str, reason: str, by: str) -> None: ...


class StuckJobs(Protocol):
    """What a person does to DEAD and PARKED jobs (see the JobQueue port)."""

    def retry(self, job_id: int, by: str) -> Awaitable[JobStatus]: ...

    def discard(self, job_id: int, reason: str, by: str) -> Awaitable[JobStatus]: ...


class KeptStore(Protocol):
    """The store as a person looks after it, and what the broker says of it."""

    async def reconcile(self, release_by: str | None) -> dict[str, Any]: ...

    async def broker_account(self) -> dict[str, Any]: ...

    async def accept_store(self, reason: str, by: str) -> None: ...

    async def copy_store(self, target: Path) -> None: ...

    async def record_champion(self, change: ChampionChange) -> str: ...


class Order(BaseModel):
    """What a person orders, why, and who they are."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(min_length=1, max_length=100)]


class Halt(Order):
    """An order to stop; with `flatten` also to close everything out."""

    flatten: bool = False


StrategyName = Annotated[str, Field(min_length=1, max_length=100)]


class StrategyHalt(Order):
    """An order that one strategy stops."""

    strategy: StrategyName


class Permission(Order):
    """An order that lapses: whoever gave it stopped waiting at `good_until` (seconds since 1970) and was told that it failed."""

    good_until: float


class StrategyPermission(Permission):
    """An order that one strategy goes on."""

    strategy: StrategyName


Jobs = Annotated[list[Annotated[int, Field(ge=1, le=JOB_ID_MAX)]], Field(min_length=1, max_length=JOBS_AT_ONCE_MAX)]


class Retry(BaseModel):
    """Who wants which jobs back; it lapses as a Permission does."""

    model_config = ConfigDict(extra="forbid")

    jobs: Jobs
    by: Annotated[str, Field(min_length=1, max_length=100)]
    good_until: float


class Discard(Permission):
    """Which jobs are given up, why and by whom."""

    jobs: Jobs


class Champion(Permission):
    """That another model is the champion of the registry by now, and how it came to be."""

    act: Literal["promote", "rollback"]
    version: Annotated[str, Field(min_length=1, max_length=200)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    before: Annotated[str, Field(max_length=200)] | None
    evidence: Annotated[tuple[Annotated[str, Field(max_length=500)], ...], Field(max_length=50)] = ()


class Comparison(BaseModel):
    """A comparison with the broker; with `release`, by whom locked symbols are released."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(min_length=1, max_length=100)]
    release: bool
    good_until: float


class Copy(BaseModel):
    """Where a copy of the store is wanted; nobody waits longer than until `good_until`."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str, Field(pattern="^/", max_length=4096)]
    good_until: float


def control_routes(switch: Switch, jobs: StuckJobs, store: KeptStore, wall_seconds: Callable[[], float]) -> APIRouter:
    """`POST /control/halt`, `POST /control/arm`, both also under `/control/strategy` for one strategy, `POST /control/db/accept`,
    `GET /control/status`: each answers with the state in force after it. `POST /control/db/backup` answers when the copy is
    there; 400 and 503 say why it cannot be. `POST /control/reconcile` compares with the broker now, `GET /control/account` is
    what it says the account holds. `POST /control/models/champion` records that the champion of the registry is another one, and
    says which version serves. `POST /control/jobs/retry` and `/control/jobs/discard`: which of the jobs were, and why the others
    could not be."""
    routes = APIRouter(prefix="/control", tags=["control"])

    def state() -> dict[str, Any]:
        answer: dict[str, Any] = as_plain(switch.state())
        return answer | {"start_gate": switch.gate.value, "held_back": switch.held_back()}

    def in_time(good_until: float) -> None:
        if wall_seconds() > good_until:
            raise HTTPException(409, "too late: whoever asked has stopped waiting, nothing is changed")

    @routes.post("/halt")
    async def halt(order: Halt) -> dict[str, Any]:
        await switch.halt(order.reason, order.by, flatten=order.flatten)
        return state()

    @routes.post("/arm")
    async def arm(order: Permission) -> dict[str, Any]:
        in_time(order.good_until)
        await switch.arm(order.reason, order.by)
        return state()

    @routes.post("/db/accept")
    async def accept(order: Permission) -> dict[str, Any]:
        in_time(order.good_until)
        await _done(store.accept_store(order.reason, order.by))
        return state()

    @routes.post("/reconcile")
    async def reconcile(order: Comparison) -> dict[str, Any]:
        in_time(order.good_until)
        return await _done(store.reconcile(order.by if order.release else None))

    @routes.post("/db/backup")
    async def backup(order: Copy) -> dict[str, Any]:
        in_time(order.good_until)
        await _done(store.copy_store(Path(order.file)))
        return {"file": order.file}

    @routes.post("/models/champion")
    async def champion(order: Champion) -> dict[str, Any]:
        in_time(order.good_until)
        serves = await store.record_champion(ChampionChange(**order.model_dump(exclude={"good_until"})))
        return {"champion": order.version, "serves": serves}

    @routes.get("/account")
    async def account() -> dict[str, Any]:
        return await _done(store.broker_account())

    @routes.get("/status")
    async def status() -> dict[str, Any]:
        return state()

    _add_strategy_routes(routes, switch, state, in_time)
    _add_job_routes(routes, jobs, in_time)
    return routes


async def _done(act: Awaitable[R]) -> R:
    """Its answer; what it could not do is an answer too."""
    try:
        return await act
    except BadInput as error:
        raise HTTPException(400, str(error)) from error
    except Unavailable as error:
        raise HTTPException(503, str(error)) from error


def _add_strategy_routes(
    routes: APIRouter, switch: Switch, state: Callable[[], dict[str, Any]], in_time: Callable[[float], None]
) -> None:
    @routes.post("/strategy/halt")
    async def lock_strategy(order: StrategyHalt) -> dict[str, Any]:
        await switch.lock_strategy(order.strategy, order.reason, order.by)
        return state()

    @routes.post("/strategy/arm")
    async def release_strategy(order: StrategyPermission) -> dict[str, Any]:
        in_time(order.good_until)
        await _done(switch.release_strategy(order.strategy, order.reason, order.by))
        return state()


def _add_job_routes(routes: APIRouter, jobs: StuckJobs, in_time: Callable[[float], None]) -> None:
    @routes.post("/jobs/retry")
    async def retry(order: Retry) -> Moved:
        in_time(order.good_until)
        return await move_all(order.jobs, lambda job: jobs.retry(job, order.by))

    @routes.post("/jobs/discard")
    async def discard(order: Discard) -> Moved:
        in_time(order.good_until)
        return await move_all(order.jobs, lambda job: jobs.discard(job, order.reason, order.by))
