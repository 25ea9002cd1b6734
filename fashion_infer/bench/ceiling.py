"""The arithmetic limit of the machine, measured with a matrix product, and the operations that a model needs."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np

from fashion_infer.errors import ModelError, missing_extra

try:
    import onnx
    import onnx.inliner
    import onnx.parser
    import onnx.shape_inference
    import onnxruntime as ort
except ImportError as error:
    raise missing_extra(error.name or "onnx", "bench", error) from error

SIDE = 1024  # side of the square matrices: large enough to be limited by arithmetic, small enough for the caches
CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
PRODUCTS = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
INTEGER = ("ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul")
# A constant right-hand side is packed once, as weights are.
_PRODUCT = {
    "fp32": """product (float[n, {side}] a) => (float[n, {side}] y) {{
        shape = Constant <value = int64[2] {{{side}, {side}}}> ()
        b = ConstantOfShape <value = float[1] {{0.5}}> (shape)
        y = MatMul (a, b)
    }}""",
    "int8": """product (uint8[n, {side}] a) => (int32[n, {side}] y) {{
        shape = Constant <value = int64[2] {{{side}, {side}}}> ()
        b = ConstantOfShape <value = int8[1] {{3}}> (shape)
        y = MatMulInteger (a, b)
    }}""",
}


def measure_ceiling(threads: int, *, seconds: float) -> dict[str, float]:
    """Measure the operations per second of a matrix product on this CPU; a multiply-add counts as two.

    Args:
        threads: number of threads, at least 1.
        seconds: approximate duration of the measurement.

    Returns:
        Operations per second for fp32 and int8 (unsigned times signed), each the best of several repetitions.
    """
    return {kind: _product_rate(kind, threads, seconds / len(_PRODUCT)) for kind in _PRODUCT}


def _product_rate(kind: str, threads: int, seconds: float) -> float:
    text = f'<ir_version: 10, opset_import: ["": 20]> {_PRODUCT[kind].format(side=SIDE)}'
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = onnx.parser.parse_model(text).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    a = np.full((SIDE, SIDE), 3, {"fp32": np.float32, "int8": np.uint8}[kind])
    times: list[float] = []
    until = perf_counter() + seconds
    while len(times) < 3 or perf_counter() < until:
        start = perf_counter()
        session.run(None, {"a": a})
        times.append(perf_counter() - start)
    return 2 * SIDE**3 / min(times)


def count_operations(model: onnx.ModelProto) -> dict[str, int]:
    """Count the operations for one image in a model's convolutions and matrix products, by type: fp32 and int8.

    A node counts as int8 if both of its factors come from a DequantizeLinear, because ONNX Runtime fuses these.

    Raises:
        ModelError: a shape cannot be inferred without running the model.
    """
    model = onnx.inliner.inline_local_functions(model)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param:  # the batch
            value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    quantized = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    counted = {"fp32": 0, "int8": 0}
    for node in graph.node:
        if node.op_type in (*CONVOLUTIONS, *PRODUCTS):
            integer = node.op_type in INTEGER or quantized.issuperset(node.input[:2])
            counted["int8" if integer else "fp32"] += _operations(node, shapes)
    return counted


def _operations(node: Any, shapes: Mapping[str, list[int]]) -> int:
    """The operations of one node; a multiply-add counts as two."""
    weight_at = 3 if node.op_type.startswith("QLinear") else 1
    output, weight = (shapes.get(name, [0]) for name in (node.output[0], node.input[weight_at]))
    output = [output[0] or 1, *output[1:]]  # a batch of one, if shape inference did not determine it
    if len(output) < 2 or 0 in (*output, *weight):
        raise ModelError(f"the operations of {node.op_type} {node.name} cannot be counted: its shapes are not known")
    if node.op_type not in PRODUCTS:
        each = int(np.prod(weight[1:]))
    elif any(a.name == "transB" and a.i for a in node.attribute):
        each = weight[-1]
    else:
        each = weight[-2]
    return 2 * int(np.prod(output)) * each
