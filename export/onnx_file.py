"""ONNX files of ours: read with their ModelSpec, and what precision they compute in. Needs onnx, never torch."""

from pathlib import Path

from fashion_infer.errors import ModelError, ModelNotFoundError, missing_extra
from fashion_infer.model_spec import METADATA_KEY, ModelSpec

try:
    import onnx
    from google.protobuf.message import DecodeError
except ImportError as error:
    raise missing_extra(error.name or "onnx", "export") from error

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # nearly all of a network's work
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def load_onnx(path: Path) -> tuple[onnx.ModelProto, ModelSpec]:
    """Read a file that `fashion-infer export` wrote.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: not an ONNX file, damaged, or not one of ours.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"there is no file {path}")
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not an ONNX file, or is damaged: {error}") from error
    text = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{path} is an ONNX file, but not one that fashion-infer export wrote (no {METADATA_KEY})")
    return model, ModelSpec.from_json(text)


def precision_of(model: onnx.ModelProto) -> str:
    """fp32, fp16, bf16 or int8: what the products of a graph are typed to, save those that were left wider."""
    if any(node.op_type in QUANTIZERS for node in model.graph.node):
        return "int8"
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    used = {types.get(name) for node in model.graph.node if node.op_type in PRODUCTS for name in node.input}
    if onnx.TensorProto.FLOAT16 in used:
        return "fp16"
    return "bf16" if onnx.TensorProto.BFLOAT16 in used else "fp32"
