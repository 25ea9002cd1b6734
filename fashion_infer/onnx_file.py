"""Reader of exported ONNX files, storage of their weights as float16, and their precision. Needs onnx, not torch."""

import math
from pathlib import Path

import numpy as np

from fashion_infer.errors import PrecisionError, missing_extra
from fashion_infer.model_file import ModelFile, parse_onnx, read_model
from fashion_infer.model_spec import ModelSpec

try:
    import onnx
except ImportError as error:
    raise missing_extra(error.name or "onnx", "export", error) from error

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operations that take nearly all of a network's time
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
PACKED = "/fp16"  # suffix of the name of a weight that is stored as float16
PACKED_FROM = 1024  # fewest values of a weight that is stored as float16; smaller ones are scales and offsets


def load_onnx(path: Path | ModelFile) -> tuple[onnx.ModelProto, ModelSpec]:
    """Read a file that `fashion-infer export` wrote; weights that were packed as float16 are float32 again.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: the file is not an ONNX file, is damaged, or was not written by `fashion-infer export`.
    """
    model, spec = parse_onnx(read_model(path), extra="export")
    return unpacked(model), spec


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an fp32 model with its large weights stored as float16, in half the bytes, and a Cast after each.

    The copy computes in float32: every runtime performs the Casts once, when it loads the file.

    Raises:
        PrecisionError: a weight does not fit float16.
    """
    result = _copy(model)
    casts = []
    for tensor in result.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= PACKED_FROM:
            casts.append(onnx.helper.make_node("Cast", [tensor.name + PACKED], [tensor.name], to=tensor.data_type))
            tensor.CopyFrom(_as_type(tensor, np.float16, tensor.name + PACKED))
    nodes = [*casts, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def unpacked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The inverse of `packed`, except that the weights stay rounded; any other model is returned unchanged."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.endswith(PACKED)}
    if not stored:
        return model
    result = _copy(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(node for node in model.graph.node if stored.keys().isdisjoint(node.input))
    for tensor in model.graph.initializer:
        if tensor.name in stored:
            tensor = _as_type(tensor, np.float32, tensor.name.removesuffix(PACKED))
        result.graph.initializer.append(tensor)
    return result


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def _as_type(tensor: onnx.TensorProto, dtype: type[np.floating], name: str) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        values = onnx.numpy_helper.to_array(tensor).astype(dtype)
    if not np.isfinite(values).all():
        raise PrecisionError(f"{tensor.name} has values that {values.dtype} cannot hold")
    return onnx.numpy_helper.from_array(values, name)


def precision_of(model: onnx.ModelProto) -> str:
    """The precision of a graph's products: fp32, fp16, bf16 or int8. A few products may have a wider type."""
    if any(node.op_type in QUANTIZERS for node in model.graph.node):
        return "int8"
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    used = {types.get(name) for node in model.graph.node if node.op_type in PRODUCTS for name in node.input}
    if onnx.TensorProto.FLOAT16 in used:
        return "fp16"
    return "bf16" if onnx.TensorProto.BFLOAT16 in used else "fp32"


def set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    """Set a metadata property of the file; an earlier value of this key is replaced."""
    kept = [entry for entry in model.metadata_props if entry.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=key, value=value)
