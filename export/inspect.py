"""Describe a model file: its spec, operators, sizes and hashes. Reads .onnx, .plan and checkpoints, runs nothing."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from fashion_infer.errors import ModelError, ModelNotFoundError, missing_extra
from fashion_infer.files import sha256_of
from fashion_infer.model_spec import METADATA_KEY, PARITY_KEY, ModelSpec
from fashion_infer.onnx_file import load_onnx, precision_of
from fashion_infer.tensorrt.engine_file import read_engine

try:
    import onnx
    from safetensors import SafetensorError, safe_open
except ImportError as error:
    raise missing_extra(error.name or "onnx", "export", error) from error


def inspect_file(path: Path) -> dict[str, Any]:
    """Describe a model file in plain values, ready for JSON.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: The file was not written by fashion-infer, or is damaged.
        EngineMismatchError: A plan has no description, or its description belongs to another plan.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"there is no model file {path}")
    facts = {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    kinds = {".onnx": _inspect_onnx, ".plan": _inspect_engine}
    return facts | kinds.get(path.suffix, _inspect_checkpoint)(path)


def _inspect_onnx(path: Path) -> dict[str, Any]:
    model, spec = load_onnx(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return {
        "kind": "ONNX model",
        "ir_version": model.ir_version,
        "opset": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "precision": precision_of(model),
        "nodes": len(model.graph.node),
        "functions": [f"{function.domain}.{function.name}" for function in model.functions],
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {value.name: _shape(value) for value in model.graph.output},
        "parity": json.loads(metadata.get(PARITY_KEY, "null")),
        "spec": dataclasses.asdict(spec),
    }


def _inspect_engine(path: Path) -> dict[str, Any]:
    _, engine_file = read_engine(path)
    return {"kind": "TensorRT engine", **dataclasses.asdict(engine_file)}


def _inspect_checkpoint(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            parameters = sum(math.prod(tensor.get_shape()) for tensor in tensors.values())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is neither an .onnx file nor a safetensors checkpoint: {error}") from error
    if METADATA_KEY not in metadata:
        raise ModelError(f"{path} holds weights, but not a checkpoint of fashion-infer train (no {METADATA_KEY})")
    return {
        "kind": "checkpoint",
        "tensors": len(tensors),
        "values": parameters,
        "spec": dataclasses.asdict(ModelSpec.from_json(metadata[METADATA_KEY])),
    }


def _shape(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{dims}]"
