import json

import numpy as np
import onnx
import pytest

from fashion_infer.errors import EngineBuildError, PrecisionError
from fashion_infer.tensorrt.build_checks import (
    check_precision,
    check_quantizers,
    inspect_log,
    layers_of_json,
    product_types,
)
from fashion_infer.tensorrt.engine_file import Layer

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'


def _quantized(zero_point: str | None, kind: str = "int8") -> onnx.ModelProto:
    """A QuantizeLinear and a DequantizeLinear around nothing."""
    declared = "" if zero_point is None else f", {kind} z = {{{zero_point}}}"
    third = "" if zero_point is None else ", z"
    return onnx.parser.parse_model(
        f"""{HEADER} g (float[N, 4] x) => (float[N, 4] y) <float s = {{0.1}}{declared}>
        {{ q = QuantizeLinear (x, s{third})  y = DequantizeLinear (q, s{third}) }}"""
    )


def test_signed_zero_centred_quantizers_pass() -> None:
    check_quantizers(_quantized("0"))


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (_quantized("0", "uint8"), "the type UINT8"),
        (_quantized("128", "uint8"), "the type UINT8"),
        (_quantized("0", "uint16"), "the type UINT16"),
        (_quantized("-128"), "a zero point other than 0"),
        (_quantized(None), "no signed zero point"),  # uint8 by the standard
    ],
)
def test_quantizers_that_tensorrt_would_get_wrong_are_refused(model: onnx.ModelProto, problem: str) -> None:
    with pytest.raises(PrecisionError, match=f"QuantizeLinear q has {problem}; TensorRT would compute something else"):
        check_quantizers(model)


def test_zero_points_of_weights_are_looked_at_too() -> None:
    text = f"""{HEADER} g (float[N, 2] x) => (float[N, 3] y)
    <int8[3, 2] w = {{1, 2, 3, 4, 5, 6}}, float[3] s = {{0.1, 0.2, 0.3}}, int8[3] z = {{0, 0, 7}}>
    {{ v = DequantizeLinear <axis = 0> (w, s, z)  y = Gemm <transB = 1> (x, v) }}"""
    with pytest.raises(PrecisionError, match="DequantizeLinear v has a zero point other than 0"):
        check_quantizers(onnx.parser.parse_model(text))


def test_stored_weights_need_no_zero_point() -> None:
    text = f"""{HEADER} g (float[N, 2] x) => (float[N, 3] y)
    <int8[3, 2] w = {{1, 2, 3, 4, 5, 6}}, float[3] s = {{0.1, 0.2, 0.3}}>
    {{ v = DequantizeLinear <axis = 0> (w, s)  y = Gemm <transB = 1> (x, v) }}"""
    check_quantizers(onnx.parser.parse_model(text))
    with pytest.raises(PrecisionError, match="no signed zero point"):
        check_quantizers(onnx.parser.parse_model(text.replace("int8[3, 2]", "uint8[3, 2]")))


def test_a_zero_point_may_come_from_a_constant_node() -> None:
    text = f"""{HEADER} g (float[N, 4] x) => (int8[N, 4] q) <float s = {{0.1}}>
    {{ z = Constant <value = int8 {{3}}> ()  q = QuantizeLinear (x, s, z) }}"""
    with pytest.raises(PrecisionError, match="a zero point other than 0"):
        check_quantizers(onnx.parser.parse_model(text))


def test_products_are_named_with_the_type_of_their_weights() -> None:
    half = onnx.numpy_helper.from_array(np.zeros((3, 2), np.float16), "h")
    text = f"""{HEADER} g (float[N, 2] x, float[2, 2] b)
    => (float[N, 3] y, float16[N, 3] u, float[N, 3] t, float[N, 2] o)
    <float[3, 2] w = {{1, 2, 3, 4, 5, 6}}, float16[3, 2] h = {{0, 0, 0, 0, 0, 0}}, float s = {{0.1}}, int8 z = {{0}},
     int8[3, 2] k = {{1, 2, 3, 4, 5, 6}}> {{
        y = Gemm <transB = 1> (x, w)
        c = Cast <to = 10> (x)
        u = Gemm <transB = 1> (c, h)
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        v = DequantizeLinear (k, s, z)
        t = Gemm <transB = 1> (d, v)
        o = MatMul (x, b)
    }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer[1].CopyFrom(half)
    model.graph.node[0].name = "first"
    assert product_types(model) == {"first": "Float", "node_of_u": "Half", "node_of_t": "Int8"}  # o has no weights


def _gemm(kind: str) -> Layer:
    return Layer("g", "gemm", (kind,), (kind,), ("node_of_y",))


def test_an_engine_in_another_precision_is_refused() -> None:
    text = (
        f"{HEADER} g (float[N, 2] x) => (float[N, 1] y) <float[1, 2] w = {{1, 2}}> {{ y = Gemm <transB = 1> (x, w) }}"
    )
    model = onnx.parser.parse_model(text)
    check_precision(model, (_gemm("Float"),))
    bias = Layer("b", "kgen", ("Float",), ("Float",), ("node_of_y",))
    check_precision(model, (bias, _gemm("Half")))  # the bias of a product is often added in a layer of its own
    with pytest.raises(PrecisionError, match="in 1 of 1 products: node_of_y should read Float, it reads Half"):
        check_precision(model, (_gemm("Half"),))
    with pytest.raises(PrecisionError, match="it reads nothing, it is in no layer"):
        check_precision(model, ())


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ({"Name": "x", "Datatype": "Half", "Format": "(NHWC) Channel major format"}, "Half"),
        ({"Name": "x", "Format/Datatype": "Half"}, "Half"),
        ({"Name": "x", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "Half"),
        ({"Name": "x", "Format/Datatype": "Row major linear FP32"}, "Float"),
        ({"Name": "x", "Format/Datatype": "Row major linear BF16"}, "BFloat16"),
        ({"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "Int8"),
        ({"Name": "x", "Format/Datatype": "Row major linear UINT8 format"}, "Row major linear UINT8 format"),
    ],
)
def test_the_inspectors_json_of_tensorrt_10_and_11(tensor: dict[str, str], kind: str) -> None:
    layer = {
        "Name": "n",
        "LayerType": "Conv",
        "Inputs": [tensor],
        "Outputs": [],
        "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]",
    }
    layers = layers_of_json(json.dumps({"Layers": ["a name alone", layer], "Bindings": []}))
    assert layers == (Layer("n", "Conv", (kind,), (), ("a", "b")),)


def test_an_engine_that_cannot_be_inspected_is_refused() -> None:
    with pytest.raises(EngineBuildError, match="does not say which layers it built"):
        layers_of_json('{"Layers": ["a name alone"]}')
    with pytest.raises(EngineBuildError, match="does not say which layers it built"):
        inspect_log(["INFO: nothing", "VERBOSE: Layers:\nanother format"])
