"""Quantisation in the Q/DQ format: measure the ranges of a graph's tensors, then write the graph with 8-bit layers.

There is one calibration, but two kinds of files, since no single file is fast everywhere. CPUs need unsigned
activations and a rounding after every operator. TensorRT needs activations that are symmetric around zero (it reads
unsigned ones with the same scale and loses their upper half), a rounding only before operators that compute in 8 bits,
and float biases. In both, weights are signed and have one scale per channel. onnxruntime.quantization does the
measuring and the writing.

There are two kinds of x86 CPUs. With VNNI, 8-bit products are summed in 32 bits. Without it (AVX2, most desktops), two
neighbouring products are first summed in 16 bits, and sums that do not fit saturate silently. `_pair_safe_scales`
chooses the scales of the weights so that no pair can overflow. Both kinds then compute the same integers at full speed.
"""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import missing_extra
from fashion_infer.model_spec import INPUT_NAME
from fashion_infer.onnx_file import unpacked

try:
    import onnx
    from onnx import GraphProto, ModelProto, helper, numpy_helper
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error
try:
    from onnxruntime.quantization import CalibrationMethod, QuantType, create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
except ImportError as error:
    raise missing_extra("onnxruntime", "cpu", error) from error

Target = Literal["cpu", "tensorrt"]
Ranges = Any  # TensorsData of onnxruntime.quantization: lowest and highest value of each tensor

LAYERS = ("Conv", "Gemm")
CARRIERS = ("Relu", "Clip", "MaxPool", "Resize", "Reshape", "Add", "Concat")  # pass 8-bit data on between two layers
ACTIVATIONS = ("Relu", "Clip")
JOINS = ("Add", "Concat")  # every input of these is data; of other carriers only the first is
LARGEST_INT8 = 127
PAIR_LIMIT = (2**15 - 1) // 255  # 128: the largest sum of two int8 weights that times 255 still fits into 16 bits


def calibrate(source: Path, pictures: NDArray[np.uint8]) -> tuple[ModelProto, Ranges]:
    """Measure the lowest and highest value of each tensor.

    Args:
        source: An fp32 .onnx file.
        pictures: uint8 [N, S, S, 3] RGB.

    Returns:
        The model with the shapes of its tensors, and their ranges; both are arguments of `to_int8`.
    """
    with TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        onnx.save_model(unpacked(onnx.load(source)), model)  # a copy, since the library writes files beside its input
        calibrator = create_calibrator(
            model, (*LAYERS, *CARRIERS), str(Path(folder, "augmented.onnx")), CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Reader(pictures))
        return load_model_with_shape_infer(model), calibrator.compute_data()


class _Reader:
    """Yields pictures one by one, with the method and the shape that the library expects."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        self._inputs = iter(pictures[:, None])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        picture = next(self._inputs, None)
        return None if picture is None else {INPUT_NAME: picture}


def layers_of(graph: GraphProto) -> list[str]:
    """Return the names of the nodes to quantise, in order: the products of activations and weights.

    The last convolution is excluded: its output is a heat map and must stay in float.
    """
    weights = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in LAYERS and node.input[1] in weights]
    before = _tensors_before(graph, {node.name for node in products})
    return [node.name for node in products if node.op_type != "Conv" or node.output[0] in before]


def to_int8(model: ModelProto, ranges: Ranges, layers: Iterable[str], target: Target) -> ModelProto:
    """Return a copy of a model with some layers in 8 bits, together with the operators that connect two of them.

    Args:
        model: The model from `calibrate`.
        ranges: The ranges from `calibrate`.
        layers: Names of the layers to quantise, at least one, out of `layers_of`.
        target: `cpu` or `tensorrt`.
    """
    chosen = set(layers)
    if target == "cpu":
        activations = QuantType.QUInt8
        nodes = chosen | _between(model.graph, chosen, CARRIERS)
        options: dict[str, Any] = {
            "OpTypesToExcludeOutputQuantization": ["Gemm"],  # it computes logits, or ONNX Runtime fuses a ReLU into it
            "TensorQuantOverrides": _pair_safe_scales(model.graph, chosen),
        }
    else:
        activations = QuantType.QInt8
        nodes = chosen | _between(model.graph, chosen, ("Add",))  # TensorRT fuses a residual into its convolution
        options = {
            "OpTypesToExcludeOutputQuantization": [*LAYERS, "Add"],
            "ActivationSymmetric": True,
            "QuantizeBias": False,
        }
    result = ModelProto()
    result.CopyFrom(model)
    quantizer = QDQQuantizer(
        result,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=activations,
        tensors_range=ranges,
        nodes_to_quantize=sorted(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=[*LAYERS, *CARRIERS],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: ModelProto = quantizer.model.model
    in_float = [node for node in quantized.graph.node if node.op_type in LAYERS and node.name not in chosen]
    for node in in_float:
        _shield_bias(quantized.graph, node) if target == "cpu" else _read_unrounded(quantized.graph, node)
    _drop_unused(quantized.graph)
    return quantized


def _drop_unused(graph: GraphProto) -> None:
    """Drop constants that no node reads any more: ONNX Runtime would log a warning for each at every start."""
    used = {name for node in graph.node for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _pair_safe_scales(graph: GraphProto, layers: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the range of each output channel's weights, in the form that onnxruntime.quantization expects.

    Without VNNI, kernels add the products of two neighbouring weights in 16 bits (the x86 instruction `pmaddubsw`).
    As integers, two neighbours of the same sign may therefore sum to at most `PAIR_LIMIT`. Neighbours are the input
    channels 2i and 2i + 1 at one position of the kernel. With an odd number of input channels, ONNX Runtime also pairs
    the last channel of a position with the first of the next. Depthwise convolutions are computed without pairs, so
    they keep the full 8 bits.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    ranges = {}
    for node in graph.node:
        if node.name in layers and not _is_depthwise(node, weight := weights[node.input[1]]):
            largest = _largest_magnitude(weight if node.op_type == "Conv" or _is_transposed(node) else weight.T)
            ranges[node.input[1]] = [
                {"quant_type": QuantType.QInt8, "symmetric": True, "rmin": -bound, "rmax": bound} for bound in largest
            ]
            ranges[node.input[1]][0]["axis"] = 0 if node.op_type == "Conv" or _is_transposed(node) else 1
    return ranges


def _largest_magnitude(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the value that becomes 127 in each output channel, float32 [O], for weights float32 [O, I, ...]."""
    by_place = np.moveaxis(weight, 1, -1)  # input channels innermost, as in the kernels' memory layout
    # Rounding changes each of the two by up to a half, so their sum may exceed the unrounded one; hence the margin.
    safe = np.float32(LARGEST_INT8 / (PAIR_LIMIT - 0.5))
    bound: NDArray[np.float32] = np.abs(weight.reshape(len(weight), -1)).max(1)
    for magnitudes in (np.maximum(by_place, 0), np.maximum(-by_place, 0)):  # two signs cannot overflow together
        # ONNX Runtime pairs across all positions in one row; oneDNN pads the channels of each to an even number.
        for row in (magnitudes.reshape(len(weight), 1, -1), magnitudes.reshape(len(weight), -1, weight.shape[1])):
            even = np.pad(row, ((0, 0), (0, 0), (0, row.shape[2] % 2)))
            bound = np.maximum(bound, (even[:, :, 0::2] + even[:, :, 1::2]).max((1, 2)) * safe)
    return bound


def _is_depthwise(node: onnx.NodeProto, weight: NDArray[np.float32]) -> bool:
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return groups > 1 and weight.shape[:2] == (groups, 1)


def _is_transposed(node: onnx.NodeProto) -> bool:
    """Whether a Gemm stores its weights as [outputs, inputs]."""
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


# ONNX Runtime converts a float layer to int8 by itself, with one scale for all channels, if its input was rounded and
# its weight and bias are constants. Layers that must stay in float therefore get a bias that is no constant (CPU), or
# an input that was not rounded (TensorRT).


def _shield_bias(graph: GraphProto, node: onnx.NodeProto) -> None:
    """Store the bias as int32 and a scale, so that it is no constant; int32 holds more digits than float32 does."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if len(node.input) > 2:
        bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float64)
    else:
        bias = np.zeros(constants[node.input[1]].dims[0])
    scale = np.float32(np.abs(bias).max() / 2**30) or np.float32(1)
    integers, scales, result = (f"{node.name}_bias_{part}" for part in ("int32", "scale", "float"))
    graph.initializer.append(numpy_helper.from_array(np.round(bias / scale).astype(np.int32), integers))
    graph.initializer.append(numpy_helper.from_array(np.array(scale), scales))
    graph.node.insert(0, helper.make_node("DequantizeLinear", [integers, scales], [result], name=result))
    node.input[:] = [*node.input[:2], result]


def _read_unrounded(graph: GraphProto, node: onnx.NodeProto) -> None:
    """Connect a layer to the values of its input before they were rounded for another layer."""
    producers = {name: producer for producer in graph.node for name in producer.output}
    restored = producers.get(node.input[0])
    if restored is not None and restored.op_type == "DequantizeLinear":
        node.input[0] = producers[restored.input[0]].input[0]


def _between(graph: GraphProto, layers: set[str], operators: Iterable[str]) -> set[str]:
    """Return the names of operators of these types that lie between quantised layers.

    All their inputs come from quantised layers, and their output leads to one. An activation's output need not: the
    convolution before it has to round its result, and should do so after the activation.
    """
    after, before = _tensors_after(graph, layers), _tensors_before(graph, layers)
    carriers = [node for node in graph.node if node.op_type in operators and node.output[0] in after]
    return {node.name for node in carriers if node.output[0] in before or node.op_type in ACTIVATIONS}


def _tensors_after(graph: GraphProto, layers: set[str]) -> set[str]:
    """Return the outputs of layers, and the outputs of carriers whose inputs all come from layers."""
    after: set[str] = set()
    for node in graph.node:
        carries = node.op_type in CARRIERS and all(name in after for name in _data(node))
        if node.name in layers or carries:
            after.add(node.output[0])
    return after


def _tensors_before(graph: GraphProto, layers: set[str]) -> set[str]:
    """Return the inputs of layers, and the inputs of carriers that lead to layers."""
    before: set[str] = set()
    for node in reversed(graph.node):
        if node.name in layers:
            before.add(node.input[0])
        elif node.op_type in CARRIERS and node.output[0] in before:
            before.update(_data(node))
    return before


def _data(node: onnx.NodeProto) -> list[str]:
    """Return the inputs of a carrier that are data, not parameters."""
    return list(node.input if node.op_type in JOINS else node.input[:1])
