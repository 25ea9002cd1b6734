from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

from fashion_infer.evaluation.parity import read_pictures
from fashion_infer.export.qdq import LAYERS, Ranges, Target, calibrate, layers_of, to_int8
from fashion_infer.model_spec import INPUT_NAME, OUTPUT_NAMES
from fashion_infer.onnx_file import precision_of

TARGETS: tuple[Target, ...] = ("cpu", "tensorrt")
INT8, UINT8, INT32 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32
Calibrated = tuple[ModelProto, Ranges]


@pytest.fixture(scope="module")
def images(pictures: Path) -> np.ndarray:
    return read_pictures(pictures, 64)


@pytest.fixture(scope="module")
def paper(onnx_model: Path, images: np.ndarray) -> Calibrated:
    return calibrate(onnx_model, images)


@pytest.fixture(scope="module")
def light(light_model: Path, images: np.ndarray) -> Calibrated:
    return calibrate(light_model, images)


def run(
    model: ModelProto, images: np.ndarray, optimised: Path | None = None, exact: bool = False
) -> dict[str, np.ndarray]:
    """Run a model in ONNX Runtime: with its usual optimisation, saved as `optimised`, or without if that is None."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
    if optimised is None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.optimized_model_filepath = str(optimised)
    session = ort.InferenceSession(model.SerializeToString(), options)
    return dict(zip(OUTPUT_NAMES, session.run(OUTPUT_NAMES, {INPUT_NAME: images}), strict=True))


def fused(model: ModelProto, images: np.ndarray, tmp_path: Path) -> Counter[str]:
    """How many nodes of each operator ONNX Runtime really runs."""
    run(model, images[:1], tmp_path / "optimised.onnx")
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


def quantizers(model: ModelProto) -> list[tuple[NodeProto, np.ndarray, np.ndarray]]:
    """Each Q and DQ with its scale and its zero point."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return [(node, constants[node.input[1]], constants[node.input[2]]) for node in nodes if len(node.input) == 3]


def products(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type in LAYERS]


def test_calibrating_leaves_nothing_beside_the_model(onnx_model: Path, images: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "model.onnx"
    path.write_bytes(onnx_model.read_bytes())
    _, ranges = calibrate(path, images[:2])
    assert list(folder.iterdir()) == [path]
    lowest, highest = ranges["relu"].range_value
    assert lowest == 0 < highest


def test_all_products_are_layers_but_the_heat_maps(paper: Calibrated, light: Calibrated) -> None:
    assert layers_of(paper[0].graph) == [node.name for node in products(paper[0])]
    left_out = [node for node in products(light[0]) if node.name not in layers_of(light[0].graph)]
    assert ["heat_maps" in node.input[1] for node in left_out] == [True]


@pytest.mark.parametrize("target", TARGETS)
def test_the_file_is_valid_and_its_pooling_untouched(paper: Calibrated, target: Target) -> None:
    model, ranges = paper
    before = model.SerializeToString()
    result = to_int8(model, ranges, layers_of(model.graph), target)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)
    assert precision_of(result) == "int8"
    assert result.functions == model.functions
    (pool,) = [node for node in result.graph.node if node.op_type == "LandmarkPool"]
    producers = {name: node.op_type for node in result.graph.node for name in node.output}
    assert producers["landmarks"] == "Reshape"  # of what the last product gave, unrounded
    assert pool.input[1] == "landmarks"
    assert result.ByteSize() < 0.35 * model.ByteSize()


@pytest.mark.parametrize("model", ["paper", "light"])
def test_a_cpu_runs_every_layer_in_8_bits(
    request: pytest.FixtureRequest, model: str, images: np.ndarray, tmp_path: Path
) -> None:
    fp32, ranges = request.getfixturevalue(model)
    layers = layers_of(fp32.graph)
    result = to_int8(fp32, ranges, layers, "cpu")
    kinds = Counter(node.op_type for node in products(fp32) if node.name in layers)
    operators = fused(result, images, tmp_path)
    assert (operators["QLinearConv"], operators["QGemm"]) == (kinds["Conv"], kinds["Gemm"])
    assert operators["Conv"] + operators["FusedConv"] == len(products(fp32)) - len(layers)
    assert operators["Gemm"] + operators["FusedGemm"] + operators["MaxPool"] == 0
    assert {zero.dtype for _, _, zero in quantizers(result)} == {np.dtype(t) for t in ("uint8", "int8", "int32")}


@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_signed_with_a_scale_a_channel(paper: Calibrated, target: Target) -> None:
    model, ranges = paper
    result = to_int8(model, ranges, layers_of(model.graph), target)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    seen = 0
    for node, scale, zero in quantizers(result):
        name = node.output[0].removesuffix("_DequantizeLinear_Output")
        if name.endswith(".weight"):
            seen += 1
            axes = tuple(range(1, weights[name].ndim))
            greatest = np.abs(weights[name]).max(axes)
            steps = greatest[greatest > 0] / scale[greatest > 0]
            if not steps.size:  # a head that starts at zero
                continue
            assert steps.max() < 127.5
            if target == "tensorrt":
                np.testing.assert_allclose(steps, 127, rtol=0.01)
            else:  # two of the same sign stay within 16 bits
                assert steps.min() > 63
            assert zero.dtype == np.int8 and not zero.any()
    assert seen == len(products(model))


@pytest.mark.parametrize("model", ["paper", "light"])
def test_two_neighbouring_products_fit_16_bits(request: pytest.FixtureRequest, model: str) -> None:
    fp32, ranges = request.getfixturevalue(model)
    result = to_int8(fp32, ranges, layers_of(fp32.graph), "cpu")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    sizes = {"depthwise": [0], "dense": [0]}
    for node in products(fp32):
        integers = constants.get(f"{node.input[1]}_quantized")
        if integers is None:
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        sizes["depthwise" if groups > 1 else "dense"].append(int(np.abs(integers.astype(int)).max()))
        if groups == 1:
            by_place = np.moveaxis(integers.astype(int), 1, -1)
            for rows in (by_place.reshape(-1, integers.shape[1]), by_place.reshape(len(integers), -1)):
                even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
                assert np.abs(even[:, 0::2] + even[:, 1::2]).max() <= 128
    assert max(sizes["dense"]) > 100  # all but the worst pairs keep nearly the whole range
    assert max(sizes["depthwise"]) == (127 if model == "light" else 0)


@pytest.mark.parametrize("model", ["paper", "light"])
def test_products_are_exact_on_this_cpu(request: pytest.FixtureRequest, model: str, images: np.ndarray) -> None:
    fp32, ranges = request.getfixturevalue(model)
    result = to_int8(fp32, ranges, layers_of(fp32.graph), "cpu")
    with TemporaryDirectory() as folder:
        as_it_comes = run(result, images, Path(folder, "1.onnx"))
        exact = run(result, images, Path(folder, "2.onnx"), exact=True)
    for name in OUTPUT_NAMES:
        np.testing.assert_array_equal(as_it_comes[name], exact[name])


def test_tensorrt_gets_nothing_but_signed_types_around_zero(light: Calibrated) -> None:
    from fashion_infer.tensorrt.build_checks import check_quantizers

    model, ranges = light
    result = to_int8(model, ranges, layers_of(model.graph), "tensorrt")
    check_quantizers(result)
    assert all(zero.dtype == np.int8 and not zero.any() for _, _, zero in quantizers(result))
    producers = {name: node.op_type for node in result.graph.node for name in node.output}
    rounded = {producers[node.input[0]] for node, _, _ in quantizers(result) if node.op_type == "QuantizeLinear"}
    assert not rounded & {"Gemm"}  # biases, activations and the rounding come after it, in one kernel


def test_both_targets_are_written_from_one_calibration(paper: Calibrated) -> None:
    model, ranges = paper
    layers = layers_of(model.graph)
    scales: dict[Target, dict[str, Any]] = {
        target: {node.input[0]: scale for node, scale, _ in quantizers(to_int8(model, ranges, layers, target))}
        for target in TARGETS
    }
    for name in ("relu", "relu_1", "relu_9"):
        highest = ranges[name].range_value[1]
        np.testing.assert_allclose(scales["cpu"][name], highest / 255, rtol=1e-5)
    np.testing.assert_allclose(scales["tensorrt"]["relu"], ranges["relu"].range_value[1] / 127, rtol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_layers_left_in_float_stay_in_float(
    light: Calibrated, target: Target, images: np.ndarray, tmp_path: Path
) -> None:
    model, ranges = light
    layers = layers_of(model.graph)
    in_float = layers[1:50:5]
    result = to_int8(model, ranges, [layer for layer in layers if layer not in in_float], target)
    onnx.checker.check_model(result, full_check=True)
    weights = {tensor.name: tensor.data_type for tensor in result.graph.initializer}
    assert [node.name for node in products(result) if node.input[1] in weights] == [*in_float, *left_out(model)]
    # TensorRT's products are exact
    optimised = run(result, images, tmp_path / "optimised.onnx", exact=target == "tensorrt")
    plain = run(result, images)
    if target == "cpu":
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
        assert kinds["Conv"] + kinds["FusedConv"] == len(in_float) + len(left_out(model))
    for name in OUTPUT_NAMES:
        assert np.abs(optimised[name] - plain[name]).mean() < 0.02


def left_out(model: ModelProto) -> list[str]:
    return [node.name for node in products(model) if node.name not in layers_of(model.graph)]


def test_one_layer_alone(paper: Calibrated, images: np.ndarray) -> None:
    model, ranges = paper
    layer = layers_of(model.graph)[3]
    result = to_int8(model, ranges, [layer], "tensorrt")
    assert len([node for node, _, _ in quantizers(result) if node.op_type == "QuantizeLinear"]) == 1
    fp32, int8 = run(model, images), run(result, images)
    apart = np.abs(fp32["embedding"] - int8["embedding"]).max()
    assert 0 < apart < 0.05


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("some", [False, True], ids=["all", "some"])
def test_every_constant_is_read(some: bool, target: Target, paper: Calibrated, light: Calibrated) -> None:
    for model, ranges in (paper, light):
        layers = layers_of(model.graph)[:: 2 if some else 1]
        graph = to_int8(model, ranges, layers, target).graph
        assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}
