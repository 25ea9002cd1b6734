"""What must hold of an ONNX file before TensorRT gets it, and of the engine it makes.

TensorRT only warns about quantizers it cannot represent, and then computes something else. What it built can be read
from the engine where there is a GPU (its inspector), and for RTX from the build log where there is none.
"""

import json
import re
from typing import Any

import numpy as np

from fashion_infer.errors import EngineBuildError, PrecisionError, missing_extra
from fashion_infer.onnx_file import PRODUCTS, QUANTIZERS
from fashion_infer.tensorrt.api import log_of
from fashion_infer.tensorrt.engine_file import Layer

try:
    from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error

_TYPES: dict[int, str] = {TensorProto.FLOAT: "Float", TensorProto.FLOAT16: "Half", TensorProto.BFLOAT16: "BFloat16"}
_SIGNED = (TensorProto.INT8, TensorProto.FLOAT8E4M3FN)
_LINE = re.compile(
    r"^Name: (.*), LayerType: (\w+), Inputs: (.*), Constants: .*, Outputs: (.*), TacticName: .*Metadata: (.*)$"
)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_OLD_TYPES = {"BF16": "BFloat16", "FP16": "Half", "FP32": "Float", "INT8": "Int8"}


def check_quantizers(model: ModelProto) -> None:
    """Refuse quantizers that TensorRT would take for signed, zero-centred ones.

    Raises:
        PrecisionError: a QuantizeLinear or DequantizeLinear is unsigned, or has a zero point other than 0.
    """
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type not in QUANTIZERS:
            continue
        zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero_point is None:
            stored = constants.get(node.input[0])  # without a zero point: what is stored says it, else uint8 is meant
            signed = node.op_type == "DequantizeLinear" and stored is not None and stored.data_type in _SIGNED
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


def check_precision(model: ModelProto, layers: tuple[Layer, ...]) -> None:
    """Compare the types that an ONNX file gives its products with those that an engine computes them in.

    Raises:
        PrecisionError: a product is computed in another type, or in no layer.
    """
    found: dict[str, set[str]] = {}
    for layer in layers:
        for node in layer.nodes:
            found.setdefault(node, set()).update(layer.inputs)
    expected = product_types(model)
    wrong = [node for node, kind in expected.items() if kind not in found.get(node, ())]
    if wrong:
        reads = ", ".join(sorted(found.get(wrong[0], ()))) or "nothing, it is in no layer"
        raise PrecisionError(
            f"the engine is not in the precision asked for, in {len(wrong)} of {len(expected)} products: {wrong[0]} "
            f"should read {expected[wrong[0]]}, it reads {reads}"
        )


def product_types(model: ModelProto) -> dict[str, str]:
    """TensorRT's name of the type of each convolution and matrix product with constant weights, by node."""
    constants = _constants(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    types = {}
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        # TensorRT makes a name up for a node without one
        name = node.name or f"node_of_{node.output[0]}"
        weight = constants.get(node.input[1])
        if weight is not None:
            types[name] = _TYPES[weight.data_type]
        elif all(_is_dequantized(producers.get(tensor)) for tensor in node.input[:2]):
            types[name] = "Int8"
    return types


def inspect_log(lines: list[str]) -> tuple[Layer, ...]:
    """The layers that TensorRT for RTX lists in its build log.

    Raises:
        EngineBuildError: there is no such list.
    """
    text = next((line for line in lines if line.startswith("VERBOSE: Layers:")), "")
    matches = (_LINE.match(line) for line in text.splitlines())
    return _known(tuple(_layer_of_log(*match.groups()) for match in matches if match is not None))


def inspect_plan(trt: Any, plan: bytes) -> tuple[Layer, ...]:
    """The layers of a plan, by TensorRT's inspector; needs the GPU it was built on.

    Raises:
        EngineBuildError: it cannot be loaded, or lists no layers.
    """
    engine = trt.Runtime(log_of(trt)).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineBuildError("TensorRT cannot load the engine that it has just built")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return layers_of_json(text)


def layers_of_json(text: str) -> tuple[Layer, ...]:
    """The layers in the inspector's JSON, of TensorRT 10 and 11."""
    layers = [layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict)]  # else names alone
    return _known(tuple(_layer_of_json(layer) for layer in layers))


def _known(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    if not layers:
        raise EngineBuildError("TensorRT does not say which layers it built, so their precision cannot be checked")
    return layers


def _layer_of_log(name: str, kind: str, inputs: str, outputs: str, metadata: str) -> Layer:
    types = [tuple(re.findall(r"Datatype: (\w+)", text)) for text in (inputs, outputs)]
    return Layer(name, kind, types[0], types[1], tuple(_NODE.findall(metadata)))


def _layer_of_json(layer: dict[str, Any]) -> Layer:
    types = [tuple(_type_of_json(tensor) for tensor in layer.get(key, ())) for key in ("Inputs", "Outputs")]
    nodes = tuple(_NODE.findall(layer.get("Metadata", "")))
    return Layer(layer["Name"], layer.get("LayerType", ""), types[0], types[1], nodes)


def _type_of_json(tensor: dict[str, Any]) -> str:
    """TensorRT 11 has a field for the type; in 10 it is somewhere in the description of the format."""
    text = str(tensor.get("Datatype", tensor.get("Format/Datatype", "")))
    return next((name for part, name in _OLD_TYPES.items() if re.search(rf"\b{part}\b", text.upper())), text)


def _is_dequantized(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Every constant of the graph by name: initializers and Constant nodes."""
    nodes = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    return nodes | {tensor.name: tensor for tensor in model.graph.initializer}
