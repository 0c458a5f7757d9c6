"""A model as a folder: `model.onnx` and a manifest that vouches for it. What is not exactly that is refused, by name."""

import errno
import hashlib
import json
import os
import pickletools
import shutil
import stat
import struct
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from finagent.adapters.durable_files import sync_folder, temporary_name, write_file
from finagent.adapters.models.onnx_format import require_self_contained
from finagent.domain.errors import BadInput, Transient
from finagent.domain.model_evidence import ModelEvidence
from finagent.domain.ports.model_registry import ModelVersion

MODEL, MANIFEST = "model.onnx", "manifest.json"
MODEL_BYTES_MAX, MANIFEST_BYTES_MAX = 64 << 20, 4 << 20
FORMAT = 1
SHIPPED = Path(__file__).with_name("shipped")  # the package that comes with the program
_PICKLED_NAMES = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt"}
_ZIP = b"PK\x03\x04"  # torch keeps its pickles in archives

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-zA-Z0-9._-]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class Canary(BaseModel):
    """Rows of features and what the model says to them; null is an unknown value, or no score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: Annotated[tuple[tuple[Number | None, ...], ...], Field(min_length=2, max_length=1000)]
    outputs: tuple[Number | None, ...]


class ModelFacts(BaseModel):
    """What whoever makes a model says of it. `features` are the columns of its input, in their order, and `data_spec_hash` says
    what they mean; `imputation` holds the values that unknown features take, of those that may be unknown; `evidence` what a
    training has found out, where there was one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Name
    description: Text
    data_spec_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    features: Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]
    imputation: dict[str, Number] = {}
    trained_until: date
    metrics: dict[str, Number]
    created_by: Text
    canary: Canary
    evidence: ModelEvidence | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        strangers = sorted(set(self.imputation) - set(self.features))
        if strangers:
            raise ValueError(f"imputation names {', '.join(strangers)}, which is no feature of it")
        if any(len(row) != len(self.features) for row in self.canary.inputs):
            raise ValueError(f"a row of the canary has not {len(self.features)} values")
        if len(self.canary.outputs) != len(self.canary.inputs):
            raise ValueError("the canary has not one output a row")
        if all(output is None for output in self.canary.outputs):
            raise ValueError("the canary has no score")
        return self


class Manifest(ModelFacts):
    """The facts, the SHA-256 of every file beside it, and one of all that: it depends on every byte of the package."""

    format: Literal[1]
    sha256: dict[str, Digest]
    digest: str = ""

    def encoded(self) -> bytes:
        """Its one form in bytes."""
        told = self.model_dump(mode="json", exclude=None if self.evidence else {"evidence"})
        return json.dumps(told, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

    def closed(self) -> "Manifest":
        """With the digest that belongs to it."""
        opened = self.model_copy(update={"digest": ""})
        return self.model_copy(update={"digest": hashlib.sha256(opened.encoded()).hexdigest()})


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package in memory: what was verified is what is used, whatever becomes of the files."""

    manifest: Manifest
    model: bytes

    @property
    def version(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def facts(self) -> ModelVersion:
        told = self.manifest
        return ModelVersion(
            self.version,
            self.digest,
            told.description,
            told.data_spec_hash,
            told.features,
            told.trained_until,
            told.metrics,
            told.created_by,
            told.evidence,
        )


def sealed(facts: ModelFacts, model: bytes) -> ModelPackage:
    """The package of a model and what is said of it."""
    digests = {MODEL: hashlib.sha256(model).hexdigest()}
    return ModelPackage(Manifest(**facts.model_dump(), format=FORMAT, sha256=digests).closed(), model)


def write_package(folder: Path, package: ModelPackage) -> None:
    """Write a new folder, whole or not at all, on the disk when this returns. BadInput where it is there already, Transient where
    it cannot be written."""
    if folder.exists():
        raise BadInput(f"{folder} is there already: a package is never changed, name another place")
    making = temporary_name(folder)
    try:
        making.mkdir(parents=True)
        write_file(making / MODEL, package.model)
        write_file(making / MANIFEST, package.manifest.encoded())
        sync_folder(making)
        os.rename(making, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise Transient(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def open_package(folder: Path) -> ModelPackage:
    """Read a package. BadInput, naming what is wrong, for anything else than what was sealed; Transient for a folder that cannot
    be read just now."""
    try:
        found = _read_all(folder)
        return _verified(found[MANIFEST], found[MODEL])
    except BadInput as refusal:
        raise BadInput(f"model package {folder} is refused: {refusal}") from refusal


def _verified(raw: bytes, model: bytes) -> ModelPackage:
    manifest = _manifest(raw)
    if set(manifest.sha256) != {MODEL}:
        raise BadInput(f"{MANIFEST} vouches for {', '.join(sorted(manifest.sha256)) or 'nothing'}: it must be {MODEL}")
    if manifest.sha256[MODEL] != hashlib.sha256(model).hexdigest():
        raise BadInput(f"{MODEL} is damaged or another one: its SHA-256 is not that of {MANIFEST}")
    if manifest.closed().encoded() != raw:
        raise BadInput(f"{MANIFEST} was changed: it is not what was written")
    try:
        require_self_contained(model)
    except BadInput as refusal:
        raise BadInput(f"{MODEL}: {refusal}") from refusal
    return ModelPackage(manifest, model)


def _read_all(folder: Path) -> dict[str, bytes]:
    """Both files, and nothing beside them."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput("there is no such folder") from error
    except OSError as error:
        raise Transient(f"{folder} cannot be read: {error.strerror or error}") from error
    for name in names:
        if name not in (MODEL, MANIFEST):
            raise BadInput(f"{name} {_what_surplus_is(folder / name)}")
    missing = [name for name in (MANIFEST, MODEL) if name not in names]
    if missing:
        raise BadInput(f"{' and '.join(missing)} missing")
    found = {
        MANIFEST: regular_file(folder / MANIFEST, MANIFEST_BYTES_MAX),
        MODEL: regular_file(folder / MODEL, MODEL_BYTES_MAX),
    }
    for name, data in found.items():
        if _is_pickled(data):
            raise BadInput(f"{name} is a pickle: none is ever loaded")
    return found


def _what_surplus_is(path: Path) -> str:
    try:
        head = regular_file(path, MODEL_BYTES_MAX)
    except BadInput as odd:
        return f"does not belong to it ({odd})"
    if path.suffix in _PICKLED_NAMES or _is_pickled(head):
        return "is a pickle: none is ever loaded"
    return "does not belong to it"


def regular_file(path: Path, bytes_max: int) -> bytes:
    """What is in it: nothing that leads elsewhere is followed, nothing that never ends is read. BadInput for what is no regular
    file or larger, Transient for one that cannot be read just now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise BadInput(f"{path.name} is no regular file") from error
        raise Transient(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadInput(f"{path.name} is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise Transient(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if len(data) > bytes_max:
        raise BadInput(f"{path.name} is larger than {bytes_max} bytes")
    return data


def _is_pickled(data: bytes) -> bool:
    """Told by reading its operations, none of which is carried out."""
    if data.startswith(_ZIP):
        return True
    try:
        return any(operation.name == "STOP" for operation, _, _ in pickletools.genops(data))
    except (ValueError, OverflowError, struct.error):
        return False


def _manifest(raw: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise BadInput(f"{MANIFEST} is damaged or of another format: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """Where a document is wrong, and how; nothing that stands in it is repeated."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}"
