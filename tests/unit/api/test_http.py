"""The agent's HTTP faces on real sockets."""

import asyncio
import socket
import stat
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from finagent.api.app import add_halt_route, control_app, public_app
from finagent.api.server import bind_control, bind_port, serving
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.jobs import JobStatus
from finagent.domain.trading_state import StartGate, TradingState, TradingStateRecord
from finagent.services.health import HealthFacts, ReadinessPolicy
from finagent.services.models.history import ChampionChange
from finagent.telemetry.metrics import Metrics

POLICY = ReadinessPolicy(1000, 180, 60, 1)
READY = HealthFacts(StartGate.OPEN, TradingState.ACTIVE, False, False, 10.0, 2.0, 0.5, 0.01)
STUCK = HealthFacts(StartGate.RECONCILING, TradingState.HALTED, True, False, 2000.0, 200.0, 61.0, 1.5)


class RecordedSwitch:
    """A kill switch in memory."""

    def __init__(self) -> None:
        self.gate = StartGate.OPEN
        self.flattened = False
        self.locked: dict[str, tuple[str, str]] = {}
        self.record = TradingStateRecord(1, TradingState.ACTIVE, "first start", "system", datetime(2008, 10, 1, tzinfo=UTC))

    def held_back(self) -> str:
        return ""

    def state(self) -> TradingStateRecord:
        return self.record

    async def halt(self, reason: str, by: str, *, flatten: bool = False) -> None:
        self.flattened = flatten
        self.record = TradingStateRecord(1, TradingState.HALTED, reason, by, self.record.at)

    async def arm(self, reason: str, by: str) -> None:
        self.record = TradingStateRecord(1, TradingState.ACTIVE, reason, by, self.record.at)

    async def lock_strategy(self, strategy: str, reason: str, by: str) -> None:
        self.locked[strategy] = (reason, by)

    async def release_strategy(self, strategy: str, reason: str, by: str) -> None:
        if strategy not in self.locked:
            raise BadInput(f"{strategy} is not locked")
        del self.locked[strategy]


class RecordedStore:
    """A store that can be accepted once."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, str]] = []

        self.copies: list[Path] = []
        self.champions: list[ChampionChange] = []

    async def copy_store(self, target: Path) -> None:
        if target.name == "full":
            raise Unavailable("no room")
        self.copies.append(target)

    async def reconcile(self, release_by: str | None) -> dict[str, Any]:
        if release_by == "bob":
            raise Unavailable("the broker does not answer")
        return {"differences": [], "locked": [], "released": [release_by]}

    async def broker_account(self) -> dict[str, Any]:
        if self.accepted:
            raise Unavailable("the broker does not answer")
        return {"positions": []}

    async def record_champion(self, change: ChampionChange) -> str:
        self.champions.append(change)
        return "gap@1"

    async def accept_store(self, reason: str, by: str) -> None:
        if self.accepted:
            raise BadInput("there is nothing to accept")
        self.accepted.append((reason, by))


class RecordedJobs:
    """Job 7 is DEAD, no other one is."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def retry(self, job_id: int, by: str) -> JobStatus:
        return self._moved(JobStatus.READY, job_id, by)

    async def discard(self, job_id: int, reason: str, by: str) -> JobStatus:
        return self._moved(JobStatus.DEAD, job_id, reason, by)

    def _moved(self, status: JobStatus, job_id: int, *by: str) -> JobStatus:
        if job_id != 7:
            raise BadInput(f"there is no job {job_id}")
        self.asked.append((status, job_id, *by))
        return status


async def get(path: str, facts: HealthFacts) -> httpx.Response:
    """One request to a server on any free port."""
    listening = bind_port("127.0.0.1", 0)
    host, port = listening.getsockname()
    async with serving(public_app(lambda: facts, POLICY, Metrics()), listening), httpx.AsyncClient() as client:
        return await client.get(f"http://{host}:{port}{path}")


async def test_live_says_that_the_loop_turns() -> None:
    """Live does not depend on any work being done."""
    response = await get("/health/live", STUCK)

    assert (response.status_code, response.json()) == (200, {"status": "live"})


async def test_ready_while_work_is_done() -> None:
    """All ages are inside their limits."""
    response = await get("/health/ready", READY)

    assert response.status_code == 200
    assert response.json()["reasons"] == []


async def test_not_ready_names_every_reason() -> None:
    """Gate, disk, pass, bar, queue and loop are all named with value and limit."""
    response = await get("/health/ready", STUCK)

    assert response.status_code == 503
    assert response.json()["reasons"] == [
        "start gate is RECONCILING",
        "disk is full",
        "last pass: 2000.0 s, limit 1000 s",
        "last bar: 200.0 s, limit 180 s",
        "oldest due job: 61.0 s, limit 60 s",
        "event loop lag: 1.5 s, limit 1 s",
    ]


async def test_metrics_are_prometheus_text() -> None:
    """The scrape has the type that Prometheus expects."""
    response = await get("/metrics", READY)

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'finagent_jobs{status="READY"} 0.0' in response.text


@pytest.mark.parametrize("path", ["/control/status", "/control/halt", "/docs", "/openapi.json"])
async def test_the_network_sees_no_control(path: str) -> None:
    """Neither control nor a description of it is served beside health and metrics."""
    assert (await get(path, READY)).status_code == 404


def test_a_taken_port_is_named_with_the_cure() -> None:
    """The message says which port and how to choose another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(Unavailable, match=rf"{port} on 127\.0\.0\.1 is taken .*--set http\.port"):
            bind_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    """An address this machine does not have is Unavailable too."""
    with pytest.raises(Unavailable, match="cannot be used"):
        bind_port("192.0.2.1", 0)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "finagent.sock"


async def control(path: Path, method: str, route: str, body: Any = None) -> httpx.Response:
    """One request over the Unix socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        return await client.request(method, route, json=body)


async def test_halt_and_arm_record_who_asked(socket_path: Path) -> None:
    """The answer is the state in force afterwards."""
    switch = RecordedSwitch()
    async with serving(control_app(switch, RecordedJobs(), RecordedStore(), lambda: 100.0), bind_control(socket_path)):
        halted = await control(socket_path, "POST", "/control/halt", {"reason": "news", "by": "ann"})
        status = await control(socket_path, "GET", "/control/status")
        armed = await control(socket_path, "POST", "/control/arm", {"reason": "checked", "by": "bob", "good_until": 101.0})

    assert halted.json() == status.json()
    assert (halted.json()["state"], halted.json()["reason"], halted.json()["by"]) == ("HALTED", "news", "ann")
    assert (armed.json()["state"], armed.json()["by"]) == ("ACTIVE", "bob")


async def test_an_arm_that_comes_too_late_does_nothing(socket_path: Path) -> None:
    """A process that hung must not arm when it wakes: whoever asked was told that nothing is armed."""
    switch = RecordedSwitch()
    async with serving(control_app(switch, RecordedJobs(), RecordedStore(), lambda: 100.0), bind_control(socket_path)):
        await control(socket_path, "POST", "/control/halt", {"reason": "news", "by": "ann"})
        late = await control(socket_path, "POST", "/control/arm", {"reason": "checked", "by": "bob", "good_until": 99.9})

    assert late.status_code == 409
    assert switch.state().state is TradingState.HALTED


async def test_one_strategy_is_locked_and_released_by_whoever_asked(socket_path: Path) -> None:
    """A release that comes too late is 409, one of what is not locked 400; the trading state stays ACTIVE."""
    switch = RecordedSwitch()
    halt, arm = "/control/strategy/halt", "/control/strategy/arm"
    order = {"strategy": "first", "reason": "fills look wrong", "by": "ann"}
    async with serving(control_app(switch, RecordedJobs(), RecordedStore(), lambda: 100.0), bind_control(socket_path)):
        locked = await control(socket_path, "POST", halt, order)
        known = dict(switch.locked)
        late = await control(socket_path, "POST", arm, order | {"good_until": 99.9})
        released = await control(socket_path, "POST", arm, order | {"good_until": 101.0})
        again = await control(socket_path, "POST", arm, order | {"good_until": 101.0})
        nameless = await control(socket_path, "POST", halt, order | {"strategy": ""})

    assert [one.status_code for one in (locked, late, released, again, nameless)] == [200, 409, 200, 400, 422]
    assert (locked.json()["state"], known) == ("ACTIVE", {"first": ("fills look wrong", "ann")})
    assert again.json() == {"detail": "first is not locked"}
    assert switch.locked == {}


async def test_a_job_is_retried_and_discarded_by_whoever_asked(socket_path: Path) -> None:
    """The answer says which were, and why others could not be; what comes too late is 409."""
    jobs = RecordedJobs()
    ann, reason = {"jobs": [7], "by": "ann", "good_until": 100.5}, {"reason": "delisted"}
    async with serving(control_app(RecordedSwitch(), jobs, RecordedStore(), lambda: 100.0), bind_control(socket_path)):
        retried = await control(socket_path, "POST", "/control/jobs/retry", ann | {"jobs": [7, 8]})
        discarded = await control(socket_path, "POST", "/control/jobs/discard", ann | reason)
        late = [
            await control(socket_path, "POST", "/control/jobs/retry", ann | {"good_until": 99.9}),
            await control(socket_path, "POST", "/control/jobs/discard", ann | reason | {"good_until": 99.9}),
        ]
        wrong = [
            await control(socket_path, "POST", "/control/jobs/discard", ann),
            *[
                await control(socket_path, "POST", "/control/jobs/retry", ann | {"jobs": jobs})
                for jobs in ([], [0], [2**63], [7] * 1001)
            ],
        ]

    assert retried.json() == {"jobs": [7], "refused": [{"job": 8, "why": "there is no job 8"}]}
    assert discarded.json() == {"jobs": [7], "refused": []}
    assert [answer.status_code for answer in late] == [409, 409]
    assert {answer.status_code for answer in wrong} == {422}
    assert jobs.asked == [(JobStatus.READY, 7, "ann"), (JobStatus.DEAD, 7, "delisted", "ann")]


async def test_a_store_is_accepted_by_whoever_asked(socket_path: Path) -> None:
    """The answer is the state in force; too late is 409, nothing to accept is 400 and says so."""
    store = RecordedStore()
    order = {"reason": "checked", "by": "ann", "good_until": 100.5}
    async with serving(control_app(RecordedSwitch(), RecordedJobs(), store, lambda: 100.0), bind_control(socket_path)):
        late = await control(socket_path, "POST", "/control/db/accept", order | {"good_until": 99.9})
        accepted = await control(socket_path, "POST", "/control/db/accept", order)
        again = await control(socket_path, "POST", "/control/db/accept", order)

    assert late.status_code == 409
    assert accepted.json()["held_back"] == ""
    assert (again.status_code, again.json()["detail"]) == (400, "there is nothing to accept")
    assert store.accepted == [("checked", "ann")]


async def test_another_champion_is_recorded_with_who_made_it_and_what_was_before(socket_path: Path) -> None:
    """Too late is 409; what is no act or no digest is 422."""
    store = RecordedStore()
    change = {"act": "promote", "version": "gap@2", "digest": "0" * 64, "before": None, "reason": "better", "by": "ann"}
    order = change | {"good_until": 100.5, "evidence": ["DAYS: 30, as at least 20"]}
    async with serving(control_app(RecordedSwitch(), RecordedJobs(), store, lambda: 100.0), bind_control(socket_path)):
        done = await control(socket_path, "POST", "/control/models/champion", order)
        late = await control(socket_path, "POST", "/control/models/champion", order | {"good_until": 99.9})
        wrong = [
            await control(socket_path, "POST", "/control/models/champion", order | other)
            for other in ({"act": "demote"}, {"digest": "x"}, {"more": 1})
        ]

    assert done.json() == {"champion": "gap@2", "serves": "gap@1"}
    assert late.status_code == 409
    assert {answer.status_code for answer in wrong} == {422}
    assert [asdict(each) for each in store.champions] == [change | {"evidence": ("DAYS: 30, as at least 20",)}]


async def test_what_the_broker_holds_is_told_or_why_not(socket_path: Path) -> None:
    store = RecordedStore()
    async with serving(control_app(RecordedSwitch(), RecordedJobs(), store, lambda: 100.0), bind_control(socket_path)):
        told = await control(socket_path, "GET", "/control/account", {})
        store.accepted.append(("now", "silent"))
        silent = await control(socket_path, "GET", "/control/account", {})

    assert told.json() == {"positions": []}
    assert (silent.status_code, silent.json()["detail"]) == (503, "the broker does not answer")


async def test_a_copy_is_made_where_it_is_wanted(socket_path: Path) -> None:
    """Only at an absolute place; what cannot be written is 503 and says why."""
    store = RecordedStore()
    async with serving(control_app(RecordedSwitch(), RecordedJobs(), store, lambda: 100.0), bind_control(socket_path)):
        made = await control(socket_path, "POST", "/control/db/backup", {"file": "/mnt/copy", "good_until": 100.5})
        full = await control(socket_path, "POST", "/control/db/backup", {"file": "/mnt/full", "good_until": 100.5})
        late = await control(socket_path, "POST", "/control/db/backup", {"file": "/mnt/copy", "good_until": 99.5})
        wrong = await control(socket_path, "POST", "/control/db/backup", {"file": "copy", "good_until": 100.5})

    assert made.json() == {"file": "/mnt/copy"}
    assert store.copies == [Path("/mnt/copy")]
    assert (full.status_code, full.json()["detail"]) == (503, "no room")
    assert [answer.status_code for answer in (late, wrong)] == [409, 422]


async def test_a_comparison_releases_only_where_that_is_asked(socket_path: Path) -> None:
    order = {"by": "ann", "release": True, "good_until": 100.5}
    app = control_app(RecordedSwitch(), RecordedJobs(), RecordedStore(), lambda: 100.0)
    async with serving(app, bind_control(socket_path)):
        released = await control(socket_path, "POST", "/control/reconcile", order)
        compared = await control(socket_path, "POST", "/control/reconcile", order | {"release": False})
        silent = await control(socket_path, "POST", "/control/reconcile", order | {"by": "bob"})
        late = await control(socket_path, "POST", "/control/reconcile", order | {"good_until": 99.5})

    assert (released.json()["released"], compared.json()["released"]) == (["ann"], [None])
    assert (silent.status_code, silent.json()["detail"], late.status_code) == (503, "the broker does not answer", 409)


@pytest.mark.parametrize(
    "body", [{}, {"reason": "", "by": "ann"}, {"reason": "x" * 501, "by": "ann"}, {"reason": "r", "by": "a", "x": 1}]
)
async def test_an_order_without_reason_or_name_is_refused(socket_path: Path, body: Any) -> None:
    """Nothing changes without who and why."""
    switch = RecordedSwitch()
    async with serving(control_app(switch, RecordedJobs(), RecordedStore(), lambda: 100.0), bind_control(socket_path)):
        response = await control(socket_path, "POST", "/control/halt", body)

    assert response.status_code == 422
    assert switch.state().state is TradingState.ACTIVE


def test_the_socket_is_its_owners_alone_and_replaces_a_dead_one(socket_path: Path) -> None:
    """0600, also where an earlier process left its own."""
    bind_control(socket_path).close()
    listening = bind_control(socket_path)

    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    listening.close()


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    """Linux cuts such an address silently; we refuse it."""
    with pytest.raises(BadInput, match=r"choose a shorter storage\.directory"):
        bind_control(tmp_path / ("x" * 200) / "finagent.sock")


async def test_the_server_ends_with_its_block() -> None:
    """After the block the port is free again, and no task is left."""
    listening = bind_port("127.0.0.1", 0)
    port = listening.getsockname()[1]
    before = asyncio.all_tasks()
    async with serving(public_app(lambda: READY, POLICY, Metrics()), listening):
        pass

    assert asyncio.all_tasks() == before
    bind_port("127.0.0.1", port).close()


TOKEN = "a-token-that-nobody-guesses"


async def test_whoever_shows_the_token_halts_from_afar_and_nobody_else() -> None:
    """There is no route to arm, and none at all without a token."""
    switch, url = RecordedSwitch(), "/api/v1/trading-state/halt"
    order = {"reason": "news", "by": "ann", "flatten": True}
    app, closed = FastAPI(), FastAPI()
    add_halt_route(app, switch, TOKEN)
    add_halt_route(closed, switch, "")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as client:
        refused = [
            await client.post(url, json=order),
            *[
                await client.post(url, json=order, headers={"Authorization": text})
                for text in (TOKEN, f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Bearer ", "Basic x")
            ],
        ]
        assert (switch.state().state, {answer.status_code for answer in refused}) == (TradingState.ACTIVE, {401})
        shown = {"Authorization": f"Bearer {TOKEN}"}
        wrong = await client.post(url, json=order | {"arm": True}, headers=shown)
        halted = await client.post(url, json=order, headers=shown)
        arm = await client.post("/api/v1/trading-state/arm", json=order, headers=shown)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(closed), base_url="http://agent") as client:
        nowhere = await client.post(url, json=order, headers={"Authorization": "Bearer "})

    assert (wrong.status_code, halted.status_code, arm.status_code, nowhere.status_code) == (422, 200, 404, 404)
    assert (halted.json()["state"], halted.json()["by"], switch.flattened) == ("HALTED", "http: ann", True)
