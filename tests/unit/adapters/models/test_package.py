"""A package is exactly what was sealed, or it is refused and the message says why."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.adapters.models import packages
from tests.unit.services.reporting.test_model_page import EVIDENCE

from finagent.adapters.models.onnx_format import require_self_contained
from finagent.adapters.models.package import MANIFEST, MODEL, ModelFacts, ModelPackage, open_package, sealed, write_package
from finagent.domain.errors import BadInput, Transient

PACKAGE = packages.logistic_package()


class Bomb:
    """Whoever loads this pickle runs a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


def archive() -> bytes:
    """What torch saves: a pickle within a zip file."""
    with io.BytesIO() as out:
        with zipfile.ZipFile(out, "w") as zipped:
            zipped.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_package(tmp_path / "package", PACKAGE)
    return tmp_path / "package"


def test_what_was_sealed_comes_back(folder: Path) -> None:
    found = open_package(folder)
    assert found == PACKAGE
    assert found.version == "gap-logistic@1"
    assert found.facts.features == packages.SPEC.names
    assert found.facts.digest == found.digest == PACKAGE.digest
    assert sorted(path.name for path in folder.parent.iterdir()) == ["package"]


def test_a_package_is_never_written_over(folder: Path) -> None:
    with pytest.raises(BadInput, match="is there already"):
        write_package(folder, PACKAGE)


def edited(folder: Path, old: str, new: str) -> None:
    text = (folder / MANIFEST).read_text()
    assert old in text
    (folder / MANIFEST).write_text(text.replace(old, new, 1))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no such folder"),
    "model missing": (lambda f: (f / MODEL).unlink(), "model.onnx missing"),
    "manifest missing": (lambda f: (f / MANIFEST).unlink(), "manifest.json missing"),
    "surplus file": (lambda f: (f / "notes.txt").write_text("x y"), "notes.txt does not belong to it"),
    "surplus folder": (lambda f: (f / "more").mkdir(), "more does not belong to it"),
    "pickle": (lambda f: (f / "weights.pkl").write_bytes(b"anything"), "weights.pkl is a pickle"),
    "pickle of another name": (lambda f: (f / "weights.bin").write_bytes(pickle.dumps(Bomb())), "weights.bin is a pickle"),
    "old pickle": (lambda f: (f / "weights.bin").write_bytes(pickle.dumps(Bomb(), 0)), "weights.bin is a pickle"),
    "torch archive": (lambda f: (f / "weights.bin").write_bytes(archive()), "weights.bin is a pickle"),
    "pickle as model": (lambda f: (f / MODEL).write_bytes(pickle.dumps(Bomb())), "model.onnx is a pickle"),
    "archive as model": (lambda f: (f / MODEL).write_bytes(archive()), "model.onnx is a pickle"),
    "pickle as manifest": (lambda f: (f / MANIFEST).write_bytes(pickle.dumps(Bomb())), "manifest.json is a pickle"),
    "truncated": (lambda f: (f / MODEL).write_bytes(PACKAGE.model[:-1]), "model.onnx is damaged or another one: its SHA-256"),
    "longer": (lambda f: (f / MODEL).write_bytes(PACKAGE.model + b"\0"), "model.onnx is damaged or another one: its SHA-256"),
    "manifest cut": (lambda f: (f / MANIFEST).write_bytes(PACKAGE.manifest.encoded()[:-3]), "manifest.json is damaged"),
    "another format": (lambda f: edited(f, '"format": 1', '"format": 2'), "of another format: format"),
    "more in the manifest": (lambda f: edited(f, '"format": 1', '"format": 1, "code": "x"'), "of another format: code"),
    "not a number": (lambda f: edited(f, '"brier": 0.25', '"brier": NaN'), "manifest.json is damaged"),
    "manifest in another form": (lambda f: edited(f, '"format": 1', '"format":  1'), "manifest.json was changed"),
    "other facts": (lambda f: edited(f, '"brier": 0.25', '"brier": 0.15'), "manifest.json was changed"),
    "another name": (lambda f: edited(f, '"name": "gap-', '"name": "../'), "of another format: name"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_not_the_package_is_refused_by_name(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    damage, words = DAMAGES[name]
    damage(folder)
    with pytest.raises(BadInput, match="is refused: ") as refused:
        open_package(folder)
    assert words in str(refused.value)
    assert str(folder) in str(refused.value)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_nothing_that_leads_elsewhere_is_followed(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    with pytest.raises(BadInput, match=f"{name} is no regular file"):
        open_package(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BadInput, match=f"{name} is no regular file"):
        open_package(folder)


def test_every_bit_counts(folder: Path) -> None:
    """No change of any byte of either file goes by."""
    for name in (MODEL, MANIFEST):
        whole = (folder / name).read_bytes()
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 0x20
            (folder / name).write_bytes(flipped)
            with pytest.raises(BadInput, match="is refused"):
                open_package(folder)
        (folder / name).write_bytes(whole)
    assert open_package(folder) == PACKAGE


def test_evidence_is_part_of_what_is_sealed(tmp_path: Path) -> None:
    """It comes back as it was, each figure counts, and one that cannot be is refused."""
    facts = packages.facts_of(packages.SPEC, PACKAGE.manifest.canary, evidence=EVIDENCE)
    package = sealed(facts, SOUND)
    write_package(tmp_path / "package", package)
    assert open_package(tmp_path / "package").facts.evidence == EVIDENCE
    assert PACKAGE.facts.evidence is None
    assert b"evidence" not in PACKAGE.manifest.encoded()
    whole = (tmp_path / "package" / MANIFEST).read_text()
    for old, new, words in (
        ("1.0987", "1.0986", "manifest.json was changed"),
        ('"members": 3', '"members": "3"', "manifest.json was changed"),
        ('"skill": 0.25', '"skill": 7.0', "a fraction is not from 0 to 1"),
        ('"skill": 0.25', '"skill": "much"', "of another format: evidence.skill"),
        ("1.0987", "1e999", "or not finite"),
    ):
        (tmp_path / "package" / MANIFEST).write_text(whole.replace(old, new, 1))
        with pytest.raises(BadInput, match=words):
            open_package(tmp_path / "package")


def test_numbers_of_the_manifest_fit_together() -> None:
    facts = json.loads(PACKAGE.manifest.model_dump_json(exclude={"format", "sha256", "digest"}))
    wrong = {
        "imputation": {"rsi_14": 50.0},
        "features": [*packages.SPEC.names, "rsi_14"],
        "canary": {"inputs": [[0.1, 0.2, 0.3]] * 2, "outputs": [0.5]},
        "version": "1@2",
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=r"imputation|canary|pattern"):
            ModelFacts.model_validate(facts | {name: value})
    silent = {"inputs": [[0.1, 0.2, 0.3]] * 2, "outputs": [None, None]}
    with pytest.raises(ValueError, match="the canary has no score"):
        ModelFacts.model_validate(facts | {"canary": silent})


SOUND = PACKAGE.model
GRAPHS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "has no graph"),
    "text": (b"no model at all, but long enough to be read", "truncated or no ONNX"),
    "cut": (SOUND[:-5], "bytes are missing"),
    "only a head": (SOUND[:2], "has no graph"),
    "ORT format": (b"\x08\x00\x00\x00ORTM" + SOUND, "own format"),
    "custom operator": (packages.with_custom_operator(), "custom operator shop.Discount"),
    "functions": (packages.with_functions(SOUND), "functions of its own"),
    "external data": (packages.with_external_data(SOUND), "another file"),
    "external data that is only named": (packages.with_external_data(SOUND, marked=False), "another file"),
    "external data that is only marked": (packages.with_external_data(SOUND, named=False), "another file"),
    "training steps": (SOUND + b"\xa2\x01\x00", "training steps"),
    "external data in a branch": (packages.with_external_data_in_a_branch(SOUND), "another file"),
    "number without an end": (b"\xff" * 20, "a number has no end"),
    "a graph that is a number": (b"\x38\x01", "a message is a number"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_model_that_is_not_self_contained_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Also where the manifest vouches for it: whoever made the package may be the one to be feared."""
    model, words = GRAPHS[name]
    with pytest.raises(BadInput, match=words):
        require_self_contained(model)
    write_package(tmp_path / "package", resealed(PACKAGE, model))
    with pytest.raises(BadInput, match=f"is refused: model.onnx: .*{words}"):
        open_package(tmp_path / "package")


def resealed(package: ModelPackage, model: bytes) -> ModelPackage:
    return sealed(packages.facts_of(packages.SPEC, package.manifest.canary), model)


def test_graphs_are_not_nested_without_end() -> None:
    inner = b""
    for _ in range(40):  # a graph of one node with one attribute that is a graph
        attribute = b"\x32" + varint(len(inner)) + inner
        node = b"\x2a" + varint(len(attribute)) + attribute
        inner = b"\x0a" + varint(len(node)) + node
    with pytest.raises(BadInput, match="nested more than 32 deep"):
        require_self_contained(b"\x3a" + varint(len(inner)) + inner)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_disk_that_does_not_take_it_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Transient, match="No space left"):
        write_package(tmp_path / "package", PACKAGE)
    assert list(tmp_path.iterdir()) == []
