from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fashion_infer import precision as precision_module
from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.errors import ModelError, ModelNotFoundError, ParityError, PrecisionError, UsageError
from fashion_infer.model_spec import INPUT_NAME, OUTPUT_NAMES, PARITY_KEY
from fashion_infer.onnx_file import PRODUCTS, load_onnx, precision_of
from fashion_infer.precision import computed_in_fp32, convert_file, to_precision

NARROW = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


def _types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _weights(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("fixture", ["onnx_model", "light_model"])
def test_products_become_narrow_and_the_ends_stay(request: pytest.FixtureRequest, fixture: str, precision: str) -> None:
    model, _ = load_onnx(request.getfixturevalue(fixture))
    narrow = to_precision(model, precision)
    onnx.checker.check_model(narrow, full_check=True)
    assert precision_of(model) == "fp32"
    assert precision_of(narrow) == precision
    types = _types(narrow)
    products = {node.output[0]: types[node.output[0]] for node in narrow.graph.node if node.op_type in PRODUCTS}
    wide = [name for name, kind in products.items() if kind != NARROW[precision]]
    assert 0 < len(wide) <= 2  # before landmarks and before visibility
    assert types[INPUT_NAME] == onnx.TensorProto.UINT8
    assert {types[name] for name in OUTPUT_NAMES} == {onnx.TensorProto.FLOAT}
    pool = next(node for node in narrow.graph.node if node.op_type == "LandmarkPool")
    assert types[pool.input[0]] == types[pool.output[0]] == NARROW[precision]
    assert types[pool.input[1]] == onnx.TensorProto.FLOAT  # the cell is a floor
    softmaxes = [node for node in narrow.graph.node if node.op_type in ("Softmax", "ReduceL2")]
    assert {types[node.output[0]] for node in softmaxes} == {onnx.TensorProto.FLOAT}
    assert _weights(narrow) < 0.6 * _weights(model)
    used = {name for node in narrow.graph.node for name in node.input}
    assert {tensor.name for tensor in narrow.graph.initializer} <= used


def test_the_source_is_left_alone(onnx_model: Path) -> None:
    model, _ = load_onnx(onnx_model)
    before = model.SerializeToString()
    to_precision(model, "fp16")
    assert model.SerializeToString() == before


def test_bf16_on_a_cpu_differs_from_fp32_by_its_rounding(onnx_model: Path, tmp_path: Path) -> None:
    model, spec = load_onnx(onnx_model)
    path = tmp_path / "rounded.onnx"
    onnx.save_model(computed_in_fp32(to_precision(model, "bf16")), path)
    images = np.random.default_rng(0).integers(0, 256, (4, spec.image_size, spec.image_size, 3), dtype=np.uint8)
    expected = OnnxRuntimeBackend(onnx_model).run(images)
    outputs = OnnxRuntimeBackend(path).run(images)
    gap = np.abs(outputs["embedding"] - expected["embedding"]).max()
    assert 1e-4 < gap < 0.05  # fp16 would stay below, no rounding at all far below


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_converted_file_holds_its_own_parity_and_the_same_spec(
    onnx_model: Path, tmp_path: Path, precision: str
) -> None:
    output = tmp_path / "out" / f"net.{precision}.onnx"
    report = convert_file(onnx_model, output, precision)
    model, spec = load_onnx(output)
    before = load_onnx(onnx_model)[1]
    assert spec == replace(before, embedding_sha256=spec.embedding_sha256)
    assert spec.embedding_sha256 != before.embedding_sha256  # rendered pictures prove no common embedding space
    metadata = [(entry.key, entry.value) for entry in model.metadata_props]
    assert dict(metadata)[PARITY_KEY] == report.to_json()
    assert len(dict(metadata)) == len(metadata)
    assert set(report.differences) == set(OUTPUT_NAMES)
    assert 0 < max(report.differences.values()) <= report.tolerance
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_an_fp16_file_runs_like_any_other(onnx_model: Path, tmp_path: Path) -> None:
    convert_file(onnx_model, tmp_path / "net.onnx", "fp16")
    backend = OnnxRuntimeBackend(tmp_path / "net.onnx")
    for count in (0, 1, 3):
        outputs = backend.run(np.zeros((count, backend.spec.image_size, backend.spec.image_size, 3), np.uint8))
        assert {name: values.shape for name, values in outputs.items()} == {
            name: (count, *shape) for name, shape in backend.spec.output_shapes().items()
        }


def test_a_file_that_fails_the_gate_is_not_left(
    onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(precision_module.TOLERANCES, "fp16", 1e-9)
    with pytest.raises(ParityError, match="differs by"):
        convert_file(onnx_model, tmp_path / "net.onnx", "fp16")
    assert not list(tmp_path.iterdir())


def test_a_weight_that_does_not_fit_is_named(onnx_model: Path) -> None:
    model, _ = load_onnx(onnx_model)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[1])
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] = 1e5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(PrecisionError, match=f"{conv.input[1]} has values that FLOAT16 cannot hold"):
        to_precision(model, "fp16")
    assert precision_of(to_precision(model, "bf16")) == "bf16"


@pytest.mark.parametrize(
    ("precision", "again", "message"),
    [("fp16", "fp16", "is fp16 already"), ("bf16", "fp16", "is bf16 already"), ("fp16", "fp8", "unknown precision")],
)
def test_only_fp32_can_be_narrowed(onnx_model: Path, precision: str, again: str, message: str) -> None:
    narrow = to_precision(load_onnx(onnx_model)[0], precision)
    with pytest.raises(UsageError, match=message):
        to_precision(narrow, again)


def test_a_quantized_file_is_int8() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[N, 4] x) => (float[N, 4] y) <float s = {0.1}, int8 z = {0}>
    { q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }"""
    assert precision_of(onnx.parser.parse_model(text)) == "int8"


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model file"):
        load_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is not an ONNX file, or is damaged"):
        load_onnx(tmp_path / "text.onnx")
    other = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
    )
    onnx.save_model(other, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="not one that fashion-infer export wrote"):
        load_onnx(tmp_path / "other.onnx")
