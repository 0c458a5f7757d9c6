"""A running agent serves what the registry names by now; what cannot serve, or serves badly, is refused by name."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.test_live_day import at_alpaca, simulator
from tests.unit.adapters.models import packages

from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import MODEL, write_package
from finagent.adapters.models.registry_files import VERSIONS, RegistryFiles
from finagent.bootstrap import build_alpaca_simulator, build_application, build_market
from finagent.bootstrap.models import opened
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import BadInput, Transient
from finagent.domain.experiment import Subject
from finagent.domain.ports.model_registry import Alias, ModelRegistry
from finagent.quant.evaluation.promotion import Guards, Health
from finagent.quant.features.catalogue import CANDIDATE
from finagent.services.models.canary import CanaryPolicy
from finagent.services.models.champion_guard import ASK_AGAIN, ChampionGuard, GuardPolicy
from finagent.services.models.following import CANARY_STOPPED, FollowPolicy, ModelFollower, ModelJournal, ModelSource
from finagent.services.models.history import CHAMPION, DEMOTED, ChampionChange, champion_changed, demoted
from finagent.services.models.serving import Call, Handle, ModelServer, Score, Serving, ServingPolicy

VERSION = [f"gap-logistic@{number}" for number in range(5)]
NOW = datetime(2008, 10, 1, 14, tzinfo=UTC)
CANARY = CanaryPolicy(predictions_min=10, error_rate_max=0.1, nan_rate_max=0.3, p95_seconds_max=0.05)
SUBJECTS = [Subject(f"S{number}", date(2008, 10, 1)) for number in range(20)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five packages that score differently."""
    folder = tmp_path_factory.mktemp("packages")
    for number in range(5):
        write_package(folder / str(number), packages.logistic_package(weights=(1.0 + number, 0.5, 2.0), version=str(number)))
    return [folder / str(number) for number in range(5)]


@dataclass
class Stand:
    """A registry, a server whose first champion is version 0, and what was loaded, kept and recorded."""

    registry: ModelRegistry
    folder: Path
    server: ModelServer
    loaded: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    events: list[DecisionEvent] = field(default_factory=list)
    recorded: asyncio.Event = field(default_factory=asyncio.Event)
    record_error: Exception | None = None
    health: Health | Exception = field(default_factory=Health)
    judged: list[tuple[str, str | None]] = field(default_factory=list)
    now: datetime = NOW

    def follower(self, *, poll_seconds: float = 3600.0, warm_max: int = 3, canary_share: float = 0.0) -> ModelFollower:
        source = ModelSource(self.registry, self.load, self.kept.append, asyncio.to_thread)
        journal = ModelJournal(self.record, self.stopped, lambda: demoted(self.events_of(CHAMPION)), lambda: NOW)
        guard = ChampionGuard(GuardPolicy(Guards(), 10), self.judge, lambda: self.now)
        return ModelFollower(self.server, source, journal, FollowPolicy(poll_seconds, warm_max, canary_share, CANARY), guard)

    async def judge(self, champion: str, previous: str | None) -> Health:
        self.judged.append((champion, previous))
        if isinstance(self.health, Exception):
            raise self.health
        return self.health

    def events_of(self, subject: str) -> list[DecisionEvent]:
        return [event for event in self.events if event.subject_id == subject]

    def load(self, version: str) -> Handle:
        self.loaded.append(version)
        return Handle.of(OnnxPredictor(opened(self.registry, version), CANDIDATE, call_seconds_max=0.1), CANDIDATE)

    async def record(self, event: DecisionEvent) -> None:
        if self.record_error:
            raise self.record_error
        self.events.append(event)
        self.recorded.set()

    def stopped(self) -> frozenset[str]:
        return frozenset(event.body["version"] for event in self.events if event.kind == CANARY_STOPPED)

    @property
    def champion(self) -> str:
        assert self.server.serving.champion is not None
        return self.server.serving.champion.version

    @property
    def canary(self) -> str | None:
        handle = self.server.serving.canary
        return handle.version if handle else None

    async def asked(self) -> list[Score]:
        rows = np.tile(np.linspace(-0.5, 0.5, len(CANDIDATE.features)), (len(SUBJECTS), 1))
        return await self.server.score(rows, SUBJECTS)


@pytest.fixture
async def stand(tmp_path: Path, made: list[Path]) -> AsyncIterator[Stand]:
    registry = RegistryFiles(tmp_path / "models", lambda package: OnnxPredictor(package, CANDIDATE))
    for package in made:
        registry.register(package)
    registry.promote(VERSION[0])
    server = ModelServer(CANDIDATE, ServingPolicy(64, 512, 30.0, on_wall_time=True), [], lambda: 0.0)
    built = Stand(registry, tmp_path / "models", server)
    server.serve(Serving(built.load(VERSION[0])))
    async with server.running():
        yield built


async def test_what_others_do_to_the_registry_is_found_and_recorded(stand: Stand) -> None:
    assert {score.version for score in await stand.asked()} == {VERSION[0]}
    following = asyncio.create_task(stand.follower(poll_seconds=0.01).run())
    stand.registry.promote(VERSION[1])
    await asyncio.wait_for(stand.recorded.wait(), 60)
    assert {score.version for score in await stand.asked()} == {VERSION[1]}
    following.cancel()
    await asyncio.wait([following])
    assert [(event.subject_type, event.kind, event.body["champion"]) for event in stand.events] == [
        (SubjectType.MODEL, "models_served", VERSION[1])
    ]
    assert stand.kept == [VERSION[1]]


async def test_going_back_loads_nothing_and_no_more_models_stay_in_memory_than_may(stand: Stand) -> None:
    follower = stand.follower()
    for version in VERSION[1:3]:
        stand.registry.promote(version)
        await follower.look()
    stand.registry.rollback()
    await follower.look()
    assert (stand.champion, stand.loaded) == (VERSION[1], VERSION[:3])
    for version in VERSION[3:]:
        stand.registry.promote(version)
        await follower.look()
    stand.registry.promote(VERSION[1])
    await follower.look()
    assert stand.loaded == VERSION, "version 1 is one of the last three"
    stand.registry.promote(VERSION[2])
    await follower.look()
    assert stand.loaded == [*VERSION, VERSION[2]], "version 2 is not"


async def test_what_cannot_serve_is_refused_by_name_and_who_served_goes_on(stand: Stand) -> None:
    follower = stand.follower()
    stand.registry.promote(VERSION[1])
    model = stand.folder / VERSIONS / VERSION[1] / MODEL
    sound = model.read_bytes()
    model.write_bytes(sound[:-1])
    await follower.look()
    await follower.look()
    assert (stand.champion, stand.loaded) == (VERSION[0], VERSION[:2]), "it is not tried again and again"
    (event,) = stand.events
    assert (event.kind, event.body["version"]) == ("model_refused", VERSION[1])
    assert "damaged" in event.body["reason"]
    model.write_bytes(sound)
    await follower.look(anew=True)
    assert stand.champion == VERSION[1]


async def test_a_registry_that_is_away_changes_nothing(stand: Stand) -> None:
    follower = stand.follower()
    stand.folder.rename(stand.folder.with_name("gone"))
    await follower.look()
    assert (stand.champion, stand.events) == (VERSION[0], [])
    stand.folder.with_name("gone").rename(stand.folder)
    stand.registry.promote(VERSION[1])
    await follower.look()
    assert stand.champion == VERSION[1]


async def test_what_cannot_be_recorded_now_is_at_the_next_look(stand: Stand) -> None:
    follower = stand.follower()
    stand.record_error = Transient("the disk is full")
    stand.registry.promote(VERSION[1])
    await follower.look()
    assert (stand.champion, stand.events) == (VERSION[1], [])
    stand.record_error = None
    await follower.look()
    assert [event.kind for event in stand.events] == ["models_served"]


async def test_a_canary_scores_its_share(stand: Stand) -> None:
    stand.registry.point(Alias.CANARY, VERSION[1])
    await stand.follower().look()
    assert stand.canary is None, "nobody gave it a share"
    await stand.follower(canary_share=0.5).look()
    scores = await stand.asked()
    assert {score.version for score in scores} == set(VERSION[:2])
    assert all(len({score.value for score in scores if score.version == version}) == 1 for version in VERSION[:2])


def calls(version: str, *, failed: int = 0, unscored: int = 0, seconds: float = 0.001) -> list[Call]:
    """Ten calls of one row."""
    return [Call(version, 1, int(n < failed), int(n < unscored), seconds) for n in range(10)]


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (lambda version: calls(version, failed=2), "failed: 0.2 > 0.1"),
        (lambda version: calls(version, unscored=4), "had no score: 0.4 > 0.3"),
        (lambda version: calls(version, seconds=0.06), "took seconds at the 95th percentile: 0.06 > 0.05"),
    ],
    ids=["errors", "no score", "slow"],
)
async def test_a_canary_that_is_ill_stops_at_once_and_for_good(
    stand: Stand, seen: Callable[[str], list[Call]], reason: str
) -> None:
    stand.registry.point(Alias.CANARY, VERSION[1])
    follower = stand.follower(canary_share=1.0)
    await follower.look()
    *before, last = seen(VERSION[1])
    for call in (*before, *seen(VERSION[0])):
        follower.model_called(call)
    assert stand.canary == VERSION[1], "nine say nothing yet, and those of the champion are not its own"
    follower.model_called(last)
    assert stand.canary is None
    assert {score.version for score in await stand.asked()} == {VERSION[0]}
    await follower.look()
    assert [event.kind for event in stand.events] == ["models_served", CANARY_STOPPED]
    assert stand.events[-1].body == {"version": VERSION[1], "reason": reason}
    for again in (follower, stand.follower(canary_share=1.0)):
        await again.look()
        assert stand.canary is None, "neither now nor after a start"
    stand.registry.point(Alias.CANARY, VERSION[2])
    await follower.look()
    assert stand.canary == VERSION[2]


async def test_a_canary_that_is_well_goes_on(stand: Stand) -> None:
    stand.registry.point(Alias.CANARY, VERSION[1])
    follower = stand.follower(canary_share=1.0)
    await follower.look()
    for call in (*calls(VERSION[1], failed=1, unscored=3, seconds=0.05), *calls(VERSION[1], seconds=0.05)):
        follower.model_called(call)
    assert stand.canary == VERSION[1]


async def test_a_canary_that_becomes_champion_is_no_canary_any_more(stand: Stand) -> None:
    stand.registry.point(Alias.CANARY, VERSION[1])
    follower = stand.follower(canary_share=0.5)
    await follower.look()
    stand.registry.promote(VERSION[1])
    await follower.look()
    assert (stand.champion, stand.canary) == (VERSION[1], None)


async def test_a_champion_that_fails_goes_back_to_the_one_before_it(stand: Stand) -> None:
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    await follower.look()
    for call in calls(VERSION[0], failed=5) + calls(VERSION[1], failed=1):
        follower.model_called(call)
    await follower.look()
    assert stand.registry.aliases()[Alias.CHAMPION] == stand.champion == VERSION[0]
    (event,) = stand.events_of(CHAMPION)
    assert (event.kind, event.body["before"], event.body["version"], event.body["by"]) == (
        DEMOTED,
        VERSION[1],
        VERSION[0],
        "guard",
    )
    assert event.body["reason"].startswith("FAILURES")
    assert any(line.startswith("LATENCY") for line in event.body["evidence"]), "what it did not breach is told, too"


async def test_a_champion_that_never_ends_costs_its_own_scores_and_the_one_before_it_serves(stand: Stand, tmp_path: Path) -> None:
    """The worker comes back from it, so whoever serves next does."""
    write_package(tmp_path / "endless", packages.endless_package(100.0, version="endless"))
    stand.registry.register(tmp_path / "endless")
    stand.registry.promote("gap-logistic@endless")
    follower = stand.follower()
    await follower.look()
    sound = np.tile(np.linspace(-0.5, 0.5, len(CANDIDATE.features)), (len(SUBJECTS), 1))
    assert {score.version for score in await stand.server.score(sound, SUBJECTS) if score.value >= 0.0} == {
        "gap-logistic@endless"
    }
    odd = sound.copy()
    odd[:, CANDIDATE.columns["gap_magnitude"]] = 200.0
    for rows in (odd, sound):
        told = await stand.server.score(rows, SUBJECTS)
        assert all(score.reason.startswith("model gap-logistic@endless failed: Unending: ") for score in told)
    await follower.look()
    assert stand.champion == VERSION[0]
    assert {score.version for score in await stand.asked()} == {VERSION[0]}
    (event,) = stand.events_of(CHAMPION)
    assert event.body["reason"].startswith("FAILURES")


@pytest.mark.parametrize(("figure", "line"), [("calibration_error", "CALIBRATION"), ("evidence_against", "LOSS_EVIDENCE")])
async def test_what_came_of_what_it_said_takes_a_champion_away(stand: Stand, figure: str, line: str) -> None:
    """Weighed once a day."""
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    await follower.look()
    stand.health = Health(**{figure: 1000.0})
    await follower.look()
    assert (stand.champion, stand.judged) == (VERSION[1], [(VERSION[1], VERSION[0])])
    stand.now += timedelta(days=1)
    await follower.look()
    assert stand.champion == VERSION[0]
    assert stand.events_of(CHAMPION)[0].body["reason"].startswith(line)


async def test_a_kill_between_the_record_and_the_registry_ends_the_same(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.registry.promote(VERSION[1])
    stand.health = Health(calibration_error=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(RegistryFiles, "rollback", _away)
        await stand.follower().look()
    assert stand.registry.aliases()[Alias.CHAMPION] == VERSION[1]
    stand.health = Health()
    await stand.follower().look()
    assert stand.registry.aliases()[Alias.CHAMPION] == stand.champion == VERSION[0]
    assert [event.kind for event in stand.events_of(CHAMPION)] == [DEMOTED]


def _away(_registry: RegistryFiles) -> str:
    raise Transient("killed")


async def test_who_was_demoted_scores_no_more_while_the_registry_is_away(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    await follower.look()
    for call in calls(VERSION[1], failed=5):
        follower.model_called(call)
    with monkeypatch.context() as patch:
        patch.setattr(RegistryFiles, "rollback", _away)
        await follower.look()
        assert {score.reason for score in await stand.asked()} == {"no model serves"}
    with monkeypatch.context() as patch:
        patch.setattr(RegistryFiles, "aliases", _away)
        stand.server.serve(Serving(stand.load(VERSION[1])))  # as a start from the copy of what served last
        again = stand.follower()
        await again.look()
        assert {score.reason for score in await stand.asked()} == {"no model serves"}
    await again.look()
    assert stand.champion == VERSION[0]


async def test_what_cannot_be_recorded_does_not_happen(stand: Stand) -> None:
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    await follower.look()
    for call in calls(VERSION[1], failed=5):
        follower.model_called(call)
    stand.record_error = Transient("the disk is full")
    await follower.look()
    assert stand.registry.aliases()[Alias.CHAMPION] == VERSION[1]
    stand.record_error = None
    await follower.look()
    assert stand.champion == VERSION[0], "what was known of it was not forgotten"


async def test_one_slow_call_of_a_few_takes_no_champion_away(stand: Stand) -> None:
    """Whole batches make few calls, and the machine may hold one of them up."""
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    await follower.look()
    for seconds in (0.001, 0.002, 5.0, 0.001):
        follower.model_called(Call(VERSION[1], 3, 0, 0, seconds))
    await follower.look()
    assert (stand.champion, stand.events_of(CHAMPION)) == (VERSION[1], [])
    follower.model_called(Call(VERSION[1], 3, 0, 0, 5.0))
    await follower.look()
    assert stand.champion == VERSION[0]
    assert stand.events_of(CHAMPION)[0].body["reason"].startswith("LATENCY")


async def test_who_has_nobody_before_it_leaves_nobody_and_a_person_may_bring_it_back(stand: Stand) -> None:
    stand.health = Health(drawdown_fraction=0.2)
    follower = stand.follower()
    await follower.look()
    assert {score.reason for score in await stand.asked()} == {"no model serves"}
    stand.health = Health()
    stand.events.append(champion_changed(ChampionChange("promote", VERSION[0], "0" * 64, None, "looked at it", "ann"), NOW))
    await follower.look()
    assert {score.version for score in await stand.asked()} == {VERSION[0]}


async def test_a_champion_that_cannot_be_judged_now_goes_on_and_so_does_the_registry(stand: Stand) -> None:
    stand.health = Transient("no bars")
    follower = stand.follower()
    await follower.look()
    stand.registry.promote(VERSION[1])
    await follower.look()
    assert stand.champion == VERSION[1]
    assert not stand.events_of(CHAMPION)


async def test_a_champion_that_fails_goes_also_where_what_was_decided_cannot_be_weighed(stand: Stand) -> None:
    """How it answers is known without bars, and without the model before it."""
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    stand.health = BadInput("the model before it is damaged")
    await follower.look()
    assert stand.champion == VERSION[1]
    for call in calls(VERSION[1], failed=5):
        follower.model_called(call)
    await follower.look()
    assert stand.champion == VERSION[0]
    assert stand.events_of(CHAMPION)[0].body["reason"].startswith("FAILURES")


async def test_bars_that_are_away_are_not_asked_for_at_every_look(stand: Stand) -> None:
    stand.health = Transient("no bars")
    follower = stand.follower()
    for _ in range(3):
        await follower.look()
    assert len(stand.judged) == 1
    stand.now += ASK_AGAIN
    stand.health = Health(drawdown_fraction=0.2)
    await follower.look()
    assert [event.kind for event in stand.events_of(CHAMPION)] == [DEMOTED]


async def test_where_the_one_before_it_cannot_serve_nobody_scores(stand: Stand) -> None:
    """A champion that was demoted does not go on because nothing is left."""
    stand.registry.promote(VERSION[1])
    follower = stand.follower()
    await follower.look()
    (stand.folder / VERSIONS / VERSION[0] / MODEL).write_bytes(b"")
    for call in calls(VERSION[1], failed=5):
        follower.model_called(call)
    for _ in range(3):
        await follower.look()
        assert {score.reason for score in await stand.asked()} == {"no model serves"}
    assert [event.kind for event in stand.events_of(CHAMPION)] == [DEMOTED]
    (refused,) = [event for event in stand.events if event.kind == "model_refused"]
    assert refused.body["version"] == VERSION[0]


@asynccontextmanager
async def on_wall_time(folder: Path, made: list[Path]) -> AsyncIterator[tuple[Any, RegistryFiles]]:
    """An agent at a simulated Alpaca, with two versions registered, and its registry."""
    registry = RegistryFiles(folder / "agent" / "models", lambda package: OnnxPredictor(package, CANDIDATE))
    for package in made[:2]:
        registry.register(package)
    if Alias.CHAMPION not in registry.aliases():
        registry.promote(VERSION[0])
    there = simulator(folder / "alpaca")
    async with build_alpaca_simulator(there, build_market(there)) as url:
        settings = at_alpaca(folder / "agent", url, "model.serve=registry", "model.canary_share=1")
        async with build_application(settings) as application:
            yield application, registry


async def test_an_agent_on_wall_time_takes_another_champion_at_once(
    tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "PKSIMULATOR")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "simulator")
    async with on_wall_time(tmp_path, made) as (application, registry):
        registry.promote(VERSION[1])
        change = ChampionChange("promote", VERSION[1], "0" * 64, VERSION[0], "better", "ann")
        assert await application.record_champion(change) == VERSION[1]
        (score,) = await application.parts.server.score(np.zeros((1, len(CANDIDATE.features))), SUBJECTS[:1])
        assert score.version == VERSION[1]
        registry.rollback()
        assert await application.record_champion(ChampionChange("rollback", VERSION[0], "0" * 64, VERSION[1], "worse", "ann"))
        assert application.parts.server.serving.champion.version == VERSION[0]
        registry.point(Alias.CANARY, VERSION[1])
        await application.follower.look()
        for call in [Call(VERSION[1], 1, 1, 0, 0.001)] * application.parts.settings.model.canary.predictions_min:
            application.follower.model_called(call)
        await application.follower.look()
        told = application.reads.find(DecisionEvent, subject_type=SubjectType.MODEL, subject_id="serving")
        assert [event.kind for event in told] == ["models_served"] * 3 + [CANARY_STOPPED]
        for call in [Call(VERSION[0], 1, 1, 0, 0.001)] * application.parts.settings.model.guards.calls_rows_min:
            application.follower.model_called(call)
        await application.follower.look()
        assert application.parts.server.serving.champion is None, "nobody was champion before it"
    async with on_wall_time(tmp_path, made) as (application, _):
        await application.follower.look()
        assert application.parts.server.serving.canary is None, "it was stopped in an earlier life"
        assert application.parts.server.serving.champion is None, "it was demoted in an earlier life"
