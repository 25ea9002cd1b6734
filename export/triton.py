"""Write a model repository for NVIDIA's Triton Inference Server: the ONNX file, and engines built from it.

    DIR/fashionnet/config.pbtxt            DIR/fashionnet-tensorrt/config.pbtxt
    DIR/fashionnet/category.txt            DIR/fashionnet-tensorrt/category.txt
    DIR/fashionnet/attributes.txt          DIR/fashionnet-tensorrt/attributes.txt
    DIR/fashionnet/1/model.onnx            DIR/fashionnet-tensorrt/1/model.plan

The fields of config.pbtxt are those of Triton's model_config.proto.
"""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from fashion_infer.errors import UsageError, missing_extra
from fashion_infer.files import sha256_of, write_atomically
from fashion_infer.model_file import check_shapes
from fashion_infer.model_spec import INPUT_NAME, ModelSpec
from fashion_infer.onnx_file import load_onnx, precision_of
from fashion_infer.tensorrt.engine_file import EngineFile, read_engine, side_file

try:
    import onnx
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error

MAX_BATCH = 32  # largest batch that Triton gives to the ONNX file, which itself accepts any size
QUEUE = 1024  # most requests that wait
WAIT_MS, DELAY_MS = 100, 2  # longest wait before a request is refused, and longest wait for a fuller batch
LABELLED = ("category", "attributes")
VERSION = "1"


def write_repository(onnx_file: Path, folder: Path, plans: Sequence[Path] = ()) -> list[Path]:
    """Write a model repository; models with other names in the folder are not touched.

    Args:
        onnx_file: An .onnx file of fashion-infer, in any precision.
        folder: The folder of the repository; it is created if necessary.
        plans: TensorRT engines to serve as well, each as a separate model.

    Returns:
        The folders of the models; the first is the ONNX file's.

    Raises:
        ModelError: The file is not an ONNX file of fashion-infer.
        EngineMismatchError: A plan is not what its description says.
        UsageError: A plan was built with TensorRT for RTX, which Triton does not run.
        OutputError: A file cannot be written.
    """
    model, spec = load_onnx(onnx_file)
    _check_graph(onnx_file, model, spec)
    engines = [(plan, read_engine(plan)[1]) for plan in plans]
    for plan, engine in engines:
        if engine.flavour != "tensorrt":
            raise UsageError(f"{plan} is of TensorRT for RTX, and Triton runs TensorRT's own engines only")
    name = model_name(onnx_file)
    # An int8 ONNX file is for CPUs; on a GPU an int8 engine does that work.
    device = "KIND_CPU" if precision_of(model) == "int8" else "KIND_AUTO"
    group = f"instance_group [ {{ count: 1 kind: {device} }} ]"
    config = _config(name, "onnxruntime", spec, MAX_BATCH, group)
    written = [_write_model(folder / name, config, onnx_file, "model.onnx", spec)]
    for number, (plan, engine) in enumerate(engines):
        engine_name = f"{name}-tensorrt" + (f"-{number + 1}" if number else "")
        config = _engine_config(engine_name, engine)
        written.append(_write_model(folder / engine_name, config, plan, "model.plan", engine.spec))
    return written


def plans_beside(onnx_file: Path) -> list[Path]:
    """Return the engines beside an ONNX file that, according to their descriptions, TensorRT built from it."""
    plans = []
    for plan in sorted(onnx_file.parent.glob("*.plan")):
        if side_file(plan).is_file():
            engine = read_engine(plan)[1]
            if engine.flavour == "tensorrt" and engine.onnx_sha256 == sha256_of(onnx_file):
                plans.append(plan)
    return plans


def model_name(path: Path) -> str:
    """Return the model's name in Triton: the file's name, other characters than A-Z a-z 0-9 . - _ replaced by _."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)


def _check_graph(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Check that the graph has the shapes of the ModelSpec, from which the configuration is written."""
    values = [*model.graph.input, *model.graph.output]
    shapes = {
        value.name: tuple(dim.dim_value for dim in list(value.type.tensor_type.shape.dim)[1:]) for value in values
    }
    check_shapes(path, spec, shapes)


def _write_model(folder: Path, config: str, file: Path, name: str, spec: ModelSpec) -> Path:
    """Write one model; its configuration comes last, since a running server may be watching the folder."""
    write_atomically(folder / VERSION / name, partial(shutil.copyfile, file))
    for output in LABELLED:
        names = spec.categories if output == "category" else spec.attributes
        _write_text(folder / f"{output}.txt", "".join(f"{label}\n" for label in names))
    _write_text(folder / "config.pbtxt", config)
    return folder


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _engine_config(name: str, engine: EngineFile) -> str:
    """Return the configuration of an engine; the instance group must list all its optimisation profiles."""
    profiles = ", ".join(f'"{number}"' for number in range(len(engine.profiles)))
    group = f"instance_group [ {{ count: 1 kind: KIND_GPU profile: [ {profiles} ] }} ]"
    comment = f"# {engine.precision}, TensorRT {engine.tensorrt}, compute capability {engine.compute_capability}: "
    config = _config(
        name,
        "tensorrt",
        engine.spec,
        max(greatest for _, _, greatest in engine.profiles),
        group,
        sorted({best for _, best, _ in engine.profiles}),
    )
    return f"{comment}the server must have the same TensorRT and compute capability\n{config}"


def _config(name: str, backend: str, spec: ModelSpec, max_batch: int, group: str, preferred: Sequence[int] = ()) -> str:
    size = [spec.image_size, spec.image_size, 3]
    outputs = ",\n".join(_output(output, shape) for output, shape in spec.output_shapes().items())
    warm_up = ",\n".join(_warm_up(batch, size) for batch in sorted({1, max_batch}))
    preference = f"\n  preferred_batch_size: {_list(preferred)}" if preferred else ""
    return f"""name: {json.dumps(name)}
backend: "{backend}"
max_batch_size: {max_batch}
input [
  {{ name: "{INPUT_NAME}" data_type: TYPE_UINT8 dims: {_list(size)} }}
]
output [
{outputs}
]
{group}
dynamic_batching {{{preference}
  max_queue_delay_microseconds: {DELAY_MS * 1000}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {WAIT_MS * 1000}
    allow_timeout_override: true
    max_queue_size: {QUEUE}
  }}
}}
model_warmup [
{warm_up}
]
"""


def _output(name: str, shape: Iterable[int]) -> str:
    labels = f' label_filename: "{name}.txt"' if name in LABELLED else ""
    return f'  {{ name: "{name}" data_type: TYPE_FP32 dims: {_list(shape)}{labels} }}'


def _warm_up(batch: int, size: Iterable[int]) -> str:
    data = f"data_type: TYPE_UINT8 dims: {_list(size)} zero_data: true"
    return f"""  {{
    name: "batch of {batch}"
    batch_size: {batch}
    inputs {{ key: "{INPUT_NAME}" value {{ {data} }} }}
  }}"""


def _list(numbers: Iterable[int]) -> str:
    return "[ " + ", ".join(map(str, numbers)) + " ]"
