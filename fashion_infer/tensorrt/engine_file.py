"""The description beside a TensorRT engine: what the engine was built from and for, checked before it is loaded.

An engine (a plan) is native code for one GPU family and one TensorRT version. The plan stays as TensorRT wrote it, so
that trtexec and Triton can load it too. The description is the file `<plan>.json`.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_infer.errors import EngineMismatchError, ModelError, UsageError
from fashion_infer.model_file import ModelFile, read_model
from fashion_infer.model_spec import ModelSpec

VERSION = 2
Profile = tuple[int, int, int]  # the smallest, the best and the greatest batch size
PORTABLE = "portable"  # runs on any GPU: TensorRT for RTX compiles kernels when it loads an engine


@dataclass(frozen=True)
class EngineFile:
    """The description of an engine.

    Attributes:
        spec: the model's specification.
        plan_sha256: SHA-256 of the plan.
        onnx_sha256: SHA-256 of the ONNX file from which it was built, before any change of precision.
        source: name of the ONNX file.
        flavour: "tensorrt" or "rtx".
        tensorrt: version of TensorRT that built the engine; no other version can load it.
        gpu: name of the GPU on which the engine was built; "any" for rtx.
        compute_capability: compute capability of the GPU, such as "9.0", or "portable".
        precision: "fp32", "fp16", "bf16" or "int8".
        profiles: the ranges of batch sizes that the engine has kernels for, smallest first; TensorRT chose the kernels
            that are fastest for the best size of each range.
        activation_bytes: GPU memory in bytes that one session needs for activations; 0 if TensorRT did not say. It
            informs people only: a session asks the engine itself.
        products: {name of the ONNX node: type} for each convolution and matrix product.
        version: version of this file's layout.
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
    profiles: tuple[Profile, ...]
    activation_bytes: int
    products: dict[str, str]
    version: int = VERSION

    @property
    def rebuild_command(self) -> str:
        """The command that builds the engine again."""
        return (
            f"fashion-infer export {self.source} --engine --flavour {self.flavour} "
            f"--precision {self.precision} --batch {batch_text(self.profiles)}"
        )

    def to_json(self) -> str:
        """Write the description as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "EngineFile":
        """Read the JSON that `to_json` wrote.

        Raises:
            ModelError: the text is not JSON, has another version, or has fields that are missing, unknown or of the
                wrong type.
        """
        try:
            fields = json.loads(text)
            if (version := fields.get("version")) != VERSION:
                raise ModelError(f"it has version {version!r}, this release of fashion-infer reads {VERSION}")
            fields["spec"] = ModelSpec.from_json(json.dumps(fields["spec"]))
            fields["profiles"] = check_profiles(tuple(tuple(profile) for profile in fields["profiles"]))
            result = cls(**fields)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, UsageError) as error:
            raise ModelError(f"it is not one of ours: {error!r}") from error
        _check_types(result)
        return result


def profiles_for(max_batch: int) -> tuple[Profile, ...]:
    """The profiles that suit batches of 1 to `max_batch` images.

    The first profile covers the small batches of a lightly loaded program and is tuned for a single image; the second
    covers larger batches and is tuned for full ones. A single profile has only one best size: with 1:8:64, a batch of
    64 would run on kernels that were chosen for 8.
    """
    few = min(4, max_batch)
    return ((1, 1, few),) if few == max_batch else ((1, 1, few), (few + 1, max_batch, max_batch))


def check_profiles(profiles: tuple[Any, ...]) -> tuple[Profile, ...]:
    """Check that there is at least one profile and that each is a range, and return them sorted.

    Raises:
        UsageError: there is no profile, or one is not a range; the message shows how a range is written.
    """
    for profile in profiles:
        numbers = len(profile) == 3 and all(type(size) is int for size in profile)
        if not (numbers and 1 <= profile[0] <= profile[1] <= profile[2]):
            text = ":".join(map(str, profile))
            raise UsageError(f"batch {text} is no range: it is smallest:best:greatest, such as 1:8:64")
    if not profiles:
        raise UsageError("an engine needs at least one range of batches, such as 1:8:64")
    return tuple(sorted(profiles))


def batch_text(profiles: tuple[Profile, ...]) -> str:
    """Write profiles in the form of the command line, such as 1:1:4,5:32:32."""
    return ",".join(":".join(map(str, profile)) for profile in profiles)


def side_file(plan: Path) -> Path:
    """The path of the JSON beside a plan."""
    return plan.with_name(plan.name + ".json")


def read_engine(model: Path | ModelFile) -> tuple[bytes, EngineFile]:
    """Read an engine and its description, and check that they belong together.

    Raises:
        EngineMismatchError: the description is missing or unreadable, or it describes another plan.
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
    """Compare what an engine was built for with what is there; a value of None is not compared.

    Args:
        plan: path of the engine, for the message.
        engine_file: description of the engine.
        tensorrt: version of the installed TensorRT.
        compute_capability: compute capability of the GPU.
        onnx_sha256: SHA-256 of the ONNX file.

    Raises:
        EngineMismatchError: the TensorRT version, the GPU's compute capability or the ONNX file differs.
    """
    mismatch = None
    if tensorrt is not None and tensorrt != engine_file.tensorrt:
        mismatch = f"was built by TensorRT {engine_file.tensorrt} ({engine_file.flavour}), but {tensorrt} is installed"
    elif compute_capability is not None and not _fits(engine_file.compute_capability, compute_capability):
        capability = "{}.{}".format(*compute_capability)
        mismatch = f"was built for compute capability {engine_file.compute_capability}, this GPU has {capability}"
    elif onnx_sha256 is not None and onnx_sha256 != engine_file.onnx_sha256:
        mismatch = f"was built from an ONNX file with sha256 {engine_file.onnx_sha256}, this one has {onnx_sha256}"
    if mismatch is not None:
        raise EngineMismatchError(f"{plan} {mismatch}: run {engine_file.rebuild_command}")


def _fits(built_for: str, compute_capability: tuple[int, int]) -> bool:
    if built_for == PORTABLE:
        return True
    return compute_capability == tuple(int(part) for part in built_for.split("."))


def _check_types(engine_file: EngineFile) -> None:
    """Check that every value has the type of its field, since people can edit a JSON file by hand."""
    for field in dataclasses.fields(EngineFile):
        value = getattr(engine_file, field.name)
        if field.type in (str, int) and type(value) is not field.type:
            raise ModelError(f"it is not one of ours: {field.name} is {value!r}")
    if type(engine_file.products) is not dict:
        raise ModelError(f"it is not one of ours: products is {engine_file.products!r}")
    if engine_file.compute_capability != PORTABLE:
        major, _, minor = engine_file.compute_capability.partition(".")
        if not (major.isdigit() and minor.isdigit()):
            raise ModelError(f"it is not one of ours: compute_capability is {engine_file.compute_capability!r}")
