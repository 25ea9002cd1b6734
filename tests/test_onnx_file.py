"""Weights stored in half their bytes, and back."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.errors import PrecisionError
from fashion_infer.export.qdq import calibrate, layers_of
from fashion_infer.onnx_file import PACKED, load_onnx, packed, precision_of, unpacked

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def small(light_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The light model with its weights packed."""
    path = tmp_path_factory.mktemp("packed") / "small.onnx"
    onnx.save_model(packed(onnx.load(light_model)), path)
    return path


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_packing_halves_the_file_and_rounds_the_weights(small: Path, light_model: Path) -> None:
    before, after = onnx.load(light_model), load_onnx(small)[0]
    assert small.stat().st_size < 0.6 * light_model.stat().st_size
    onnx.checker.check_model(onnx.load(small), full_check=True)
    assert [node.name for node in after.graph.node] == [node.name for node in before.graph.node]
    converted = weights(after)
    assert list(converted) == list(weights(before))
    for name, values in weights(before).items():
        assert converted[name].dtype == values.dtype
        np.testing.assert_allclose(converted[name], values, rtol=2**-11, atol=2**-25)


def test_the_packed_file_computes_in_fp32_what_the_unpacked_one_does(small: Path, tmp_path: Path) -> None:
    onnx.save_model(load_onnx(small)[0], tmp_path / "unpacked.onnx")
    assert precision_of(onnx.load(small)) == "fp32"
    expected = OnnxRuntimeBackend(tmp_path / "unpacked.onnx").run(IMAGES)
    for name, values in OnnxRuntimeBackend(small).run(IMAGES).items():
        np.testing.assert_array_equal(values, expected[name])


def test_the_calibration_of_a_packed_file_is_that_of_the_unpacked_one(small: Path, light_model: Path) -> None:
    model, _ = calibrate(small, IMAGES)
    assert layers_of(model.graph) == layers_of(calibrate(light_model, IMAGES)[0].graph) != []


def test_a_file_without_packed_weights_is_left_as_it_is(light_model: Path) -> None:
    model = onnx.load(light_model)
    assert unpacked(model) is model


def test_a_weight_too_large_for_half_its_bytes_is_named(light_model: Path) -> None:
    model = onnx.load(light_model)
    large = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    large.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(large) + np.float32(1e6), large.name))
    with pytest.raises(PrecisionError, match=f"{large.name} has values that float16 cannot hold"):
        packed(model)
    assert not any(name.endswith(PACKED) for name in weights(model))
