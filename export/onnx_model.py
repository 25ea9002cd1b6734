"""Export a checkpoint to one self-describing ONNX file, and check its outputs against the network."""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.embedding_space import hash_of_embedding
from fashion_infer.errors import ModelError, missing_extra
from fashion_infer.evaluation.parity import ParityReport, check_parity, read_pictures
from fashion_infer.export.landmark_pool import DOMAIN, NAME, OPSET, VERSION, add_landmark_pool
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, PARITY_KEY, ModelSpec

try:
    import onnx
    import onnxscript
    import torch
except ImportError as error:
    raise missing_extra(error.name or "torch", "export", error) from error

from fashion_infer.training.checkpoint import ARCHITECTURE_KEY, load_checkpoint
from fashion_infer.training.model import Deployed

IR_VERSION = 10  # together with opset 20 readable by ONNX Runtime 1.17 and TensorRT 10
MAX_BYTES = 2**31 - 1  # a protobuf message cannot be larger


def export_onnx(checkpoint: Path, output: Path, photos: Path | None = None) -> ParityReport:
    """Export a checkpoint and check the parity of the file; if anything fails, no file is written.

    Args:
        checkpoint: A .safetensors file of `fashion-infer train`.
        output: The .onnx file to write.
        photos: A folder of pictures on which to compare ONNX Runtime and torch; rendered garments when None.

    Returns:
        The largest difference of each output.

    Raises:
        ModelNotFoundError, ModelError: The checkpoint is missing, damaged, or too large for one ONNX file.
        ImageError: A picture to compare on cannot be read.
        ParityError: The outputs of the file differ too much from those of the network.
    """
    network, spec = load_checkpoint(checkpoint)
    deployed = Deployed(network, spec.temperature).eval()
    _check_size(sum(t.numel() * t.element_size() for t in network.state_dict().values()))
    images = read_pictures(photos, spec.image_size)
    model = to_onnx(deployed, spec)
    with torch.inference_mode():
        expected = [deployed(torch.from_numpy(batch)) for batch in np.array_split(images, range(8, len(images), 8))]
    reference = {name: torch.cat([row[i] for row in expected]).numpy() for i, name in enumerate(OUTPUT_NAMES)}
    report: ParityReport | None = None

    def write(temporary: Path) -> None:
        nonlocal report
        onnx.save_model(model, temporary)
        report = check_parity(temporary, images, reference)
        model.metadata_props.add(key=PARITY_KEY, value=report.to_json())
        onnx.save_model(model, temporary)

    write_atomically(output, write)
    assert report is not None
    return report


def to_onnx(deployed: Deployed, spec: ModelSpec) -> onnx.ModelProto:
    """Convert a network to an ONNX model for any batch size, with LandmarkPool as a model-local function."""
    example = torch.zeros(2, spec.image_size, spec.image_size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, which users can do nothing about
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            opset_version=OPSET,
            custom_translation_table={torch.ops.fashion_infer.landmark_pool.default: _landmark_pool_operator()},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.functions[:]
    add_landmark_pool(model)
    _strip_traces(model.graph)
    model.ir_version = IR_VERSION
    model.producer_name = "fashion-infer"
    # A checkpoint that shares the embedding space of the model it started from names that space itself.
    space = spec.embedding_sha256 or hash_of_embedding(model.graph)
    spec = dataclasses.replace(spec, embedding_sha256=space, embedding_cosine=None)
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    architecture = json.dumps(dataclasses.asdict(deployed.model.arch))
    model.metadata_props.add(key=ARCHITECTURE_KEY, value=architecture)  # so that training can start from this file
    onnx.checker.check_model(model, full_check=True)
    return model


def _landmark_pool_operator() -> Callable[..., Any]:
    """Return a translation of the torch operator; its schema tells the exporter inputs from attributes."""
    formal = onnx.defs.OpSchema.FormalParameter
    attribute = onnx.defs.OpSchema.Attribute
    floats = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)"]
    schema = onnx.defs.OpSchema(
        NAME,
        DOMAIN,
        VERSION,
        inputs=[formal("X", "T"), formal("L", "T1"), formal("V", "T2")],
        outputs=[formal("Y", "T")],
        type_constraints=[(name, floats, "") for name in ("T", "T1", "T2")],
        attributes=[attribute(name, onnx.defs.OpSchema.AttrType.INT) for name in ("pooled_size", "bin_size")],
    )
    operator = onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, VERSION), NAME, op_schema=schema)

    def translate(features: Any, landmarks: Any, gate: Any, pooled_size: int = 4, bin_size: int = 2) -> Any:
        return operator(features, landmarks, gate, pooled_size=pooled_size, bin_size=bin_size)

    return translate


def _strip_traces(graph: onnx.GraphProto) -> None:
    """Drop the metadata that torch adds to each node: it names source files of the exporting machine."""
    for entry in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del entry.metadata_props[:]
    del graph.metadata_props[:]


def _check_size(weight_bytes: int) -> None:
    if weight_bytes > MAX_BYTES - 2**20:  # 1 MiB is left for the graph
        raise ModelError(
            f"the weights take {weight_bytes / 2**30:.2f} GiB and one ONNX file holds 2: "
            "train with a smaller --width, or a smaller pooled size"
        )
