"""A model on the accelerator is the model of the CPU, proven there too; where the device fails, the CPU scores.

The device is played by a session of the CPU that says it is CUDA's: this runs where there is none.
"""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state
from tests.unit.adapters.models import packages

from finagent.adapters.models.onnx_predictor import CudaShare, OnnxPredictor
from finagent.domain.errors import BadInput
from finagent.quant.features.catalogue import CANDIDATE

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SHARE = CudaShare(bytes_max=300_000_000, rows_max=64)
ROWS = np.asarray([[0.05, 0.7, 0.9], [0.11, 1.2, 0.1]])


class Device:
    """What ONNX Runtime makes of a session for CUDA; `told` are its options, `rows` what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: dict[str, Any] = {}
        self.rows: list[int] = []
        self.opens, self.lost, self.off = True, False, 0.0
        whole, device = onnxruntime.InferenceSession, self

        class Session:
            def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
                self.cuda = providers[0] != CPU
                if self.cuda:
                    device.told = dict(providers[0][1])
                self.inner = whole(model, options, providers=[CPU])

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

            def get_providers(self) -> list[str]:
                return [CUDA, CPU] if self.cuda and device.opens else [CPU]

            def run(self, names: Any, given: dict[str, Any], options: Any = None) -> list[Any]:
                if not self.cuda:
                    return list(self.inner.run(names, given, options))
                device.rows.append(len(next(iter(given.values()))))
                if device.lost:
                    raise state.EPFail("CUDA failure 2: out of memory")
                return [output + device.off for output in self.inner.run(names, given, options)]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def test_its_share_is_taken_when_it_is_loaded(device: Device) -> None:
    predictor = OnnxPredictor(packages.logistic_package(), CANDIDATE, cuda=SHARE)
    assert device.told["gpu_mem_limit"] == SHARE.bytes_max
    assert device.rows[0] == SHARE.rows_max, "the largest batch comes first"
    asked = len(device.rows)
    np.testing.assert_allclose(predictor.predict(ROWS).scores, packages.logistic_score(ROWS, packages.WEIGHTS), atol=1e-6)
    assert device.rows[asked:] == [2]


def test_where_the_device_fails_the_cpu_scores(device: Device) -> None:
    predictor = OnnxPredictor(packages.logistic_package(), CANDIDATE, cuda=SHARE)
    whole = predictor.predict(ROWS).scores
    device.lost = True
    np.testing.assert_array_equal(predictor.predict(ROWS).scores, whole)


def test_a_device_that_has_no_room_or_scores_otherwise_is_refused(device: Device) -> None:
    device.off = 2e-5
    with pytest.raises(BadInput, match="row 1 of its canary gives"):
        OnnxPredictor(packages.logistic_package(), CANDIDATE, cuda=SHARE)
    device.lost = True
    with pytest.raises(BadInput, match=r"gap-logistic@1 is refused: .*out of memory"):
        OnnxPredictor(packages.logistic_package(), CANDIDATE, cuda=SHARE)


def test_a_device_that_does_not_open_is_no_silent_cpu(device: Device) -> None:
    device.opens = False
    with pytest.raises(BadInput, match=r"cannot open the CUDA device.*model\.serving\.device=cpu"):
        OnnxPredictor(packages.logistic_package(), CANDIDATE, cuda=SHARE)


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_a_runtime_without_cuda_says_what_to_install() -> None:
    with pytest.raises(BadInput, match="pip install onnxruntime-gpu"):
        OnnxPredictor(packages.logistic_package(), CANDIDATE, cuda=SHARE)
