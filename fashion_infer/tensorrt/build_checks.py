"""Checks of an ONNX file before TensorRT reads it, and of the network that TensorRT makes of it.

TensorRT only warns about quantizers that it cannot represent, and then computes something else.
"""

import re
from typing import Any

import numpy as np

from fashion_infer.errors import PrecisionError, missing_extra
from fashion_infer.onnx_file import PRODUCTS, QUANTIZERS

try:
    from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error

_TYPES: dict[int, str] = {TensorProto.FLOAT: "Float", TensorProto.FLOAT16: "Half", TensorProto.BFLOAT16: "BFloat16"}
_NAMES = {"FLOAT": "Float", "HALF": "Half", "BF16": "BFloat16", "INT8": "Int8"}  # by trt.DataType
_SIGNED = (TensorProto.INT8, TensorProto.FLOAT8E4M3FN)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_LAYERS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")  # the layers that TensorRT's parser makes of products


def check_quantizers(model: ModelProto) -> None:
    """Refuse quantizers that TensorRT would treat as signed and zero-centred although they are not.

    Args:
        model: the ONNX file.

    Raises:
        PrecisionError: a QuantizeLinear or DequantizeLinear is unsigned, or has a zero point other than 0.
    """
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type not in QUANTIZERS:
            continue
        zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero_point is None:
            # Without a zero point the type is that of the stored weights; without stored weights ONNX means uint8.
            weights = constants.get(node.input[0])
            signed = node.op_type == "DequantizeLinear" and weights is not None and weights.data_type in _SIGNED
            problem = None if signed else "no signed zero point"
        elif zero_point.data_type not in _SIGNED:
            problem = f"the type {TensorProto.DataType.Name(zero_point.data_type)}"
        else:
            values = numpy_helper.to_array(zero_point).astype(np.float32)
            problem = "a zero point other than 0" if values.any() else None
        if problem is not None:
            raise PrecisionError(
                f"{node.op_type} {node.name or node.output[0]} has {problem}; TensorRT would compute something else: "
                "quantize with signed 8-bit activations (fashion-infer export --precision int8 --engine)"
            )


def check_precision(model: ModelProto, network: Any) -> dict[str, str]:
    """Compare the types that an ONNX file gives its products with those of the network that TensorRT builds from.

    The builder may not choose other types for a strongly typed network, so the engine has the types of the network.
    The engine itself does not tell them: if the batch size varies, TensorRT's inspector answers "N/A due to dynamic
    shapes" for every tensor.

    Args:
        model: the ONNX file.
        network: TensorRT's INetworkDefinition, parsed from the file.

    Returns:
        {name of the ONNX node: type of its product, such as "Half"}.

    Raises:
        PrecisionError: a product has another type in the network, or belongs to no layer.
    """
    types = network_types(network)
    expected = product_types(model)
    wrong = [node for node, kind in expected.items() if types.get(node) != {kind}]
    if wrong:
        reads = " and ".join(sorted(types.get(wrong[0], ()))) or "nothing, it is in no layer"
        raise PrecisionError(
            f"TensorRT would not build the precision asked for, in {len(wrong)} of {len(expected)} products: "
            f"{wrong[0]} should read {expected[wrong[0]]}, it reads {reads}"
        )
    return expected


def network_types(network: Any) -> dict[str, set[str]]:
    """The input types of the products of a strongly typed network.

    Returns:
        {name of the ONNX node: the types that the node's layers read}.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    types: dict[str, set[str]] = {}
    for layer in layers:
        if layer.type.name not in _LAYERS:
            continue
        tensors = [layer.get_input(i) for i in range(layer.num_inputs)]
        inputs = {_type_of(tensor, producers.get(tensor.name)) for tensor in tensors if tensor is not None}
        for node in _NODE.findall(layer.metadata):
            types.setdefault(node, set()).update(inputs)
    return types


def product_types(model: ModelProto) -> dict[str, str]:
    """The type of each convolution and matrix product with constant weights.

    Returns:
        {name of the ONNX node: TensorRT's name of the type}.
    """
    constants = _constants(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    types = {}
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        # TensorRT gives this name to a node that has none
        name = node.name or f"node_of_{node.output[0]}"
        weight = constants.get(node.input[1])
        if weight is not None:
            types[name] = _TYPES[weight.data_type]
        elif all(_is_dequantized(producers.get(tensor)) for tensor in node.input[:2]):
            types[name] = "Int8"
    return types


def _type_of(tensor: Any, producer: Any) -> str:
    """The type in which a product reads a tensor: Int8 if a DequantizeLinear of 8-bit values produces it."""
    if producer is not None and producer.type.name == "DEQUANTIZE":
        tensor = producer.get_input(0)
    return _NAMES.get(tensor.dtype.name, str(tensor.dtype.name))


def _is_dequantized(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Every constant of the graph by name, from initializers and Constant nodes."""
    nodes = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    return nodes | {tensor.name: tensor for tensor in model.graph.initializer}
