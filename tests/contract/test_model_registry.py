"""The contract of ModelRegistry, for every adapter: versions never change, the champion moves with a way back."""

import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.models import packages

from finagent.adapters.models.mlflow_store import Missing, MlflowStore
from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import MODEL, open_package, sealed, write_package
from finagent.adapters.models.registry_files import ALIASES, LOCK, VERSIONS, RegistryFiles
from finagent.adapters.models.registry_mlflow import DIGEST_TAG, FETCHED, MODEL_NAME, PACKAGE, VERSION_TAG, RegistryMlflow
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import Alias, ModelRegistry
from finagent.quant.features.catalogue import CANDIDATE
from finagent.settings import quiet_mlflow

ONE, TWO, THREE = (f"gap-logistic@{number}" for number in (1, 2, 3))
CHAMPION, PREVIOUS = Alias.CHAMPION, Alias.PREVIOUS


def admitted(package: Any) -> OnnxPredictor:
    return OnnxPredictor(package, CANDIDATE)


@dataclass(frozen=True)
class Lab:
    """A registry, another handle on it, and what harms it: a version's model file, or the whole of it."""

    registry: ModelRegistry
    again: Callable[[], ModelRegistry]
    damage: Callable[[str], None]
    take_away: Callable[[], None]


@pytest.fixture(params=["files", "mlflow", "mlflow server"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """A server is one that FINAGENT_TEST_MLFLOW names and that has nothing else to do: `mlflow server`."""
    folder = tmp_path / "registry"
    if request.param == "files":
        return folder_lab(RegistryFiles(folder, admitted), lambda: RegistryFiles(folder, admitted), folder)
    if request.param == "mlflow":
        shutil.copytree(request.getfixturevalue("empty_mlflow"), folder)
        return folder_lab(
            RegistryMlflow(MlflowStore(folder), admitted), lambda: RegistryMlflow(MlflowStore(folder), admitted), folder
        )
    url = os.environ.get("FINAGENT_TEST_MLFLOW")
    if url is None:
        pytest.skip("no tracking server: set FINAGENT_TEST_MLFLOW")
    return server_lab(MlflowStore(folder, url), tmp_path)


def folder_lab(registry: ModelRegistry, again: Callable[[], ModelRegistry], folder: Path) -> Lab:
    def damage(version: str) -> None:
        file = registry.fetch(version) / MODEL
        file.write_bytes(file.read_bytes()[:-1])

    return Lab(registry, again, damage, lambda: shutil.rmtree(folder))


def server_lab(store: MlflowStore, tmp_path: Path) -> Lab:
    """Damage is done at the server; what was fetched before it is gone too."""
    quiet_mlflow()
    registry = RegistryMlflow(store, admitted)

    def damage(version: str) -> None:
        whole = (registry.fetch(version) / MODEL).read_bytes()
        (tmp_path / MODEL).write_bytes(whole[:-1])
        with store.asking() as client:
            (entry,) = client.search_model_versions(f"name='{MODEL_NAME}' and tags.`{VERSION_TAG}` = '{version}'")
            client.log_artifact(entry.run_id, str(tmp_path / MODEL), PACKAGE)
        shutil.rmtree(store.folder / FETCHED)

    def take_away() -> None:
        with contextlib.suppress(Missing), store.asking() as client:
            client.delete_registered_model(MODEL_NAME)

    take_away()
    return Lab(registry, lambda: RegistryMlflow(MlflowStore(store.folder, store.url), admitted), damage, take_away)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """A package of that version in a folder of its own."""

    def make(number: int, **other: Any) -> Path:
        folder = tmp_path / f"made-{number}-{len(list(tmp_path.iterdir()))}"
        write_package(folder, packages.logistic_package(version=str(number), **other))
        return folder

    return make


@pytest.fixture
def three(lab: Lab, made: Callable[..., Path]) -> Lab:
    for number in (1, 2, 3):
        lab.registry.register(made(number))
    return lab


def test_what_is_registered_is_told_with_its_facts_and_comes_back(lab: Lab, made: Callable[..., Path]) -> None:
    folder = made(2, metrics={"brier": 0.2}, description="the second")
    facts = lab.registry.register(folder)
    lab.registry.register(made(1))
    shutil.rmtree(folder)

    assert lab.again().versions() == (ONE, TWO)
    assert lab.again().facts(TWO) == facts
    assert (facts.version, facts.description, facts.metrics) == (TWO, "the second", {"brier": 0.2})
    assert (facts.data_spec_hash, facts.features) == (packages.SPEC.hash, packages.SPEC.names)
    assert open_package(lab.again().fetch(TWO)).digest == facts.digest


def test_the_same_again_changes_nothing_and_another_of_its_name_is_refused(lab: Lab, made: Callable[..., Path]) -> None:
    first = lab.registry.register(made(1))
    assert lab.registry.register(made(1)) == first
    with pytest.raises(BadInput, match="a version never changes"):
        lab.registry.register(made(1, bias=-2.0))
    assert lab.registry.facts(ONE) == first


def test_what_could_not_serve_is_not_taken_in(lab: Lab, tmp_path: Path, made: Callable[..., Path]) -> None:
    lab.registry.register(made(1))
    canary = packages.logistic_package().manifest.canary
    other = sealed(packages.facts_of(packages.SPEC, canary, version="2"), packages.logistic_model((1.0, 1.0, 1.0)))
    write_package(tmp_path / "liar", other)
    with pytest.raises(BadInput, match="canary"):
        lab.registry.register(tmp_path / "liar")
    (tmp_path / "odd").mkdir()
    with pytest.raises(BadInput, match="missing"):
        lab.registry.register(tmp_path / "odd")
    assert lab.registry.versions() == (ONE,)


def test_the_champion_moves_and_goes_back(three: Lab) -> None:
    assert three.registry.aliases() == {}
    assert three.registry.promote(ONE) is None
    assert three.registry.aliases() == {CHAMPION: ONE}
    assert three.registry.promote(TWO) == ONE
    assert three.registry.promote(THREE) == TWO
    assert three.again().aliases() == {CHAMPION: THREE, PREVIOUS: TWO}
    assert three.registry.rollback() == THREE
    assert three.again().aliases() == {CHAMPION: TWO, PREVIOUS: TWO}
    assert three.registry.versions() == (ONE, TWO, THREE)


def test_to_promote_the_champion_changes_nothing(three: Lab) -> None:
    three.registry.promote(ONE)
    three.registry.promote(TWO)
    assert three.registry.promote(TWO) == TWO
    assert three.registry.aliases() == {CHAMPION: TWO, PREVIOUS: ONE}


def test_there_is_nothing_to_go_back_to_before_a_second_champion_or_twice(three: Lab) -> None:
    for champions in ((), (ONE,)):
        for version in champions:
            three.registry.promote(version)
        with pytest.raises(BadInput, match="nothing to go back to"):
            three.registry.rollback()
    three.registry.promote(TWO)
    three.registry.rollback()
    with pytest.raises(BadInput, match="previous champion already"):
        three.registry.rollback()


def test_other_roles_are_given_one_by_one(three: Lab) -> None:
    three.registry.promote(ONE)
    three.registry.point(Alias.CHALLENGER, TWO)
    three.registry.point(Alias.CANARY, TWO)
    three.registry.point(Alias.CHALLENGER, THREE)
    assert three.again().aliases() == {CHAMPION: ONE, Alias.CHALLENGER: THREE, Alias.CANARY: TWO}
    for alias in (CHAMPION, PREVIOUS):
        with pytest.raises(BadInput, match="promotion and rollback alone"):
            three.registry.point(alias, TWO)


def test_a_version_that_is_not_there_is_refused(three: Lab) -> None:
    three.registry.promote(ONE)
    asks: list[Callable[[str], object]] = [
        three.registry.promote,
        lambda version: three.registry.point(Alias.CANARY, version),
        three.registry.facts,
        three.registry.fetch,
        three.registry.remove,
    ]
    for version in ("gap-logistic@9", "nothing", "../versions/gap-logistic@1", "", "gap-logistic@1/"):
        for ask in asks:
            with pytest.raises(BadInput, match=r"not registered|is no version"):
                ask(version)
    assert three.registry.aliases() == {CHAMPION: ONE}


def test_what_is_damaged_gets_no_role_and_does_not_hide_the_others(three: Lab) -> None:
    three.registry.promote(ONE)
    three.registry.promote(TWO)
    three.damage(ONE)
    three.damage(THREE)
    asks: list[Callable[[], object]] = [
        lambda: three.registry.promote(THREE),
        three.registry.rollback,
        lambda: three.registry.point(Alias.CANARY, THREE),
        lambda: three.registry.facts(THREE),
    ]
    for ask in asks:
        with pytest.raises(BadInput, match="damaged"):
            ask()
    assert three.registry.aliases() == {CHAMPION: TWO, PREVIOUS: ONE}
    assert three.registry.versions() == (ONE, TWO, THREE)
    assert three.registry.facts(TWO).version == TWO


def test_a_registry_that_is_away_is_not_an_empty_one(three: Lab) -> None:
    three.take_away()
    asks: list[Callable[[], object]] = [
        three.registry.versions,
        three.registry.aliases,
        three.registry.rollback,
        lambda: three.registry.promote(ONE),
        lambda: three.registry.fetch(ONE),
        lambda: three.registry.point(Alias.CANARY, ONE),
    ]
    for ask in asks:
        with pytest.raises(Transient, match="no model registry"):
            ask()


def test_what_has_no_role_can_be_removed_and_its_bytes_are_gone(three: Lab, made: Callable[..., Path]) -> None:
    three.registry.promote(ONE)
    three.registry.promote(TWO)
    place, stored = three.registry.fetch(THREE), three.registry.stored(THREE)
    assert stored.bytes == sum(file.stat().st_size for file in place.iterdir())
    assert abs(stored.made_at.timestamp() - time.time()) < 300.0
    for version in (ONE, TWO):
        with pytest.raises(BadInput, match="while it has a role"):
            three.registry.remove(version)
    three.damage(THREE)
    three.registry.remove(THREE)

    assert not place.exists()
    assert three.again().versions() == (ONE, TWO)
    assert three.again().aliases() == {CHAMPION: TWO, PREVIOUS: ONE}
    with pytest.raises(BadInput, match="not registered"):
        three.registry.remove(THREE)
    three.registry.register(made(3))
    assert three.again().facts(THREE).version == THREE


def files(folder: Path, lock_seconds: float = 10.0) -> RegistryFiles:
    return RegistryFiles(folder, lambda _: None, lock_seconds)


CHILD = """
import os, sys
from pathlib import Path
from finagent.adapters.models.registry_files import RegistryFiles

folder, act, argument, last = sys.argv[1:]
calls = 0

def counted(call):
    def passing(*arguments, **named):
        global calls
        calls += 1
        if calls == int(last):
            os._exit(9)
        return call(*arguments, **named)
    return passing

for name in ("fsync", "rename", "replace", "write"):
    setattr(os, name, counted(getattr(os, name)))
registry = RegistryFiles(Path(folder), lambda package: None)
registry.register(Path(argument)) if act == "register" else registry.promote(argument)
"""


def killed(folder: Path, act: str, argument: str, before: int) -> int:
    """The exit code of a process that ends right before that call which reaches the disk: 9, or 0 where it made fewer."""
    child = [sys.executable, "-c", CHILD, str(folder), act, argument, str(before)]
    answer = subprocess.run(child, capture_output=True, text=True, timeout=60)
    assert answer.returncode in (0, 9), answer.stderr
    return answer.returncode


def test_killed_anywhere_it_has_the_old_or_the_new(tmp_path: Path, made: Callable[..., Path]) -> None:
    """Before every call that reaches the disk; what is repeated then succeeds."""
    begun = tmp_path / "begun"
    files(begun).register(made(1))
    files(begun).promote(ONE)
    second, before = made(2), 0
    ends: list[int] = []
    while not ends or ends[-1] == 9:
        before += 1
        folder = tmp_path / f"killed-{before}"
        shutil.copytree(begun, folder)
        ends.append(killed(folder, "register", str(second), before))
        registry = files(folder)
        assert registry.versions() in ((ONE,), (ONE, TWO))
        assert all(registry.facts(version).version == version for version in registry.versions())
        registry.register(second)
        assert registry.versions() == (ONE, TWO)
        if killed(folder, "promote", TWO, before) == 9:
            assert registry.aliases() in ({CHAMPION: ONE}, {CHAMPION: TWO, PREVIOUS: ONE})
            registry.promote(TWO)
        assert registry.aliases() == {CHAMPION: TWO, PREVIOUS: ONE}
        assert sorted(os.listdir(folder)) == sorted([ALIASES, LOCK, VERSIONS])
        assert sorted(os.listdir(folder / VERSIONS)) == [ONE, TWO]
    assert len(ends) >= 8


LOOP = """
import sys
from pathlib import Path
from finagent.adapters.models.registry_files import RegistryFiles

registry = RegistryFiles(Path(sys.argv[1]), lambda package: None, 60.0)
for place in range(25):
    registry.register(Path(sys.argv[2 + place % 2]))
    registry.promote("gap-logistic@" + str(int(sys.argv[4]) + place % 2))
"""


def test_two_processes_at_once_do_not_harm_it(tmp_path: Path, made: Callable[..., Path]) -> None:
    folder = tmp_path / "shared"
    first, second, third = (str(made(number)) for number in (1, 2, 3))
    children = [
        subprocess.Popen([sys.executable, "-c", LOOP, str(folder), *args], stderr=subprocess.PIPE, text=True)
        for args in ((first, second, "1"), (second, third, "2"))
    ]
    for child in children:
        assert child.wait(timeout=60) == 0, child.stderr and child.stderr.read()
        assert child.stderr is not None
        child.stderr.close()
    registry = files(folder)
    aliases = registry.aliases()
    assert registry.versions() == (ONE, TWO, THREE)
    assert {aliases[CHAMPION], aliases[PREVIOUS]} <= {ONE, TWO, THREE}
    assert aliases[CHAMPION] != aliases[PREVIOUS], "each promotion saw the champion before it"


def test_who_writes_waits_so_long_for_another(tmp_path: Path, made: Callable[..., Path]) -> None:
    registry = files(tmp_path / "registry", 0.05)
    registry.register(made(1))
    with registry._writing():
        assert files(tmp_path / "registry").versions() == (ONE,), "readers wait for nobody"
        with pytest.raises(Transient, match=r"another process has been writing .* for 0.05 s"):
            registry.promote(ONE)
    registry.promote(ONE)


@pytest.mark.parametrize("text", ["", "[]", '{"champion": 1}', '{"king": "gap-logistic@1"}', '{"champion": "../../etc"}'])
def test_a_damaged_list_of_aliases_is_told_with_its_cure(tmp_path: Path, made: Callable[..., Path], text: str) -> None:
    registry = files(tmp_path / "registry")
    registry.register(made(1))
    (tmp_path / "registry" / ALIASES).write_text(text)
    with pytest.raises(BadInput, match=r"damaged|no version"):
        registry.aliases()
    (tmp_path / "registry" / ALIASES).write_text("{}")
    registry.promote(ONE)
    assert json.loads((tmp_path / "registry" / ALIASES).read_text()) == {"champion": ONE}


def test_a_folder_under_another_name_is_not_that_version(tmp_path: Path, made: Callable[..., Path]) -> None:
    registry = files(tmp_path / "registry")
    registry.register(made(1))
    place = tmp_path / "registry" / VERSIONS
    (place / ONE).rename(place / TWO)
    with pytest.raises(BadInput, match="says that it is gap-logistic@1"):
        registry.facts(TWO)


# -- MLflow alone ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Path) -> MlflowStore:
    shutil.copytree(empty_mlflow, tmp_path / "registry")
    return MlflowStore(tmp_path / "registry")


class Killed(BaseException):
    """The process is gone."""


def killed_before(store: MlflowStore, last: int) -> MlflowStore:
    """A handle that dies right before that writing call to MLflow."""
    doomed = MlflowStore(store.folder)
    calls = 0
    with doomed.asking() as client:

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def passing(*arguments: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == last:
                    raise Killed
                return call(*arguments, **named)

            return passing

        for name in WRITES:
            setattr(client, name, counted(getattr(client, name)))
    return doomed


WRITES = (
    *("create_run", "create_model_version", "set_terminated"),
    *("set_registered_model_tag", "set_registered_model_alias", "delete_registered_model_tag"),
    *("set_model_version_tag", "delete_model_version", "delete_run"),
)


def test_killed_between_any_two_writes_to_mlflow_both_roles_moved_or_none(store: MlflowStore, made: Callable[..., Path]) -> None:
    """Each interrupted promotion is seen as old or new by another process, and ends with the next write."""
    registry = RegistryMlflow(store, admitted)
    for number in (1, 2, 3):
        registry.register(made(number))
    registry.promote(ONE)
    registry.promote(TWO)
    old, new = {CHAMPION: TWO, PREVIOUS: ONE}, {CHAMPION: THREE, PREVIOUS: TWO}
    seen = []
    for last in range(1, 6):
        doomed = RegistryMlflow(killed_before(store, last), admitted)
        try:
            doomed.promote(THREE)
        except Killed:
            seen.append(RegistryMlflow(MlflowStore(store.folder), admitted).aliases())
        assert registry.aliases() in (old, new)
        registry.promote(THREE)
        with store.asking() as client:
            assert {name: int(number) for name, number in client.get_registered_model(MODEL_NAME).aliases.items()} == {
                "champion": 3,
                "previous": 2,
            }, "what MLflow shows to others is the same"
        registry.promote(ONE)
        registry.promote(TWO)
    assert seen == [old, new, new, new]


def test_killed_while_it_registers_it_can_be_registered_again(store: MlflowStore, made: Callable[..., Path]) -> None:
    registry = RegistryMlflow(store, admitted)
    registry.register(made(1))
    for last in (1, 2, 3):
        with pytest.raises(Killed):
            RegistryMlflow(killed_before(store, last), admitted).register(made(2))
        assert registry.versions() == (ONE,)
    registry.register(made(2))
    assert registry.versions() == (ONE, TWO)


def test_killed_while_it_removes_the_next_removal_ends_it(store: MlflowStore, made: Callable[..., Path]) -> None:
    registry = RegistryMlflow(store, admitted)
    for number in (1, 2, 3):
        registry.register(made(number))
    for last, version in ((1, ONE), (2, ONE)):
        place = registry.fetch(version)
        with pytest.raises(Killed):
            RegistryMlflow(killed_before(store, last), admitted).remove(version)
        assert (version in registry.versions(), place.exists()) == (last == 1, last == 1)
    registry.remove(TWO)
    assert registry.versions() == (THREE,)
    with store.asking() as client:
        assert [entry.tags[VERSION_TAG] for entry in client.search_model_versions(f"name='{MODEL_NAME}'")] == [THREE]


def test_of_two_that_claim_one_name_the_older_holds_it(store: MlflowStore, made: Callable[..., Path]) -> None:
    """As two machines at one server make them, which share no lock."""
    registry = RegistryMlflow(store, admitted)
    first = registry.register(made(1))
    late = RegistryMlflow(MlflowStore(store.folder), admitted)
    whole = late._held
    looks: list[None] = []

    def late_look(client: Any) -> dict[str, Any]:
        looks.append(None)
        return {} if len(looks) == 1 else whole(client)

    late._held = late_look  # type: ignore[method-assign]  # it looked before the other one wrote
    with pytest.raises(BadInput, match="a version never changes"):
        late.register(made(1, bias=-2.0))
    assert registry.facts(ONE) == first
    with store.asking() as client:
        assert len(client.search_model_versions(f"name='{MODEL_NAME}'")) == 1


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_a_pickle_where_mlflow_takes_one_is_refused_by_name_and_not_read(
    store: MlflowStore, made: Callable[..., Path], tmp_path: Path
) -> None:
    registry = RegistryMlflow(store, admitted)
    registry.register(made(1))
    registry.register(made(2))
    registry.promote(ONE)
    place = registry.fetch(TWO)
    whole = {file.name: file.read_bytes() for file in place.iterdir()}
    asks: list[Callable[[], object]] = [
        lambda: registry.promote(TWO),
        lambda: registry.facts(TWO),
        lambda: registry.point(Alias.CANARY, TWO),
    ]
    for name in ("python_model.pkl", "data/model.pth", "MLmodel", "model.onnx", "manifest.json", "model.pkl"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        for ask in asks:
            with pytest.raises(BadInput, match=name.split("/")[0]):
                ask()
        shutil.rmtree(place)
        place.mkdir()
        for kept, data in whole.items():
            (place / kept).write_bytes(data)
    assert not (tmp_path / "sprung").exists()
    assert registry.aliases() == {CHAMPION: ONE}
    assert registry.facts(TWO).version == TWO


def test_a_store_with_trainings_alone_is_no_registry(store: MlflowStore, made: Callable[..., Path]) -> None:
    registry = RegistryMlflow(store, admitted)
    asks: list[Callable[[], object]] = [registry.versions, registry.aliases, lambda: registry.fetch(ONE), registry.rollback]
    for ask in asks:
        with pytest.raises(Transient, match="no model registry"):
            ask()
    registry.register(made(1))
    assert registry.versions() == (ONE,)


def test_what_others_put_into_mlflow_is_no_version_and_leads_nowhere(
    store: MlflowStore, made: Callable[..., Path], tmp_path: Path
) -> None:
    registry = RegistryMlflow(store, admitted)
    registry.register(made(1))
    registry.promote(ONE)
    with store.asking() as client:
        elsewhere = client.create_experiment("elsewhere", artifact_location=(tmp_path / "elsewhere").as_uri())
        run = client.create_run(elsewhere).info.run_id
        strange = client.create_model_version(MODEL_NAME, str(tmp_path), run)
        client.create_model_version(MODEL_NAME, str(tmp_path), run, tags={VERSION_TAG: TWO})
        assert registry.versions() == (ONE, TWO)
        with pytest.raises(BadInput, match="not below"):
            registry.fetch(TWO)
        client.set_registered_model_alias(MODEL_NAME, "champion", str(strange.version))
        with pytest.raises(BadInput, match=r"champion .* did not register"):
            registry.aliases()


def test_a_server_that_is_away_is_transient(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        registry = RegistryMlflow(MlflowStore(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}"), admitted)
        with pytest.raises(Transient, match="does not answer"):
            registry.aliases()


@pytest.mark.parametrize("lab", ["mlflow server"], indirect=True)
def test_what_a_server_sends_is_fetched_only_where_it_is_a_package(three: Lab, tmp_path: Path) -> None:
    """Nor does what it says of a version lead anywhere."""
    registry = three.registry
    assert isinstance(registry, RegistryMlflow)
    store = registry._store
    place = registry.fetch(TWO)
    registry.promote(ONE)
    (tmp_path / "python_model.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with store.asking() as client:
        (entry,) = client.search_model_versions(f"name='{MODEL_NAME}' and tags.`{VERSION_TAG}` = '{TWO}'")
        client.log_artifact(entry.run_id, str(tmp_path / "python_model.pkl"), PACKAGE)
        shutil.rmtree(place)
        with pytest.raises(BadInput, match=r"package/python_model\.pkl does not belong to it"):
            registry.promote(TWO)
        (other,) = client.search_model_versions(f"name='{MODEL_NAME}' and tags.`{VERSION_TAG}` = '{THREE}'")
        client.set_model_version_tag(MODEL_NAME, str(other.version), DIGEST_TAG, "/../../../../../escaped")
    assert registry.fetch(THREE).parent == place.parent
    with pytest.raises(BadInput, match="its digest is not what was registered"):
        registry.promote(THREE)
    assert registry.aliases() == {CHAMPION: ONE}
    assert not (tmp_path / "sprung").exists()
    assert not list(place.parent.glob("*.pkl"))
