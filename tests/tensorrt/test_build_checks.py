from typing import Any

import numpy as np
import onnx
import pytest

from fashion_infer.errors import PrecisionError
from fashion_infer.tensorrt.api import log_of
from fashion_infer.tensorrt.build_checks import check_precision, check_quantizers, product_types

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'


def _quantized(zero_point: str | None, kind: str = "int8") -> onnx.ModelProto:
    """A network of a QuantizeLinear and a DequantizeLinear."""
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


def _network(model: onnx.ModelProto) -> Any:
    """The network that TensorRT for RTX parses from a model."""
    trt = pytest.importorskip("tensorrt_rtx")
    builder = trt.Builder(log_of(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log_of(trt))
    assert parser.parse(model.SerializeToString())
    return network


GEMM = "g (float[N, 2] x) => (float[N, 1] y) <float[1, 2] w = {1, 2}> { y = Gemm <transB = 1> (x, w) }"


def test_a_network_in_the_precision_of_its_file_passes() -> None:
    model = onnx.parser.parse_model(f"{HEADER} {GEMM}")
    assert check_precision(model, _network(model)) == {"node_of_y": "Float"}


def test_a_network_in_another_precision_is_refused() -> None:
    model = onnx.parser.parse_model(f"{HEADER} {GEMM}")
    half = onnx.ModelProto()
    half.CopyFrom(model)
    weight = half.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16), "w"))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    assert check_precision(half, _network(half)) == {"node_of_y": "Half"}
    with pytest.raises(PrecisionError, match="in 1 of 1 products: node_of_y should read Float, it reads Half"):
        check_precision(model, _network(half))
    other = onnx.parser.parse_model(f"{HEADER} {GEMM.replace('y', 'z')}")
    with pytest.raises(PrecisionError, match="it reads nothing, it is in no layer"):
        check_precision(model, _network(other))
