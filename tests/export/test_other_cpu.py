"""Both kinds of x86 CPU give the same answer: this one, and an emulated one without VNNI."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.errors import ModelError
from fashion_infer.evaluation.parity import read_pictures
from fashion_infer.export import qdq
from fashion_infer.export.other_cpu import EMULATOR, can_emulate_avx2, run_on_avx2
from fashion_infer.export.quantize import Int8Options, quantize_file
from fashion_infer.machine import has_vnni
from fashion_infer.model_spec import METADATA_KEY
from fashion_infer.onnx_file import load_onnx

pytestmark = pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return read_pictures(None, 64, 4)


def test_an_int8_file_gives_the_same_on_both_kinds(
    light_model: Path, pictures: Path, images: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "int8.onnx"
    report = quantize_file(light_model, path, Int8Options(pictures))
    assert ("a CPU without VNNI" in report.cpus) == can_emulate_avx2() == has_vnni()
    this, other = OnnxRuntimeBackend(path).run(images), run_on_avx2(path, images)
    cosines = (this["embedding"] * other["embedding"]).sum(1)
    assert cosines.min() > 0.999
    assert (this["category"].argmax(1) == other["category"].argmax(1)).all()


def test_weights_in_the_whole_of_8_bits_would_not(
    light_model: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the test above could not fail."""
    monkeypatch.setattr(qdq, "_pair_safe_scales", lambda graph, layers: {})
    model, ranges = qdq.calibrate(light_model, images)
    saturating = qdq.to_int8(model, ranges, qdq.layers_of(model.graph), "cpu")
    del saturating.metadata_props[:]
    saturating.metadata_props.add(key=METADATA_KEY, value=load_onnx(light_model)[1].to_json())
    onnx.save_model(saturating, tmp_path / "int8.onnx")
    exact = OnnxRuntimeBackend(tmp_path / "int8.onnx", exact_products=True).run(images)
    other = run_on_avx2(tmp_path / "int8.onnx", images)
    assert np.abs(exact["embedding"] - other["embedding"]).max() > 0.01


def test_a_file_that_fails_says_so(tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"(?s)failed on an emulated AVX2 CPU: .*not an ONNX file"):
        run_on_avx2(tmp_path / "no.onnx", images)
