"""Whoever writes into a registry, and whatever: it is refused by name, nothing in it runs, and who served goes on serving."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as safetensors
from tests.integration.test_model_following import Stand
from tests.unit.adapters.models import packages
from tests.unit.adapters.models.state_dicts import Bomb, bombs

from finagent.adapters.models.checkpoint_files import CHECKPOINT, Checkpoint, read_checkpoint, write_checkpoint
from finagent.adapters.models.mlflow_store import DATABASE, MlflowStore
from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import MANIFEST, MODEL, Manifest, ModelPackage, sealed, write_package
from finagent.adapters.models.registry_files import ALIASES, RegistryFiles
from finagent.adapters.models.registry_mlflow import MODEL_NAME, MOVE_TAG, RegistryMlflow
from finagent.adapters.models.row_files import ABOUT, open_rows, write_rows
from finagent.adapters.models.tracking import Tracking
from finagent.adapters.models.warm_copy import WarmCopy
from finagent.bootstrap import build_predictor
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import Alias, ModelRegistry
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.training_rows import TrainingRows
from finagent.services.models.serving import ModelServer, Serving, ServingPolicy
from finagent.settings import load_settings

ONE, TWO = "gap-logistic@1", "gap-logistic@2"
ROW = np.zeros(3)
SOUND = packages.logistic_package(version="2", weights=(3.0, 1.5, 1.0))
SWAPPED = "another version"
OUTSIDE = "../../../../etc/passwd"
UNPICKLED: list[str] = []
_watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "pickle.find_class":
        UNPICKLED.append(".".join(map(str, arguments)))


sys.addaudithook(_watch)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Path]:
    """What a payload would make. In the end it is not there, and no unpickler has looked for anything to call."""
    UNPICKLED.clear()
    _watching.append(True)
    yield tmp_path / "exploded"
    _watching.clear()
    assert not (tmp_path / "exploded").exists()
    assert UNPICKLED == []


def resealed(**changes: Any) -> ModelPackage:
    """Sound to its last digest, made by whoever means harm."""
    told = SOUND.manifest.model_dump() | changes
    return ModelPackage(Manifest(**told).closed(), SOUND.model)


def other_model(model: bytes) -> ModelPackage:
    return sealed(packages.facts_of(packages.SPEC, SOUND.manifest.canary, version="2"), model)


def rewritten(package: ModelPackage) -> Callable[[Path, Path], None]:
    def attack(place: Path, _: Path) -> None:
        shutil.rmtree(place)
        write_package(place, package)

    return attack


def put(name: str, content: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    def attack(place: Path, sentinel: Path) -> None:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content(sentinel))

    return attack


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def attack(place: Path, _: Path) -> None:
        (place / name).write_bytes(change((place / name).read_bytes()))

    return attack


def pickled(sentinel: Path) -> bytes:
    return pickle.dumps(Bomb(sentinel))


def archived(sentinel: Path) -> bytes:
    return bombs(sentinel)["one weight of an archive"]


def edited(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda raw: raw.replace(old.encode(), new.encode(), 1)


def elsewhere(place: Path, sentinel: Path) -> None:
    (place / MODEL).rename(sentinel.with_name("model-elsewhere"))
    (place / MODEL).symlink_to(sentinel.with_name("model-elsewhere"))


PLACES = (MODEL, MANIFEST, "python_model.pkl", "MLmodel", "data/model.pth", "model.pt", "weights.safetensors", "model.joblib",
          "artifacts/blob.bin", "checkpoint.ckpt", "conda.yaml")  # fmt: skip
Attack = Callable[[Path, Path], None]
ATTACKS: dict[str, tuple[Attack, str]] = {
    **{f"pickle as {name}": (put(name, pickled), name.split("/")[0]) for name in PLACES},
    **{f"archive of torch as {name}": (put(name, archived), name.split("/")[0]) for name in (MODEL, "data/model.pth")},
    "weights of safetensors": (put("model.safetensors", lambda _: safetensors({"w": ROW})), "does not belong"),
    "flavour of Python": (
        put("MLmodel", lambda _: b"flavors:\n  python_function:\n    loader_module: os\n    python_model: python_model.pkl\n"),
        "MLmodel does not belong to it",
    ),
    "code beside it": (put("code/loader.py", lambda s: f"open({str(s)!r}, 'w')".encode()), "code does not belong to it"),
    "model missing": (lambda place, _: (place / MODEL).unlink(), "model.onnx missing"),
    "model empty": (changed(MODEL, lambda _: b""), "model.onnx is damaged"),
    "model cut": (changed(MODEL, lambda raw: raw[: len(raw) // 2]), "model.onnx is damaged"),
    "one bit of the model": (changed(MODEL, lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]), "model.onnx is damaged"),
    "model elsewhere": (elsewhere, "model.onnx is no regular file"),
    "manifest missing": (lambda place, _: (place / MANIFEST).unlink(), "manifest.json missing"),
    "manifest cut": (changed(MANIFEST, lambda raw: raw[: len(raw) // 2]), "manifest.json is damaged"),
    "old schema": (changed(MANIFEST, edited('"format": 1', '"format": 0')), "of another format: format"),
    "manifest changed": (changed(MANIFEST, edited("2008-09-30", "2000-09-30")), "manifest.json was changed"),
    "manifest with a path outside": (rewritten(resealed(sha256={OUTSIDE: "0" * 64})), f"vouches for {OUTSIDE}"),
    "manifest with a path outside, too": (rewritten(resealed(sha256=SOUND.manifest.sha256 | {OUTSIDE: "0" * 64})), OUTSIDE),
    "order of features": (rewritten(resealed(features=SOUND.manifest.features[::-1])), "their order, a formula"),
    "features of another time": (rewritten(resealed(data_spec_hash="0" * 16)), "made for data spec 0000000000000000"),
    "a feature that is none": (rewritten(resealed(features=("moon", *SOUND.manifest.features[1:]))), "no feature moon"),
    "numbers elsewhere": (rewritten(other_model(packages.with_external_data(SOUND.model, location=OUTSIDE))), "in another file"),
    "operator of its own": (rewritten(other_model(packages.with_custom_operator())), "custom operator shop.Discount"),
    "another model": (rewritten(other_model(packages.logistic_model((9.0, 0.5, 2.0)))), "of its canary gives"),
    "output without an end": (rewritten(other_model(packages.logistic_model((3.0, 1.5, 1.0), -9.0, last="Log"))), "not finite"),
    "output of another kind": (rewritten(other_model(packages.logistic_model((3.0, 1.5, 1.0), 3.0, last="Exp"))), "not within"),
    "more memory than there is": (rewritten(other_model(packages.greedy_package(1e10).model)), "its canary cannot be computed"),
    SWAPPED: (rewritten(packages.logistic_package()), "says that it is gap-logistic@1"),
}  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """A registry in the folder of an agent, with a champion and the version that is to be exchanged."""

    registry: ModelRegistry
    agent: Path

    @property
    def kind(self) -> str:
        return "files" if isinstance(self.registry, RegistryFiles) else "mlflow"

    def give(self, **roles: str) -> None:
        """Roles, past the registry: whoever may write there needs no promotion."""
        if self.kind == "files":
            (self.agent / "models" / ALIASES).write_text(json.dumps(roles))
            return
        with MlflowStore(self.agent).asking() as client:
            for role in ("champion", "canary"):
                client.delete_registered_model_alias(MODEL_NAME, role)
                if role in roles:
                    client.set_registered_model_alias(MODEL_NAME, role, roles[role].rpartition("@")[2])


@pytest.fixture(scope="module", params=["files", "mlflow"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp(request.param)

    def admit(package: ModelPackage) -> OnnxPredictor:
        return OnnxPredictor(package, CANDIDATE)

    registry: ModelRegistry = RegistryFiles(folder / "agent" / "models", admit)
    if request.param == "mlflow":
        shutil.copytree(request.getfixturevalue("empty_mlflow"), folder / "agent")
        registry = RegistryMlflow(MlflowStore(folder / "agent"), admit)
    for number, package in (("one", packages.logistic_package()), ("two", SOUND)):
        write_package(folder / number, package)
        registry.register(folder / number)
    return Ground(registry, folder / "agent")


@pytest.fixture
def ground(built: Ground) -> Iterator[Ground]:
    built.give(champion=ONE)
    place = built.registry.fetch(TWO)
    yield built
    shutil.rmtree(place, ignore_errors=True)
    write_package(place, SOUND)


def standing(ground: Ground) -> Stand:
    """Its champion serves as soon as the server runs."""
    server = ModelServer(CANDIDATE, ServingPolicy(64, 512, 30.0, on_wall_time=True), [], lambda: 0.0)
    stand = Stand(ground.registry, ground.agent, server)
    server.serve(Serving(stand.load(ONE)))
    return stand


@pytest.mark.parametrize("name", ATTACKS)
async def test_it_is_refused_by_name_and_who_served_goes_on(ground: Ground, tmp_path: Path, sentinel: Path, name: str) -> None:
    """Where it is promoted, registered, given a role past the registry, and at the start."""
    attack, words = ATTACKS[name]
    registry, stand = ground.registry, standing(ground)

    def named(refusal: object) -> bool:
        """MLflow also knows the digest of what was registered."""
        return words in str(refusal) or "its digest is not what was registered" in str(refusal)

    async with stand.server.running():
        before = await stand.asked()
        assert {score.version for score in before} == {ONE}
        attack(registry.fetch(TWO), sentinel)
        with pytest.raises(BadInput) as refused:
            registry.promote(TWO)
        assert named(refused.value)
        if name != SWAPPED:  # which is as good as any under its own name
            shutil.copytree(registry.fetch(TWO), tmp_path / "given", symlinks=True)
            with pytest.raises(BadInput) as refused:
                registry.register(tmp_path / "given")
            assert words in str(refused.value)
        assert registry.aliases() == {Alias.CHAMPION: ONE}

        ground.give(champion=TWO, canary=TWO)
        follower = stand.follower(canary_share=1.0)
        for _ in range(2):
            await follower.look()
        assert await stand.asked() == before
        (event,) = stand.events
        assert (event.kind, event.body["version"]) == ("model_refused", TWO)
        assert named(event.body["reason"])

    overrides = (f"storage.directory={ground.agent}", f"model.registry={ground.kind}", "model.serve=registry")
    with pytest.raises(BadInput) as refused:
        build_predictor(load_settings(overrides=overrides))
    assert named(refused.value)


def test_the_watch_sees_an_unpickler(tmp_path: Path) -> None:
    """What the tests above rely on."""
    UNPICKLED.clear()
    _watching.append(True)
    pickle.loads(pickled(tmp_path / "exploded"))
    _watching.clear()
    assert UNPICKLED == ["posix.system"]
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [pickled, archived, lambda _: b"\xff" * 64], ids=["pickle", "archive", "noise"])
async def test_a_list_of_roles_that_is_none_changes_nothing(
    ground: Ground, sentinel: Path, content: Callable[[Path], bytes]
) -> None:
    """That of the folder, and MLflow's own store."""
    stand = standing(ground)
    place = ground.agent / "models" / ALIASES if ground.kind == "files" else ground.agent / DATABASE
    sound = place.read_bytes()
    place.write_bytes(content(sentinel))
    again = ground.registry if ground.kind == "files" else RegistryMlflow(MlflowStore(ground.agent), lambda package: None)
    try:
        with pytest.raises((BadInput, Transient), match=place.name):
            again.aliases()
        async with stand.server.running():
            stand.registry = again
            await stand.follower().look()
            assert {score.version for score in await stand.asked()} == {ONE}
    finally:
        place.write_bytes(sound)


@pytest.mark.parametrize("told", ["", "[]", "7", '{"king": "1"}', '{"champion": "../1"}', '{"champion": null}'])
def test_a_move_that_mlflow_tells_of_and_that_is_none_is_refused_with_its_cure(
    tmp_path: Path, empty_mlflow: Path, told: str
) -> None:
    shutil.copytree(empty_mlflow, tmp_path / "agent")
    registry = RegistryMlflow(MlflowStore(tmp_path / "agent"), lambda package: None)
    write_package(tmp_path / "two", SOUND)
    registry.register(tmp_path / "two")
    with MlflowStore(tmp_path / "agent").asking() as client:
        client.set_registered_model_tag(MODEL_NAME, MOVE_TAG, told)
    for ask in (registry.aliases, lambda: registry.promote(TWO)):
        with pytest.raises(BadInput, match=rf"{MOVE_TAG} .* is damaged: .*; delete it there"):
            ask()


@pytest.mark.parametrize("name", [MODEL, MANIFEST, "more.pkl"])
def test_the_copy_for_a_start_without_a_registry_is_no_way_in(tmp_path: Path, sentinel: Path, name: str) -> None:
    WarmCopy(tmp_path / "warm-model").keep(SOUND)
    (tmp_path / "warm-model" / SOUND.digest[:16] / name).write_bytes(pickled(sentinel))
    settings = load_settings(overrides=(f"storage.directory={tmp_path}", "model.serve=registry"))
    with pytest.raises(BadInput, match=rf"the copy of what served last cannot serve: .*{name} is a pickle"):
        build_predictor(settings)


# -- trainings ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [pickled, archived], ids=["pickle", "archive"])
def test_a_checkpoint_that_is_a_pickle_is_refused(tmp_path: Path, sentinel: Path, content: Callable[[Path], bytes]) -> None:
    write_checkpoint(tmp_path, Checkpoint("one", False, (), {"weights": np.zeros(2)}))
    (tmp_path / CHECKPOINT).write_bytes(content(sentinel))
    with pytest.raises(BadInput, match=rf"{CHECKPOINT} is damaged"):
        read_checkpoint(tmp_path, "one")


def of_objects(sentinel: Path) -> bytes:
    """A column of numpy whose numbers are pickles."""
    stream = io.BytesIO()
    np.save(stream, np.asarray([Bomb(sentinel)], dtype=object), allow_pickle=True)
    return stream.getvalue()


def zipped_columns(sentinel: Path) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, values=np.asarray([Bomb(sentinel)], dtype=object))
    return stream.getvalue()


@pytest.mark.parametrize("content", [pickled, archived, of_objects, zipped_columns], ids=["pickle", "archive", "objects", "npz"])
def test_rows_that_are_pickles_are_refused(tmp_path: Path, sentinel: Path, content: Callable[[Path], bytes]) -> None:
    rows = TrainingRows(np.zeros((2, 1, 3), np.float32), np.zeros(2, np.int64), np.zeros(2), np.arange(2), np.ones(2))
    for name in ("values.npy", "outcome.npy", "target_atr.npy", "days.npy", "weight.npy", "long_return.npy", ABOUT):
        folder = tmp_path / name.replace(".", "-")
        write_rows(folder, rows, np.zeros(2), packages.SPEC, "of the tests", (date(2008, 9, 29), date(2008, 9, 30)))
        assert open_rows(folder).hash
        (folder / name).write_bytes(content(sentinel))
        with pytest.raises(BadInput, match=r"holds no rows to learn from|damaged"):
            open_rows(folder)


@pytest.mark.parametrize(
    "line", [b"\x80\x04K\x01.", b"no json", b"{}", b'{"key": "a", "begin": {}}', b'{"key": "b", "epoch": 1}']
)
def test_what_waits_for_mlflow_and_is_damaged_is_named(tmp_path: Path, sentinel: Path, line: bytes) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "a.jsonl").write_bytes(line + b"\n")
    for _ in range(2):  # nothing is held by whoever was refused
        with pytest.raises(BadInput, match=r"a\.jsonl is damaged in line 1"), Tracking(spool, MlflowStore(tmp_path), 1.0):
            pass
    (spool / "a.jsonl").unlink()
    assert not sentinel.exists()
