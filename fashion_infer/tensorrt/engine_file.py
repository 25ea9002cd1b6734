"""The file beside a TensorRT engine: what it was built from and for, checked before the engine itself is touched.

An engine (a plan) is native code for one GPU family and one TensorRT version. It stays as TensorRT wrote it, so that
trtexec and Triton load it too; what they do not need to know is in `<plan>.json`.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_infer.errors import EngineMismatchError, ModelError
from fashion_infer.model_file import ModelFile, read_model
from fashion_infer.model_spec import ModelSpec

VERSION = 1
PORTABLE = "portable"  # TensorRT for RTX compiles its engines for the GPU when they are loaded


@dataclass(frozen=True)
class Layer:
    """One layer of a built engine, as TensorRT's inspector gives it.

    Attributes:
        name: TensorRT's.
        kind: TensorRT's, such as `correlation` or `gemm`.
        inputs: types of the tensors it reads, without its weights.
        outputs: types of the tensors it writes.
        nodes: the ONNX nodes it computes.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class EngineFile:
    """What is known about an engine.

    Attributes:
        spec: of the model.
        plan_sha256: of the engine.
        onnx_sha256: of the ONNX file it was built from, before any change of precision.
        source: name of that file.
        flavour: "tensorrt" or "rtx".
        tensorrt: version that built it, and the only one that can load it.
        gpu: name of the GPU it was built on, "any" for rtx.
        compute_capability: "9.0" or "portable".
        precision: fp32, fp16, bf16 or int8.
        batch: smallest, best and greatest batch.
        activation_bytes: GPU memory that one session takes for activations; 0 where TensorRT did not say.
        layers: of the engine, in order.
        version: of this layout.
    """

    spec: ModelSpec
    plan_sha256: str
    onnx_sha256: str
    source: str
    flavour: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    batch: tuple[int, int, int]
    activation_bytes: int
    layers: tuple[Layer, ...]
    version: int = VERSION

    @property
    def rebuild_command(self) -> str:
        """The command that builds the engine again."""
        batch = ":".join(map(str, self.batch))
        return (
            f"fashion-infer export {self.source} --engine --flavour {self.flavour} "
            f"--precision {self.precision} --batch {batch}"
        )

    @property
    def pooling_layers(self) -> int:
        """How many of its layers compute a part of LandmarkPool."""
        return sum(any("LandmarkPool" in node for node in layer.nodes) for layer in self.layers)

    def to_json(self) -> str:
        """JSON that `from_json` reads back, for people to read too."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "EngineFile":
        """Read what `to_json` wrote.

        Raises:
            ModelError: not JSON, another version, or fields that are missing, unknown or of the wrong type.
        """
        try:
            fields = json.loads(text)
            if (version := fields.get("version")) != VERSION:
                raise ModelError(f"it has version {version!r}, this release of fashion-infer reads {VERSION}")
            fields["spec"] = ModelSpec.from_json(json.dumps(fields["spec"]))
            fields["layers"] = tuple(_layer(layer) for layer in fields["layers"])
            fields["batch"] = tuple(fields["batch"])
            result = cls(**fields)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise ModelError(f"it is not one of ours: {error!r}") from error
        _check_types(result)
        return result


def side_file(plan: Path) -> Path:
    """The path of the JSON beside a plan."""
    return plan.with_name(plan.name + ".json")


def read_engine(model: Path | ModelFile) -> tuple[bytes, EngineFile]:
    """Read an engine and what is known about it, and check that they belong together.

    Raises:
        EngineMismatchError: there is no such description, or the plan is not the one it describes.
    """
    file = read_model(model)
    plan = file.path
    path = side_file(plan)
    build = "build the engine again: fashion-infer export MODEL.onnx --engine"
    try:
        engine_file = EngineFile.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineMismatchError(f"{path} is missing, without it nothing is known about {plan}: {build}") from error
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise EngineMismatchError(f"{path} cannot be read, {error}: {build}") from error
    if file.sha256 != engine_file.plan_sha256:
        raise EngineMismatchError(
            f"{plan} has sha256 {file.sha256}, its description says {engine_file.plan_sha256}: it is truncated, was "
            f"changed or is another file; run {engine_file.rebuild_command}"
        )
    return plan.read_bytes(), engine_file


def check_fingerprint(
    plan: Path,
    engine_file: EngineFile,
    *,
    tensorrt: str | None = None,
    compute_capability: tuple[int, int] | None = None,
    onnx_sha256: str | None = None,
) -> None:
    """Compare what an engine was built for with what is found here; None leaves a part out.

    Raises:
        EngineMismatchError: the TensorRT version, the GPU's compute capability or the ONNX file differ.
    """
    mismatch = None
    if tensorrt is not None and tensorrt != engine_file.tensorrt:
        mismatch = f"was built by TensorRT {engine_file.tensorrt} ({engine_file.flavour}), here is {tensorrt}"
    elif compute_capability is not None and not _fits(engine_file.compute_capability, compute_capability):
        here = "{}.{}".format(*compute_capability)
        mismatch = f"was built for compute capability {engine_file.compute_capability}, this GPU has {here}"
    elif onnx_sha256 is not None and onnx_sha256 != engine_file.onnx_sha256:
        mismatch = f"was built from an ONNX file with sha256 {engine_file.onnx_sha256}, this one has {onnx_sha256}"
    if mismatch is not None:
        raise EngineMismatchError(f"{plan} {mismatch}: run {engine_file.rebuild_command}")


def _fits(built: str, found: tuple[int, int]) -> bool:
    if built == PORTABLE:
        return True
    return found == tuple(int(part) for part in built.split("."))


def _layer(fields: dict[str, Any]) -> Layer:
    lists: dict[str, Any] = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Layer(**fields | lists)


def _check_types(engine_file: EngineFile) -> None:
    """A JSON file is edited easily: every value must have the type of its field."""
    for field in dataclasses.fields(EngineFile):
        value = getattr(engine_file, field.name)
        if field.type in (str, int) and type(value) is not field.type:
            raise ModelError(f"it is not one of ours: {field.name} is {value!r}")
    if len(engine_file.batch) != 3 or not all(type(size) is int for size in engine_file.batch):
        raise ModelError(f"it is not one of ours: batch is {engine_file.batch!r}")
    if engine_file.compute_capability != PORTABLE:
        major, _, minor = engine_file.compute_capability.partition(".")
        if not (major.isdigit() and minor.isdigit()):
            raise ModelError(f"it is not one of ours: compute_capability is {engine_file.compute_capability!r}")
