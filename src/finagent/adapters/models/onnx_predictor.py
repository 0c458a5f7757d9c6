"""Scores by ONNX Runtime: a package that has proven itself, from memory, in one immutable handle."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from finagent.adapters.models.call_watch import CallWatch
from finagent.adapters.models.package import ModelPackage
from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput, Permanent
from finagent.domain.ports.predictor import Forecasts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime

TOLERANCE = 1e-5
CANARY_SECONDS_MAX = 10.0  # a call: a thousand rows take milliseconds
ABSTAINS = "abstains"  # the output beside the score: true where the model cannot rule out the other way
MEMORY_BYTES_MAX = 1 << 30  # of all models in a process: several of the largest that a package may hold, and their batches
Matrix = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
_NUMBERS = "bfiu"  # kinds of numpy
_DTYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_QUIET = 4  # severity "fatal": what is wrong is raised, and need not be on stderr too


class Unending(Permanent):
    """A model that does not come to an end: none of its rows has a score any more."""


@dataclass(frozen=True, slots=True)
class CudaShare:
    """What a model may take of the accelerator: `bytes_max` of its memory, taken when it is loaded by a batch of `rows_max`."""

    bytes_max: int
    rows_max: int


class OnnxPredictor:
    """Predictor over a package. BadInput where it was made for other features than `catalogue` has, where ONNX Runtime does not
    load it, and where it does not say to its canary what it said when it was made.

    A graph may say beside each score whether it abstains; one that does not never does.

    An unknown feature takes the value that the manifest names; a row of which nothing is known, or something that has no such
    value, has no score, nor has one that is infinite.

    With a `cuda` share it scores there, and on the CPU where that fails; it must be the same model on both.

    A call that has not ended after `call_seconds_max` is ended, and the model is not asked again: each call raises Unending from
    then on. Without that bound only the canary has one.
    """

    def __init__(
        self,
        package: ModelPackage,
        catalogue: DataSpec,
        *,
        threads: int = 1,
        cuda: CudaShare | None = None,
        call_seconds_max: float | None = None,
    ) -> None:
        from onnxruntime import RunOptions
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        self._run_options = RunOptions
        raised = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
        self._errors: tuple[type[Exception], ...] = (*raised, BadInput)
        refusals: tuple[type[Exception], ...] = (*self._errors, Unending)
        manifest = package.manifest
        self._version, self._digest = package.version, package.digest
        self._seconds, self._ended = call_seconds_max or CANARY_SECONDS_MAX, False
        self._watch: CallWatch | None = CallWatch(self._seconds)
        try:
            self._spec = _spec(package, catalogue)
            cpu = _session(package.model, self._errors, threads)
            self._input, self._dtype = _signature(cpu, len(manifest.features))
            unknown = np.asarray([manifest.imputation.get(name, np.nan) for name in manifest.features])
            self._imputation = unknown.astype(self._dtype)
            self._sessions: tuple[onnxruntime.InferenceSession, ...] = (cpu,)
            self._require_canary(_rows(manifest.canary.inputs), _rows([manifest.canary.outputs])[0])
            if cuda is not None:
                self._sessions = (_cuda_session(package.model, self._errors, threads, cuda),)
                self._call(np.zeros((cuda.rows_max, len(manifest.features)), dtype=self._dtype))
                self._require_canary(_rows(manifest.canary.inputs), _rows([manifest.canary.outputs])[0])
                self._sessions = (*self._sessions, cpu)
            if call_seconds_max is None:
                self._watch = None
        except refusals as refusal:
            raise BadInput(f"model {package.version} is refused: {refusal}") from refusal

    @property
    def model_version(self) -> str:
        return self._version

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def spec(self) -> DataSpec:
        return self._spec

    def predict(self, rows: Floats) -> Forecasts:
        told = np.zeros((len(rows), 2))
        told[:, 0] = np.nan
        filled, sound = self._filled(rows)
        if sound.any():
            told[sound] = self._answers(filled[sound])
        scores, abstains = told.T
        return Forecasts(np.where((scores >= 0.0) & (scores <= 1.0), scores, np.nan), abstains != 0.0)

    def _filled(self, rows: Floats) -> tuple[Matrix, Flags]:
        """The rows in the model's precision with their unknown values filled in, and which of them may be scored."""
        with np.errstate(over="ignore"):  # beyond single precision is infinite, and so no score
            given = np.asarray(rows).astype(self._dtype)
        filled = np.where(np.isnan(given), self._imputation, given)
        return filled, np.asarray(np.isfinite(filled).all(axis=1) & ~np.isnan(given).all(axis=1))

    def _answers(self, rows: Matrix) -> Floats:
        """Score and abstention [rows, 2], in one call; should it fail, each row by itself, so that only those fail that must."""
        try:
            return self._call(rows)
        except self._errors:
            if len(rows) == 1:
                return np.asarray([[np.nan, 0.0]])
            return np.concatenate([self._answers(rows[place : place + 1]) for place in range(len(rows))])

    def _call(self, rows: Matrix) -> Floats:
        *first, last = self._sessions
        for session in first:
            with suppress(*self._errors):
                return self._answer(session, rows)
        return self._answer(last, rows)

    def _answer(self, session: "onnxruntime.InferenceSession", rows: Matrix) -> Floats:
        told = np.zeros((len(rows), 2))
        for place, output in enumerate(self._run(session, rows)):
            if not isinstance(output, np.ndarray) or output.shape not in ((len(rows),), (len(rows), 1)):
                shape = list(output.shape) if isinstance(output, np.ndarray) else type(output).__name__
                raise BadInput(f"its output for {len(rows)} rows is {shape}, not one score a row")
            if output.dtype.kind not in _NUMBERS:
                raise BadInput(f"its output {place + 1} is no number, but {output.dtype.name}")
            told[:, place] = output.reshape(-1)
        return told

    def _run(self, session: "onnxruntime.InferenceSession", rows: Matrix) -> "Sequence[Any]":
        if self._ended:
            raise Unending(f"a call of it was ended after {self._seconds:g} s, and it is not asked again")
        if self._watch is None:
            return cast("Sequence[Any]", session.run(None, {self._input: rows}))
        options = self._run_options()
        options.log_severity_level = _QUIET
        try:
            with self._watch.over(options):
                return cast("Sequence[Any]", session.run(None, {self._input: rows}, options))
        except self._errors as error:
            if not options.terminate:
                raise
            self._ended = True
            raise Unending(f"its call of {len(rows)} rows had not ended after {self._seconds:g} s") from error

    def _require_canary(self, rows: Floats, expected: Floats) -> None:
        filled, sound = self._filled(rows)
        try:
            raw = self._call(filled[sound])[:, 0]
        except self._errors as error:
            raise BadInput(f"its canary cannot be computed: {error}") from error
        if not np.isfinite(raw).all():
            raise BadInput("its output is not finite")
        if ((raw < 0.0) | (raw > 1.0)).any():
            raise BadInput(f"its output is not within [0, 1]: {raw.min():.6g} to {raw.max():.6g}")
        together = self.predict(rows).scores
        for place, (told, found) in enumerate(zip(expected, together, strict=True)):
            if not _same(told, found):
                raise BadInput(f"row {place + 1} of its canary gives {found:.9g}, and gave {told:.9g} when it was made")
        alone = np.concatenate([self.predict(rows[place : place + 1]).scores for place in range(len(rows))])
        if not all(_same(one, other) for one, other in zip(together, alone, strict=True)):
            raise BadInput("a row of its canary gives another score alone than among others")


def _same(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=0.0, atol=TOLERANCE, equal_nan=True))


def _rows(values: "tuple[tuple[float | None, ...], ...] | list[tuple[float | None, ...]]") -> Floats:
    return np.asarray([[np.nan if value is None else value for value in row] for row in values], dtype=np.float64)


def _spec(package: ModelPackage, catalogue: DataSpec) -> DataSpec:
    """The columns that it reads. BadInput where they are not there, or mean something else by now."""
    manifest = package.manifest
    spec = catalogue.select(package.version, manifest.features)
    if spec.hash != manifest.data_spec_hash:
        raise BadInput(
            f"it is made for data spec {manifest.data_spec_hash}, and its features are {spec.hash} here: their order, a formula "
            "or a unit has changed since; train it again"
        )
    return spec


def _cuda_session(
    model: bytes, errors: tuple[type[Exception], ...], threads: int, share: CudaShare
) -> "onnxruntime.InferenceSession":
    import onnxruntime

    cure = "--set model.serving.device=cpu scores without it"
    if _CUDA not in onnxruntime.get_available_providers():
        raise BadInput(f"this ONNX Runtime has no CUDA: pip install onnxruntime-gpu in place of onnxruntime, or {cure}")
    options = {"gpu_mem_limit": share.bytes_max, "arena_extend_strategy": "kSameAsRequested", "use_tf32": 0}
    session = _session(model, errors, threads, ((_CUDA, options), _CPU))
    if session.get_providers()[0] != _CUDA:  # it goes on without a device that it cannot open, and says so nowhere else
        raise BadInput(f"ONNX Runtime cannot open the CUDA device: see nvidia-smi, CUDA and cuDNN, or {cure}")
    return session


def _session(
    model: bytes, errors: tuple[type[Exception], ...], threads: int, providers: "Sequence[Any]" = (_CPU,)
) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.load_model_format", "ONNX")
    _bound_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except errors as error:
        raise BadInput(f"ONNX Runtime does not load it: {error}") from error


@cache
def _bound_memory() -> None:
    """Once in a process: what a graph asks for beyond is an error of its call, and not the end of the process."""
    import onnxruntime

    kind = (onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    arena = onnxruntime.OrtArenaCfg(MEMORY_BYTES_MAX, 0, -1, -1)  # but for the bound as it is without one
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", *kind), arena)


def _signature(session: "onnxruntime.InferenceSession", features: int) -> tuple[str, type[np.floating[Any]]]:
    """Name and precision of its one input."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    named = [output.name for output in outputs[1:]]
    if len(inputs) != 1 or not outputs or named not in ([], [ABSTAINS]):
        raise BadInput(
            f"it has {len(inputs)} inputs and {len(outputs)} outputs: one matrix in, one score a row out, and {ABSTAINS} at most"
        )
    (only,) = inputs
    if only.type not in _DTYPES:
        raise BadInput(f"its input is {only.type}: it must be {' or '.join(_DTYPES)}")
    if len(only.shape) != 2 or (isinstance(only.shape[1], int) and only.shape[1] != features):
        raise BadInput(f"its input has the shape {only.shape}: it must be rows x {features} features")
    return only.name, _DTYPES[only.type]
